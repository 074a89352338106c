// The reader's limits: read from the form, kept in the address, and asked of each row.

const fieldsOf = (form) => [...form.querySelectorAll("input[data-factor]")];

const typedIn = (input) => {
  const typed = input.value.trim().replace(",", ".");
  return typed === "" ? null : Number(typed);
};

const limitsOf = (form) => {
  const limits = [];
  for (const input of fieldsOf(form)) {
    const number = typedIn(input);
    const wrong = number !== null && !Number.isFinite(number);
    input.classList.toggle("wrong", wrong);
    input.setAttribute("aria-invalid", String(wrong));
    if (number !== null && !wrong) limits.push([input.name, number * Number(input.dataset.factor)]);
  }
  return limits;
};

// What was not measured keeps no limit on it; a millionth of slack undoes the rounding of units.
const keeps = (entry, limits, least, undisturbed, words) => {
  if (undisturbed && entry.disturbed) return false;
  if (!words.every((word) => entry.find.includes(word))) return false;
  return limits.every(([key, limit]) => {
    const slack = Math.abs(limit) * 1e-6;
    if (!entry[key]) return false;
    return least.has(key) ? entry[key][0] >= limit - slack : entry[key][0] <= limit + slack;
  });
};

// --- sliders ---------------------------------------------------------------------------------------------------------

// A slider goes over the rows' values, in equal ratios where they span widely; its loose end is no limit.
const scaleOf = (slider) => {
  const low = Number(slider.dataset.low), high = Number(slider.dataset.high), steps = Number(slider.max);
  const ratios = low > 0 && high / low > 6;
  return {
    value: (at) => ratios ? low * (high / low) ** (at / steps) : low + (high - low) * at / steps,
    place: (value) => steps * (ratios ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low)),
    loose: slider.dataset.least ? 0 : steps,
    steps,
  };
};

const fromSlider = (slider, input) => {
  const scale = scaleOf(slider), at = Number(slider.value);
  input.value = at === scale.loose ? "" : String(Number(scale.value(at).toPrecision(3)));
  tellSlider(slider, input);
};

const toSlider = (slider, input) => {
  const scale = scaleOf(slider), number = typedIn(input);
  const place = number === null || Number.isNaN(number) ? scale.loose : scale.place(number);
  slider.value = String(Number.isFinite(place) ? Math.min(scale.steps, Math.max(0, place)) : 0);
  tellSlider(slider, input);
};

const tellSlider = (slider, input) => {
  slider.setAttribute("aria-valuetext", input.value === "" ? "no limit" : `${input.value} ${slider.dataset.unit}`.trim());
};

const slidersOf = (form) => [...form.querySelectorAll("input[type=range]")]
  .map((slider) => [slider, form.elements[slider.dataset.for]]);

// --- the address -----------------------------------------------------------------------------------------------------

// What differs from the page as it was opened is written behind the # of its address, so that a link keeps the choice.
const changedIn = (form) => [...form.elements].filter((e) => e.name && e.type !== "range").flatMap((e) => {
  if (e.type === "checkbox") return e.checked === e.defaultChecked ? [] : [[e.name, e.checked ? "yes" : "no"]];
  if (e.tagName === "SELECT") return e.selectedIndex === 0 ? [] : [[e.name, e.value]];
  return e.value === e.defaultValue ? [] : [[e.name, e.value]];
});

const writeAddress = (forms) => {
  const words = forms.flatMap((form, i) => changedIn(form)
    .map(([name, value]) => `${i ? `${i + 1}.` : ""}${name}=${encodeURIComponent(value)}`));
  try {
    history.replaceState(null, "", words.length ? `#${words.join("&")}` : location.pathname + location.search);
  } catch {
    // A page that was opened from an archive may have no address of its own.
  }
};

const readAddress = (forms) => {
  if (!location.hash.includes("=")) return;
  for (const word of location.hash.slice(1).split("&")) {
    const [, section, name, value] = /^(?:(\d+)\.)?(\w+)=(.*)$/.exec(word) ?? [];
    const control = name && forms[section ? section - 1 : 0]?.elements.namedItem(name);
    if (!control || control.type === "range") continue;
    let text = "";
    try { text = decodeURIComponent(value); } catch { continue; }
    if (control.type === "checkbox") control.checked = text === "yes";
    else if (control.tagName !== "SELECT" || [...control.options].some((o) => o.value === text)) control.value = text;
  }
};
