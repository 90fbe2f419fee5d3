// Light or dark: what the reader chose last on this page, else what the system prefers.
// Scripts listen for "schemechange" on the document.
(() => {
  "use strict";
  const KEY = "caltech_exp scheme";
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  let chosen = stored();

  function stored() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // some browsers keep nothing for pages that are files
    }
  }

  function store(scheme) {
    try {
      localStorage.setItem(KEY, scheme);
    } catch {
      // the choice lasts until the page is closed
    }
  }

  function current() {
    if (chosen === "dark" || chosen === "light") return chosen;
    return prefersDark.matches ? "dark" : "light";
  }

  function other() {
    return current() === "dark" ? "light" : "dark";
  }

  function apply() {
    document.documentElement.dataset.scheme = current();
    const button = document.getElementById("page-scheme");
    if (button) {
      button.textContent = other() === "dark" ? "Dark" : "Light";
      button.setAttribute("aria-label", `${button.textContent} colours`);
    }
    document.dispatchEvent(new Event("schemechange"));
  }

  apply();
  prefersDark.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("page-scheme");
    button.hidden = false;
    button.addEventListener("click", () => {
      chosen = other();
      store(chosen);
      apply();
    });
    apply();
  });
})();
