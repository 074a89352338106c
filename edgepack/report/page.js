"use strict";
(() => {
  // One model's section: filters its rows, points, bars and details by the limits, and names the best that is left.
  const wire = (section) => {
    const data = JSON.parse(section.querySelector("script.data").textContent);
    const parts = new Map();
    for (const part of section.querySelectorAll("[data-entry]")) {
      const list = parts.get(part.dataset.entry) || [];
      list.push(part);
      parts.set(part.dataset.entry, list);
    }
    const form = section.querySelector("form.limits");
    if (form) {
      form.addEventListener("submit", (event) => event.preventDefault());
      form.addEventListener("input", () => apply(section, data, parts, form));
      form.addEventListener("reset", () => setTimeout(() => apply(section, data, parts, form)));
      apply(section, data, parts, form);
    }
    for (const button of section.querySelectorAll("thead button")) button.addEventListener("click", () => sort(section, button));
  };

  const limitsOf = (form) => {
    const limits = [];
    for (const input of form.querySelectorAll("input[type=text]")) {
      const typed = input.value.trim().replace(",", ".");
      const number = Number(typed);
      const wrong = typed !== "" && !Number.isFinite(number);
      input.classList.toggle("wrong", wrong);
      input.setAttribute("aria-invalid", String(wrong));
      if (typed !== "" && !wrong) limits.push([input.name, number * Number(input.dataset.factor)]);
    }
    return limits;
  };

  // What was not measured keeps no limit on it; a millionth of slack undoes the rounding of units.
  const keeps = (entry, limits, least, undisturbed) => {
    if (undisturbed && entry.disturbed) return false;
    return limits.every(([key, limit]) => {
      const value = entry[key], slack = Math.abs(limit) * 1e-6;
      if (value === null || value === undefined) return false;
      return least.includes(key) ? value >= limit - slack : value <= limit + slack;
    });
  };

  const apply = (section, data, parts, form) => {
    const limits = limitsOf(form), undisturbed = form.elements.undisturbed.checked;
    const hide = form.elements.hide.checked;
    const kept = data.entries.map((entry) => keeps(entry, limits, data.least, undisturbed));
    let best = -1;
    data.entries.forEach((entry, i) => {
      if (kept[i] && entry.good && (best < 0 || entry.latency < data.entries[best].latency)) best = i;
    });
    for (const [index, list] of parts) {
      for (const part of list) {
        part.classList.toggle("out", !kept[index] && !data.entries[index].failed);
        if (part.tagName === "TR") part.classList.toggle("chosen", Number(index) === best);
      }
    }
    section.classList.toggle("hiding", hide);
    const built = data.entries.filter((entry) => !entry.failed).length;
    form.querySelector("output").textContent = `${kept.filter(Boolean).length} of ${built} rows keep them`;
    show(section, data, kept, best);
  };

  const element = (name, text, kind) => {
    const made = document.createElement(name);
    made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };

  const fastest = (count) => count === 1 ? "The only measured one that keeps your limits."
    : `The fastest of ${count} measured ones that keep your limits.`;

  const show = (section, data, kept, best) => {
    const winner = section.querySelector(".winner"), stats = section.querySelector(".stats");
    const label = section.querySelector(".label"), caveat = section.querySelector(".caveat");
    const among = section.querySelector(".among");
    stats.replaceChildren();
    winner.classList.toggle("none", best < 0);
    const candidates = data.entries.filter((entry, i) => kept[i] && entry.good).length;
    among.textContent = best < 0 ? "" : fastest(candidates);
    if (best < 0) {
      label.textContent = "Which to take";
      winner.textContent = data.nothing;
      caveat.textContent = "";
      return;
    }
    const chosen = data.entries[best];
    label.textContent = "Take";
    winner.textContent = chosen.name;
    for (const [title, value, detail] of chosen.stats) {
      const box = document.createElement("div");
      box.append(element("dt", title), element("dd", value));
      if (detail) box.append(element("dd", detail, "detail"));
      stats.append(box);
    }
    const ties = data.entries.filter((e, i) => i !== best && kept[i] && e.good && e.low <= chosen.high).map((e) => e.name);
    const words = ties.length ? [`Its latency cannot be told from that of ${ties.join(", ")}.`] : [];
    if (chosen.disturbed) words.push("Measured on a disturbed machine.");
    if (data.caveat) words.push(data.caveat);
    caveat.textContent = words.join(" ");
  };

  const sort = (section, button) => {
    const heading = button.closest("th"), body = section.querySelector("tbody");
    const up = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of section.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", up ? "ascending" : "descending");
    const column = Number(button.dataset.sort);
    const key = (row) => row.children[column].dataset.order;
    const rows = [...body.rows].sort((a, b) => {
      const x = key(a), y = key(b);
      if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
      const order = heading.classList.contains("figure") ? Number(x) - Number(y) : x.localeCompare(y);
      return up ? order : -order;
    });
    body.append(...rows);
  };

  // A tip beside the point that has the pointer or the keyboard's focus.
  const tip = document.querySelector(".tip");
  let pointed = null;
  const placeTip = () => {
    tip.hidden = !pointed;
    if (!pointed) return;
    tip.textContent = pointed.getAttribute("aria-label");
    const at = pointed.getBoundingClientRect(), size = tip.getBoundingClientRect();
    const left = Math.min(Math.max(8, at.left + at.width / 2 - size.width / 2), window.innerWidth - size.width - 8);
    const above = at.top - size.height - 8;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 8 ? above : at.bottom + 8}px`;
  };
  const point = (to) => { pointed = to; placeTip(); };
  for (const kind of ["pointerover", "focusin"]) {
    document.addEventListener(kind, (event) => point(event.target.closest?.("g.point") ?? null));
  }
  document.addEventListener("focusout", () => point(null));
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") point(null); });
  document.addEventListener("scroll", placeTip, { passive: true });

  document.addEventListener("click", (event) => {
    if (!event.target.matches?.("button.copy")) return;
    const text = event.target.parentElement.querySelector("code").textContent;
    const done = () => { event.target.textContent = "copied"; setTimeout(() => { event.target.textContent = "copy"; }, 1500); };
    navigator.clipboard?.writeText(text).then(done, () => undefined);
  });

  document.querySelectorAll("section.model").forEach(wire);
  document.documentElement.dataset.ready = "yes";
})();
