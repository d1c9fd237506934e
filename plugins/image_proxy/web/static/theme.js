// Airflow's theme, or the system's when the page stands alone. Loaded before anything is painted.
"use strict";
(() => {
  const root = document.documentElement;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  let outer = null;
  try {
    if (window.parent !== window) outer = window.parent.document.documentElement;
  } catch {
    outer = null; // another origin's page: not ours to ask
  }
  const wanted = () => {
    const named = outer && ["dark", "light"].find((name) => outer.classList.contains(name));
    return named || (dark.matches ? "dark" : "light");
  };
  const follow = () => {
    const theme = wanted();
    if (root.classList.contains(theme)) return;
    root.classList.remove("dark", "light");
    root.classList.add(theme);
    document.dispatchEvent(new Event("themechange"));
  };
  follow();
  dark.addEventListener("change", follow);
  if (outer) new MutationObserver(follow).observe(outer, { attributes: true, attributeFilter: ["class"] });
})();
