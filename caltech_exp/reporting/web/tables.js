// Tables that a click on a heading sorts: upwards, downwards, then in the report's order again. Cells without a
// number (–, diverged) come last either way. What scrolls sideways can be reached by keyboard.
(() => {
  "use strict";
  const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

  // The values of a column by row: numbers where every cell that has a value has a number, else texts.
  function valuesOf(rows, column) {
    const cells = rows.map((row) => row.cells[column]);
    const texts = cells.map((cell) => cell.textContent.trim()).map((text) => (text === "–" ? "" : text));
    const isNumber = cells[0].classList.contains("number");
    const numbers = isNumber ? cells.map((cell) => cell.dataset.value ?? "") : texts;
    const isNumeric = isNumber || texts.every((text) => Number.isFinite(Number(text)));
    return new Map(rows.map((row, index) => [row, isNumeric ? parse(numbers[index]) : texts[index] || null]));
  }

  function parse(text) {
    return text === "" ? null : Number(text);
  }

  function compare(value, other) {
    if (typeof value === "number") return value - other;
    return value.localeCompare(other, "en", { numeric: true });
  }

  function sort(rows, column, direction) {
    if (direction === "none") return rows;
    const values = valuesOf(rows, column);
    const sign = direction === "descending" ? -1 : 1;
    return [...rows].sort((row, other) => {
      const [value, otherValue] = [values.get(row), values.get(other)];
      if (value === null || otherValue === null) return (value === null) - (otherValue === null);
      return sign * compare(value, otherValue);
    });
  }

  function makeSortable(table) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const headings = [...table.tHead.rows[0].cells];
    for (const [column, heading] of headings.entries()) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      heading.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const direction = NEXT[heading.getAttribute("aria-sort")];
        for (const other of headings) other.setAttribute("aria-sort", "none");
        heading.setAttribute("aria-sort", direction);
        body.append(...sort(rows, column, direction));
      });
    }
  }

  for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);

  const watcher = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const place = target.closest(".scroll");
      if (place.scrollWidth > place.clientWidth) place.tabIndex = 0;
      else place.removeAttribute("tabindex");
    }
  });
  for (const place of document.querySelectorAll(".scroll")) {
    watcher.observe(place);
    watcher.observe(place.firstElementChild);
  }
})();
