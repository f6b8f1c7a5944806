
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

function reveal() {
  const target = location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
  if (!target) return;
  if (target.closest("[hidden]")) {
    box.value = "";
    if (choice) choice.value = "";
    apply();
  }
  for (const details of target.querySelectorAll("details")) details.open = true;
  target.scrollIntoView({ block: "center" });
}

if (box) {
  box.addEventListener("input", apply);
  box.form.addEventListener("submit", (event) => event.preventDefault());
  box.form.addEventListener("reset", () => setTimeout(apply));
  if (choice) choice.addEventListener("change", apply);
  if (box.value || (choice && choice.value)) apply();
}
addEventListener("hashchange", reveal);
reveal();

let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
});
