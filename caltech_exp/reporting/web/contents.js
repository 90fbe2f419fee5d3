// The table of contents: folded where the page is narrow, and marking the part that is being read.
(() => {
  "use strict";
  const contents = document.querySelector(".contents details");
  const wide = matchMedia("(min-width: 70rem)");

  function fold() {
    contents.open = wide.matches;
  }

  fold();
  wide.addEventListener("change", fold);
  contents.addEventListener("click", (event) => {
    if (event.target.closest("a") && !wide.matches) contents.open = false;
  });

  const links = new Map(
    [...contents.querySelectorAll("ol a")].map((link) => [link.getAttribute("href").slice(1), link]),
  );
  const headings = [...document.querySelectorAll("main h2[id], main h3[id]")].filter((h) => links.has(h.id));

  function mark() {
    const above = headings.filter((heading) => heading.getBoundingClientRect().top < 120);
    const reading = above.at(-1);
    for (const [name, link] of links) {
      if (reading && name === reading.id) link.setAttribute("aria-current", "location");
      else link.removeAttribute("aria-current");
    }
  }

  let waiting = false;
  addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      mark();
    });
  }, { passive: true });

  // Printed, a folded part would be missing.
  addEventListener("beforeprint", () => {
    contents.open = true;
  });
  addEventListener("afterprint", fold);
})();
