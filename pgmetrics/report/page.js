"use strict";
// Without scripts the tables are complete and in the store's order; this makes them sortable.
for (const table of document.querySelectorAll("table[data-status]")) {
  const body = table.tBodies[0];
  const given = Array.from(body.rows);
  const status = document.getElementById(table.dataset.status);
  const heads = Array.from(table.tHead.rows[0].cells);
  const key = (row, column) => {
    const cell = row.cells[column];
    const raw = cell.hasAttribute("data-v") ? cell.dataset.v : cell.textContent;
    const number = raw === "" ? NaN : Number(raw);
    return { raw, number };
  };
  const compare = (a, b, sign) => {
    // What is missing comes last, whichever way.
    if (a.raw === "" || b.raw === "") return (a.raw === "") - (b.raw === "");
    if (!Number.isNaN(a.number) && !Number.isNaN(b.number)) return sign * (a.number - b.number);
    return sign * a.raw.localeCompare(b.raw, "en", { numeric: true });
  };
  heads.forEach((head, column) => {
    const name = head.textContent;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = name;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const now = before === "ascending" ? "descending" : before === "descending" ? null : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      let rows = given;
      if (now) {
        head.setAttribute("aria-sort", now);
        const sign = now === "ascending" ? 1 : -1;
        rows = given.map((row) => [key(row, column), row]).sort((a, b) => compare(a[0], b[0], sign)).map((pair) => pair[1]);
      }
      body.append(...rows);
      status.textContent = now ? `Sorted by ${name}, ${now}.` : "In the order of the store.";
    });
  });
  const column = heads.findIndex((head) => head.textContent === table.dataset.filter);
  if (column >= 0) {
    const select = document.getElementById(`${table.dataset.status}-filter`);
    select.parentElement.hidden = false;
    select.addEventListener("change", () => {
      let shown = 0;
      for (const row of given) {
        row.hidden = select.value !== "" && row.cells[column].textContent !== select.value;
        shown += row.hidden ? 0 : 1;
      }
      status.textContent = `${shown} of ${given.length} rows.`;
    });
  }
}
