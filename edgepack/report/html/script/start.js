// Puts the parts together: one section a model.

const sections = [...document.querySelectorAll("section.model")].map((section) => {
  const data = JSON.parse(section.querySelector("script.data").textContent);
  data.least = new Set(data.least);
  for (const entry of data.entries) entry.find = `${entry.name.toLowerCase()} ${entry.find}`;
  return { section, data, form: section.querySelector("form.limits") };
});
const forms = sections.map(({ form }) => form).filter(Boolean);

const apply = ({ section, data, form }) => {
  const limits = limitsOf(form), { undisturbed, hide, prefer, find } = form.elements;
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  const key = prefer?.value ?? "latency";
  const keeping = (some) => data.entries.map((entry) => keeps(entry, some, data.least, undisturbed.checked, words));
  const kept = keeping(limits), any = keeping(limits.filter(([name]) => name !== "quality"));
  const best = chooseBest(data.entries, kept, key, data.least);
  showBars(section, data, kept);
  showCurves(section, data, kept);
  showFronts(section, kept);
  for (const part of section.querySelectorAll("[data-entry]")) {
    const index = Number(part.dataset.entry);
    part.classList.toggle("out", !kept[index] && !data.entries[index].failed);
    if (part.tagName === "TR") part.classList.toggle("chosen", index === best);
  }
  section.classList.toggle("hiding", hide.checked);
  form.querySelector("output").textContent = `${leftOf(data, kept)} of ${builtOf(data)} rows keep them`;
  showAnswer(section, data, kept, best, key);
  if (showPreset(form)) showExcluded(section, data, chooseBest(data.entries, any, key, data.least), best);
  showInOverview(section, data, kept, best);
  showLayers(section, best);
};

// The preset that the field of quality holds, or "your own"; nothing where the page has none.
const showPreset = (form) => {
  const select = form.querySelector("select.preset");
  if (!select) return false;
  const value = form.elements.quality.value.trim().replace(",", ".");
  select.value = [...select.options].some((option) => option.value === value) ? value : "own";
  return true;
};

const limitQuality = (form, value) => {
  form.elements.quality.value = value;
  form.elements.quality.dispatchEvent(new Event("input", { bubbles: true }));
};

// The layers of the row that is recommended, until the reader asks for others.
const showLayers = (section, best) => {
  const select = section.querySelector("select.layers");
  if (!select) return;
  const option = [...select.options].find((o) => Number(o.value) === best);
  if (option && !select.dataset.asked) select.value = option.value;
  for (const panel of section.querySelectorAll(".panel")) panel.hidden = panel.dataset.panel !== select.value;
};

const wire = (one) => {
  const { section, form } = one;
  addSorter(section);
  for (const button of section.querySelectorAll("table.rows thead button")) {
    button.addEventListener("click", () => sortBy(section, button.closest("th")));
  }
  const select = section.querySelector("select.layers");
  select?.addEventListener("change", () => { select.dataset.asked = "yes"; showLayers(section, -1); });
  if (!form) return;
  const changed = () => { apply(one); writeAddress(forms); };
  section.querySelector("button.anyway").addEventListener("click", () => limitQuality(form, ""));
  form.querySelector("select.preset")?.addEventListener("input", (event) => {
    event.stopPropagation();
    if (event.target.value !== "own") limitQuality(form, event.target.value);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    for (const [slider, input] of slidersOf(form)) {
      if (event.target === slider) fromSlider(slider, input);
      else if (event.target === input) toSlider(slider, input);
    }
    changed();
  });
  form.addEventListener("reset", () => setTimeout(() => {
    for (const [slider, input] of slidersOf(form)) toSlider(slider, input);
    changed();
  }));
  form.querySelector("button.everywhere")?.addEventListener("click", () => {
    for (const other of sections.filter(({ form: f }) => f && f !== form)) copyLimits(form, other.form), apply(other);
    writeAddress(forms);
  });
};

// The same limits for another model, in the units that its fields have.
const copyLimits = (from, to) => {
  for (const source of from.elements) {
    const target = source.name && source.type !== "range" && to.elements.namedItem(source.name);
    if (!target) continue;
    if (source.type === "checkbox") target.checked = source.checked;
    else if (source.dataset.factor) {
      const number = typedIn(source), factor = Number(source.dataset.factor) / Number(target.dataset.factor);
      target.value = number === null || Number.isNaN(number) ? source.value : String(Number((number * factor).toPrecision(12)));
    } else if (source.tagName !== "SELECT" || [...target.options].some((o) => o.value === source.value)) {
      target.value = source.value;
    }
  }
  for (const [slider, input] of slidersOf(to)) toSlider(slider, input);
};

// A link to a row's details opens them; paper has no links, so that there all are open where they are few.
const openTarget = () => {
  const target = location.hash.includes("=") ? null : document.getElementById(location.hash.slice(1));
  if (target?.tagName === "DETAILS") target.open = true;
};
let opened = [];
window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("section.few details:not([open])")];
  for (const part of opened) part.open = true;
});
window.addEventListener("afterprint", () => { for (const part of opened) part.open = false; });
window.addEventListener("hashchange", openTarget);

const copied = (button, text) => {
  const before = button.textContent;
  const done = () => { button.textContent = "copied"; setTimeout(() => { button.textContent = before; }, 1500); };
  navigator.clipboard?.writeText(text).then(done, () => undefined);
};
document.addEventListener("click", (event) => {
  if (event.target.matches?.("button.copy")) copied(event.target, event.target.parentElement.querySelector("code").textContent);
  if (event.target.matches?.("button.link")) copied(event.target, location.href);
});

readAddress(forms);
for (const form of forms) for (const [slider, input] of slidersOf(form)) toSlider(slider, input);
for (const one of sections) {
  wire(one);
  if (one.form) apply(one);
}
const narrow = matchMedia("(max-width: 760px)");
const nameTables = () => { if (narrow.matches) document.querySelectorAll("table").forEach(nameParts); };
narrow.addEventListener("change", nameTables);
nameTables();
wireKeys();
openTarget();
document.documentElement.dataset.ready = "yes";
