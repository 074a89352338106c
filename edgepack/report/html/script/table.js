// Tables: sorted by their headings, and read aloud as tables also where a narrow page shows them as cards.

const sortBy = (section, heading, up = heading.getAttribute("aria-sort") !== "ascending") => {
  const body = section.querySelector("table.rows tbody");
  for (const other of section.querySelectorAll("table.rows thead th")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  const column = heading.cellIndex, numbers = heading.classList.contains("figure");
  const keyed = [...body.rows].map((row) => [row.cells[column].dataset.order, row]);
  keyed.sort(([x], [y]) => {
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    const order = numbers ? Number(x) - Number(y) : x.localeCompare(y);
    return up ? order : -order;
  });
  body.append(...keyed.map(([, row]) => row));
};

// Where the page is too narrow for headings, a list of them sorts instead.
const addSorter = (section) => {
  const table = section.querySelector("table.rows"), label = element("label", "Sort by ", "sorter");
  const select = document.createElement("select"), headings = [...table.tHead.rows[0].cells].filter((h) => h.dataset.key);
  select.append(new Option("as built", ""), ...headings.flatMap((heading) => [true, false].map((up) =>
    new Option(`${heading.dataset.title}, ${up ? "rising" : "falling"}`, `${heading.cellIndex} ${up ? "up" : ""}`))));
  select.autocomplete = "off";
  select.addEventListener("change", () => {
    const [column, up] = select.value.split(" ");
    if (column) sortBy(section, table.tHead.rows[0].cells[column], Boolean(up));
  });
  label.append(select);
  table.closest(".table").before(label);
};

// A browser forgets that something is a table when its display changes; a title before each figure stands for headings.
const nameParts = (table) => {
  const roles = { table: "table", thead: "rowgroup", tbody: "rowgroup", tr: "row", td: "cell" };
  table.setAttribute("role", "table");
  for (const [name, role] of Object.entries(roles)) {
    for (const part of table.querySelectorAll(name)) part.setAttribute("role", role);
  }
  for (const heading of table.querySelectorAll("th")) {
    heading.setAttribute("role", heading.scope === "row" ? "rowheader" : "columnheader");
  }
  const titles = [...table.tHead.rows[0].cells].map((cell) => cell.dataset.title ?? cell.textContent.trim());
  for (const row of table.tBodies[0].rows) {
    for (const cell of row.cells) if (cell.tagName === "TD") cell.dataset.title ??= titles[cell.cellIndex];
  }
};
