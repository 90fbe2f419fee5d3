// The contents, folded where the page is narrow, mark the part that is being read. Folds open for what leads into
// them, and on paper.
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

  // A link leads into a fold: not every browser opens it by itself.
  function openTarget() {
    const target = document.getElementById(location.hash.slice(1));
    let fold = target?.closest("details");
    if (!fold) return;
    for (; fold; fold = fold.parentElement.closest("details")) fold.open = true;
    target.scrollIntoView();
  }

  addEventListener("hashchange", openTarget);
  openTarget();

  const links = new Map(
    [...contents.querySelectorAll("ol a")].map((link) => [link.getAttribute("href").slice(1), link]),
  );
  const places = [...document.querySelectorAll("main [id]")].filter((place) => links.has(place.id));

  function mark() {
    const above = places.filter((place) => place.checkVisibility() && place.getBoundingClientRect().top < 120);
    const current = above.at(-1);
    for (const [name, link] of links) {
      if (current && name === current.id) link.setAttribute("aria-current", "location");
      else link.removeAttribute("aria-current");
    }
  }

  let isWaiting = false;
  addEventListener("scroll", () => {
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(() => {
      isWaiting = false;
      mark();
    });
  }, { passive: true });
  mark();

  // Printed, a folded part would be missing.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });
})();
