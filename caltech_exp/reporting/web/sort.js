// Tables that are sorted by a click on a heading: upwards, downwards, then the report's order again.
// Cells without a number (–, diverged) come last either way.
(() => {
  "use strict";
  const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

  function numberIn(text) {
    const found = text.replaceAll(",", "").replace("−", "-").match(/[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?/i);
    return found ? Number(found[0]) : NaN;
  }

  function compare(one, other, numeric) {
    if (!numeric) return one.localeCompare(other, "en", { numeric: true });
    return numberIn(one) - numberIn(other);
  }

  function lacks(text, numeric) {
    return text === "" || text === "–" || (numeric && Number.isNaN(numberIn(text)));
  }

  function sort(body, order, column, direction) {
    const texts = new Map(order.map((row) => [row, row.cells[column].textContent.trim()]));
    const given = [...texts.values()].filter((text) => text !== "" && text !== "–");
    const isNumbers = body.rows[0].cells[column].classList.contains("number");
    const numeric = isNumbers || (given.length > 0 && given.every((text) => Number.isFinite(Number(text))));
    const sign = direction === "descending" ? -1 : 1;
    const sorted = [...order];
    if (direction !== "none") {
      sorted.sort((one, other) => {
        const [a, b] = [texts.get(one), texts.get(other)];
        const absent = lacks(a, numeric) - lacks(b, numeric);
        if (absent || lacks(a, numeric)) return absent;
        return sign * compare(a, b, numeric);
      });
    }
    body.append(...sorted);
  }

  function makeSortable(table) {
    const body = table.tBodies[0];
    const order = [...body.rows];
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
        sort(body, order, column, direction);
      });
    }
  }

  for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
})();
