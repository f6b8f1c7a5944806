
"use strict";
// Search and filter, links that open what they lead to, and everything open on paper. The page is whole without it.
document.documentElement.classList.add("scripted");
const all = [...document.querySelectorAll("[data-find]")];
const box = document.getElementById("find");
const choice = document.getElementById("kind");
const found = document.getElementById("found");
const texts = new Map();

function textOf(element) {
  if (!texts.has(element)) texts.set(element, element.textContent.toLowerCase());
  return texts.get(element);
}

function apply() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  const kind = choice ? choice.value : "";
  let shown = 0;
  for (const element of all) {
    const fits = (!kind || element.dataset.find.split(" ").includes(kind)) && words.every((word) => textOf(element).includes(word));
    element.hidden = !fits;
    shown += fits ? 1 : 0;
  }
  for (const group of document.querySelectorAll("[data-group]")) {
    const within = [...group.querySelectorAll("[data-find]")];
    group.hidden = within.length > 0 && within.every((element) => element.hidden);
  }
  if (words.length || kind) for (const details of document.querySelectorAll("details[data-more]")) details.open = true;
  found.textContent = words.length || kind ? `${shown} of ${all.length} shown` : "";
}

// Lists that are far away have an estimated height (content-visibility), and get their own when they come near: so the
// target moves while the page scrolls to it, and the position is corrected for some frames.
const FRAMES = 12;
let turn = 0;

function settle(target, frames, mine) {
  if (mine !== turn) return;
  // The search bar covers what follows it, not the contents before it.
  const covers = box && getComputedStyle(box.form).position === "sticky" && target.compareDocumentPosition(box.form) & Node.DOCUMENT_POSITION_PRECEDING;
  const bar = covers ? box.form.offsetHeight : 0;
  target.style.scrollMarginTop = `${bar + 12}px`;
  target.scrollIntoView({ block: "start", behavior: "instant" });
  if (frames) requestAnimationFrame(() => settle(target, frames - 1, mine));
}

function reveal() {
  const target = location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
  if (!target) return;
  if (box && target.closest("[hidden]")) {
    box.value = "";
    if (choice) choice.value = "";
    apply();
  }
  for (const details of target.querySelectorAll(":scope > details")) details.open = true;
  for (let outer = target.closest("details"); outer; outer = outer.parentElement.closest("details")) outer.open = true;
  settle(target, FRAMES, ++turn);
}

if (box) {
  box.addEventListener("input", apply);
  box.form.addEventListener("submit", (event) => event.preventDefault());
  box.form.addEventListener("reset", () => setTimeout(apply));
  if (choice) choice.addEventListener("change", apply);
  if (box.value || (choice && choice.value)) apply();
}
addEventListener("hashchange", reveal);
addEventListener("load", reveal); // after the browser's own jump to the fragment
// A second click on the same link changes no hash.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#']");
  if (link && link.getAttribute("href") === location.hash) reveal();
});
// The reader scrolls: nothing is corrected any more.
for (const name of ["wheel", "touchstart", "pointerdown", "keydown"]) addEventListener(name, () => (turn += 1), { passive: true });

// Icons far away are loaded when they come near, which they do not on paper; and the page is open quickly.
addEventListener("load", () => setTimeout(() => {
  for (const image of document.querySelectorAll("img[loading]")) image.loading = "eager";
}));

let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
});
