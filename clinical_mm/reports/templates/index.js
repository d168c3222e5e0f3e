"use strict";
// Sorting by a column's button; without this script the table stands sorted by risk.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.disabled = false;
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
      const rows = Array.from(table.tBodies[0].rows);
      rows.sort((a, b) => {
        const x = key(a), y = key(b);
        const order = x === "" || y === "" ? (x === "") - (y === "") : Number(x) - Number(y) || x.localeCompare(y);
        return up || x === "" || y === "" ? order : -order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}
