"use strict";
// Tables sort by their headers: with the mouse, and with the keyboard, because each header becomes a button.
for (const table of document.querySelectorAll("table.sorts")) {
  const body = table.tBodies[0];
  const first = Array.from(body.rows);
  const headers = Array.from(table.tHead.rows[0].cells);
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const numbers = header.classList.contains("n");
      const order = [numbers ? "descending" : "ascending", numbers ? "ascending" : "descending", null];
      const next = order[(order.indexOf(header.getAttribute("aria-sort")) + 1) % 3];
      for (const other of headers) other.removeAttribute("aria-sort");
      if (next === null) {
        body.append(...first);
        return;
      }
      header.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      const value = (row) => row.cells[column].dataset.v ?? "";
      const compare = (a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        return sign * (numbers ? Number(x) - Number(y) : x.localeCompare(y, undefined, { numeric: true }));
      };
      body.append(...first.slice().sort(compare));
    });
  });
}
