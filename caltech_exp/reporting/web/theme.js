// Light or dark: what the reader chose last on this page, else what the system prefers.
// Scripts listen for "themechange" on the document.
(() => {
  "use strict";
  const KEY = "caltech_exp theme";
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = stored();

  function stored() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // some browsers keep nothing for pages that are files
    }
  }

  function store(theme) {
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // the choice lasts until the page is closed
    }
  }

  function current() {
    if (chosen === "dark" || chosen === "light") return chosen;
    return prefersDark.matches ? "dark" : "light";
  }

  function apply() {
    document.documentElement.dataset.theme = current();
    document.getElementById("theme")?.setAttribute("aria-pressed", String(current() === "dark"));
    document.dispatchEvent(new Event("themechange"));
  }

  apply();
  prefersDark.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    button.hidden = false;
    button.addEventListener("click", () => {
      chosen = current() === "dark" ? "light" : "dark";
      store(chosen);
      apply();
    });
    apply();
  });
})();
