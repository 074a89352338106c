// Points of a plot: a tip for the pointer and for the keyboard, where a plot is one stop and arrows go from point to point.

const tip = document.querySelector(".tip");
let pointed = null;

const placeTip = () => {
  tip.hidden = !pointed;
  if (!pointed) return;
  tip.textContent = nameOf(pointed);
  const at = pointed.getBoundingClientRect(), size = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, at.left + at.width / 2 - size.width / 2), window.innerWidth - size.width - 8);
  const above = at.top - size.height - 8;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 8 ? above : at.bottom + 8}px`;
};

const pointAt = (to) => { pointed = to; placeTip(); };

// Of a crowded plot a point gets its name when it is come to, from the table.
const nameOf = (point) => {
  if (!point.hasAttribute("aria-label")) {
    const section = point.closest("section.model"), index = point.dataset.entry;
    const figures = figuresOf(section, index).map(([title, value]) => `${title} ${value}`);
    point.setAttribute("role", "img");
    point.setAttribute("aria-label", `${labelOf(section, index)}: ${figures.join(", ")}`);
  }
  return point.getAttribute("aria-label");
};

const labelOf = (section, index) => section.querySelector(`.origins details[data-entry="${index}"] summary`).textContent;

// Left and right follow the horizontal axis, whatever the order of the points in the page; what is out is passed over.
const goToPoint = (from, key) => {
  const points = [...from.ownerSVGElement.querySelectorAll("g.point:not(.out)")]
    .map((p) => [p.getBoundingClientRect(), p]).sort(([a], [b]) => a.left - b.left || a.top - b.top).map(([, p]) => p);
  const at = points.indexOf(from), last = points.length - 1;
  const to = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: last }[key];
  if (to === undefined || last < 0) return false;
  const next = points[Math.min(Math.max(to, 0), last)];
  from.setAttribute("tabindex", "-1");
  next.setAttribute("tabindex", "0");
  nameOf(next);
  next.focus();
  return true;
};

const wireKeys = () => {
  for (const kind of ["pointerover", "focusin"]) {
    document.addEventListener(kind, (event) => pointAt(event.target.closest?.("g.point") ?? null));
  }
  document.addEventListener("focusout", () => pointAt(null));
  document.addEventListener("scroll", placeTip, { passive: true });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") pointAt(null);
    const point = event.target.closest?.("g.point");
    if (point && goToPoint(point, event.key)) event.preventDefault();
  });
};
