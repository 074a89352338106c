// Which row to take: the best by what the reader prefers, among those that keep the limits.

const MOST_NAMES = 6;

const element = (name, text, kind) => {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
};

// Less is better, but of agreement and SQNR more is.
const cost = (entry, key, least) => (entry[key] ? (least.has(key) ? -entry[key][0] : entry[key][0]) : Infinity);

// What is not faster than its fp32 is passed over where that keeps the limits too and speed is what is asked for.
const chooseBest = (entries, kept, key, least) => {
  const good = (i) => kept[i] && entries[i].good && entries[i][key];
  let best = -1;
  entries.forEach((entry, i) => {
    if (!good(i) || (key === "latency" && entry.instead !== undefined && good(entry.instead))) return;
    const other = entries[best];
    const gain = best < 0 ? -1 : cost(entry, key, least) - cost(other, key, least) || entry.latency[0] - other.latency[0];
    if (gain < 0) best = i;
  });
  return best;
};

// Those whose interval of the preferred quantity overlaps with that of the best, but for what differs from it when measured
// in turn.
const tiesOf = (entries, kept, best, key, least) => {
  const chosen = entries[best][key], more = least.has(key);
  const differs = (e, i) => key === "latency" && (e.differs === best || entries[best].differs === i);
  return entries.filter((e, i) => i !== best && kept[i] && e.good && e[key] && !differs(e, i) &&
    (more ? e[key][2] >= chosen[1] : e[key][1] <= chosen[2])).map((e) => e.name);
};

const listed = (names) => names.length <= MOST_NAMES ? names.join(", ")
  : `${names.slice(0, MOST_NAMES).join(", ")} and ${names.length - MOST_NAMES} more`;

// The limits in words, for paper, where there is no form.
const spelled = (form) => {
  const words = fieldsOf(form).filter((input) => input.value.trim() && !input.classList.contains("wrong")).map((input) => {
    const field = input.closest(".limit"), text = (kind) => field.querySelector(kind).textContent;
    return `${field.firstElementChild.textContent} ${text(".sign")} ${input.value.trim()} ${text(".unit")}`.trim();
  });
  if (form.elements.find.value.trim()) words.push(`rows with ${form.elements.find.value.trim()}`);
  if (form.elements.undisturbed.checked) words.push("only undisturbed measurements");
  return words.length ? `Limits: ${words.join("; ")}.` : "No limits.";
};

// What the limit on quality keeps from being taken, and what it would give.
const showExcluded = (section, data, free, best) => {
  const place = section.querySelector(".excluded"), preset = section.querySelector("select.preset");
  const text = place.querySelector("span"), button = place.querySelector("button");
  button.hidden = free < 0 || free === best;
  text.textContent = "";
  if (button.hidden) return;
  const what = preset.value === "own" ? "Your limit on quality" : `The preset \u201c${preset.selectedOptions[0].text}\u201d`;
  text.textContent = `${what} excludes ${data.entries[free].name}: ${data.entries[free].told}.`;
};

const showAnswer = (section, data, kept, best, key) => {
  const find = (kind) => section.querySelector(kind);
  const stats = find(".stats");
  stats.replaceChildren();
  find(".winner").classList.toggle("none", best < 0);
  find(".label").textContent = best < 0 ? "Which to take" : "Take";
  find(".winner").textContent = best < 0 ? data.nothing : data.entries[best].name;
  find(".among").textContent = "";
  find(".caveat").textContent = "";
  find(".under").textContent = spelled(section.querySelector("form.limits"));
  if (best < 0) return;
  for (const [title, value, detail] of figuresOf(section, best)) {
    const box = document.createElement("div");
    box.append(element("dt", title), element("dd", value));
    if (detail) box.append(element("dd", detail, "detail"));
    stats.append(box);
  }
  const [word, what] = data.words[key] ?? ["fastest", "latency"];
  const candidates = data.entries.filter((entry, i) => kept[i] && entry.good && entry[key]).length;
  find(".among").textContent = candidates === 1 ? "The only measured one that keeps your limits."
    : `The ${word} of ${candidates} measured ones that keep your limits.`;
  const ties = tiesOf(data.entries, kept, best, key, data.least);
  const words = ties.length ? [`Its ${what} cannot be distinguished from that of ${listed(ties)}.`] : [];
  if (data.entries[best].disturbed) words.push("Measured on a disturbed machine.");
  if (data.caveat) words.push(data.caveat);
  find(".caveat").textContent = words.join(" ");
};

// A figure of a row as it stands in the table: [value with unit, detail], or null where it was not measured.
const figureOf = (section, key, index) => {
  const heading = section.querySelector(`table.rows th[data-key="${key}"]`);
  const cell = heading && rowOf(section, index).cells[heading.cellIndex];
  if (!cell || cell.dataset.order === undefined) return null;
  return [`${cell.firstChild.textContent.trim()}${heading.dataset.sign}`, cell.querySelector("small")?.textContent ?? ""];
};

const rowOf = (section, index) => section.querySelector(`table.rows tr[data-entry="${index}"]`);

const figuresOf = (section, index) => [...section.querySelectorAll("th[data-headline]")]
  .sort((a, b) => Number(a.dataset.rank) - Number(b.dataset.rank))
  .map((heading) => [heading.dataset.headline, figureOf(section, heading.dataset.key, index)])
  .filter(([, figure]) => figure).map(([title, figure]) => [title, ...figure]).slice(0, Number(section.dataset.headlines));

const builtOf = (data) => data.entries.filter((entry) => !entry.failed).length;
const leftOf = (data, kept) => data.entries.filter((entry, i) => kept[i] && !entry.failed).length;

// The same in the line of the overview, where the page has several models.
const showInOverview = (section, data, kept, best) => {
  const line = document.querySelector(`.overview tr[data-model="${section.dataset.model}"]`);
  if (!line) return;
  line.querySelector(".take").textContent = best < 0 ? "none" : data.entries[best].name;
  line.querySelector(".kept").textContent = `${leftOf(data, kept)} of ${builtOf(data)}`;
  for (const cell of line.querySelectorAll("[data-figure]")) {
    const [value, detail] = (best < 0 ? null : figureOf(section, cell.dataset.figure, best)) ?? ["\u2013", ""];
    cell.replaceChildren(value, ...(detail ? [element("small", detail)] : []));
  }
};
