// Tables of class "sortable": a button in each heading sorts by its column, once more the other way.
(function () {
  "use strict";

  function make(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    Object.assign(made, attributes);
    made.append(...children);
    return made;
  }

  function value(cell) {
    const text = (cell.dataset.value ?? cell.textContent).trim();
    const number = Number(text.replace(/[,\s%]/g, ""));
    if (text === "" || text === "n/a") return null;
    return Number.isNaN(number) ? text.toLowerCase() : number;
  }

  // What is missing comes last, whichever way the rest is sorted.
  function compare(a, b, direction) {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return direction * (a < b ? -1 : a > b ? 1 : 0);
  }

  // Turns a heading into a button that calls sort(direction); 1 is rising, -1 falling.
  function sortBy(heading, sort) {
    const button = make("button", { type: "button", className: "sort" }, ...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const first = heading.classList.contains("number") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = heading.getAttribute("aria-sort") === first ? other : first;
      for (const each of heading.parentNode.children) each.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", order);
      sort(order === "ascending" ? 1 : -1);
    });
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
      sortBy(heading, (direction) => {
        const rows = Array.from(body.rows, (row) => [value(row.cells[column]), row]);
        rows.sort((a, b) => compare(a[0], b[0], direction));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  window.truckscape = { compare, make, sortBy };
})();
