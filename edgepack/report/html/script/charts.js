// What is drawn again when the limits change: the front of the plots, and bars and curves of the rows that are left.

const MOST_BARS = 16, MOST_CURVES = 8, DASHES = ["", "7 3", "2 3", "9 3 2 3", "4 4", "12 4", "2 6", "6 2 2 2"];
const SVG = document.querySelector("svg")?.namespaceURI;

const drawn = (name, attributes) => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

// Of the points that are left: what no other beats in both, from left to right and upwards.
const showFronts = (section, kept) => {
  for (const line of section.querySelectorAll("svg .front")) {
    const points = [...line.ownerSVGElement.querySelectorAll("g.point")].filter((p) => kept[p.dataset.entry])
      .map((p) => p.dataset.at.split(" ").map(Number)).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    let highest = Infinity, path = "";
    for (const [x, y] of points) {
      if (y >= highest) continue;
      path += path ? `H${x}V${y}` : `M${x} ${y}`;
      highest = y;
    }
    line.setAttribute("d", path || "M0 0");
  }
};

const fastestOf = (data, kept, has, most) => data.entries.map((entry, i) => i).filter((i) => kept[i] && has(data.entries[i]))
  .sort((a, b) => (data.entries[a].latency?.[0] ?? Infinity) - (data.entries[b].latency?.[0] ?? Infinity) || a - b)
  .slice(0, most);

const precisionOf = (section, index) => rowOf(section, index).dataset.precision;

// Charts of more rows than they can hold show the fastest of those that are left.
const showBars = (section, data, kept) => {
  for (const chart of section.querySelectorAll("ul.bars[data-key]")) {
    const key = chart.dataset.key, model = chart.firstElementChild;
    const shown = fastestOf(data, kept, (entry) => entry[key], MOST_BARS);
    if (!shown.length) continue;
    const longest = Math.max(...shown.map((i) => Math.max(...data.entries[i][key])));
    chart.replaceChildren(...shown.map((i) => {
      const bar = model.cloneNode(true), [value, low, high] = data.entries[i][key];
      const percent = (v) => `${(100 * v / longest).toFixed(2)}%`;
      bar.dataset.entry = i;
      bar.classList.remove("out");
      bar.querySelector(".name").textContent = data.entries[i].name;
      bar.querySelector(".value").textContent = figureOf(section, key, i)?.[0] ?? "";
      const fill = bar.querySelector(".fill"), base = bar.querySelector(".base");
      fill.className = `fill ${precisionOf(section, i)}`;
      fill.style.width = percent(value);
      if (base) base.style.left = percent(1);
      bar.querySelector(".whisker")?.remove();
      if (low !== undefined && low !== high) {
        const whisker = element("span", "", "whisker");
        Object.assign(whisker.style, { left: percent(low), width: percent(high - low) });
        bar.querySelector(".track").append(whisker);
      }
      return bar;
    }));
    const all = data.entries.filter((entry, i) => kept[i] && entry[key]).length;
    const note = chart.parentElement.querySelector(".footnotes");
    note.textContent = all > shown.length ? `The ${shown.length} fastest; ${all - shown.length} more are in the table.` : "";
  }
};

// --- distributions of latency -----------------------------------------------------------------------------------------

const unpacked = (text) => {
  let sum = 0;
  return text.split(" ").map((step) => (sum += Number(step)) / 1000);
};

// Round values within an axis of logarithms: the coarsest set of which at least three lie inside.
const ticksOf = (low, high) => {
  for (const steps of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9]]) {
    const found = [];
    for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p += 1) {
      for (const m of steps) {
        const tick = Number((m * 10 ** p).toPrecision(3));
        if (tick >= low && tick <= high) found.push(tick);
      }
    }
    if (found.length >= 3) return found.filter((_, i) => i % Math.ceil(found.length / 8) === 0);
  }
  return [Number(low.toPrecision(3)), Number(high.toPrecision(3))];
};

const showCurves = (section, data, kept) => {
  const figure = section.querySelector("figure.curves"), factor = Number(figure?.dataset.factor);
  const shown = figure ? fastestOf(data, kept, (entry) => entry.curve, MOST_CURVES) : [];
  if (!shown.length) return;
  const plot = figure.querySelector("svg"), legend = figure.querySelector(".legend");
  const [x1, x2, y1, y2] = figure.dataset.area.split(" ").map(Number);
  const curves = shown.map((i) => unpacked(data.entries[i].curve));
  const low = Math.min(...curves.map((c) => c[0])) - 0.05, high = Math.max(...curves.map((c) => c.at(-1))) + 0.05;
  const place = (v) => x1 + (v - low) / (high - low) * (x2 - x1);
  plot.querySelectorAll(".curve, .x").forEach((old) => old.remove());
  for (const tick of ticksOf(Math.exp(low) / factor, Math.exp(high) / factor)) {
    const at = place(Math.log(tick * factor)).toFixed(1);
    const text = drawn("text", { class: "tick x", x: at, y: y2 + 19, "text-anchor": "middle" });
    text.textContent = String(tick);
    plot.append(drawn("path", { class: "axis x", d: `M${at} ${y2}V${y2 + 5}` }), text);
  }
  const used = {};
  legend.replaceChildren(...shown.map((i, k) => {
    const precision = precisionOf(section, i);
    used[precision] = (used[precision] ?? -1) + 1;
    const dash = DASHES[used[precision] % DASHES.length], last = curves[k].length - 1;
    const path = curves[k].map((v, q) => `${q ? "L" : "M"}${place(v).toFixed(1)} ${(y2 - q / last * (y2 - y1)).toFixed(1)}`);
    const group = drawn("g", { class: `curve ${precision}`, "data-entry": i }), title = drawn("title", {});
    title.textContent = data.entries[i].name;
    group.append(title, drawn("path", { class: "line", d: path.join(""), "stroke-dasharray": dash || "none" }));
    plot.append(group);
    const name = element("span", ` ${data.entries[i].name}`);
    const swatch = drawn("svg", { class: `swatch long curve ${precision}`, viewBox: "0 0 28 16", "aria-hidden": "true" });
    swatch.append(drawn("path", { class: "line", d: "M0 8L28 8", "stroke-dasharray": dash || "none" }));
    name.prepend(swatch);
    name.dataset.entry = i;
    return name;
  }));
};
