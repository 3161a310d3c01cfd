/* medbench report | what all pages do; without it the tables stand there as they are */
"use strict";

// What is chosen stands in the address, so that a view can be sent to somebody.
const address = new URLSearchParams(location.search);
function remember(name, value, first) {
  if (value === first) address.delete(name);
  else address.set(name, value);
  const query = address.toString();
  history.replaceState(null, "", location.pathname + (query ? "?" + query : "") + location.hash);
}

// On a telephone the menu scrolls: the page's own entry is in sight.
const entry = document.querySelector("nav [aria-current]");
if (entry) {
  const menu = entry.closest("nav");
  menu.scrollLeft = entry.offsetLeft + entry.offsetWidth / 2 - menu.clientWidth / 2;
}

// One tooltip for all numbers, by pointer, touch and keyboard. Without scripts the browser shows the titles.
const tip = document.getElementById("tip");
for (const element of document.querySelectorAll(".tip[title]")) {
  element.dataset.tip = element.title;
  element.removeAttribute("title");
}
let current = null;
function place() {
  const box = current.getBoundingClientRect();
  const above = box.top > tip.offsetHeight + 12;
  tip.style.top = (above ? box.top - tip.offsetHeight - 6 : box.bottom + 6) + "px";
  tip.style.left = Math.max(8, Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8)) + "px";
}
function hide() {
  tip.hidden = true;
  if (current) current.removeAttribute("aria-describedby");
  current = null;
}
function show(event) {
  const element = event.target.closest ? event.target.closest(".tip") : null;
  if (!element) return;
  hide();
  current = element;
  tip.textContent = element.dataset.tip;
  tip.hidden = false;
  element.setAttribute("aria-describedby", "tip");
  place();
}
document.addEventListener("mouseover", show);
document.addEventListener("focusin", show);
document.addEventListener("mouseout", () => { if (current !== document.activeElement) hide(); });
document.addEventListener("focusout", hide);
document.addEventListener("scroll", () => { if (current) place(); }, true);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

// Choices of a form: the value of each by its name, kept in the address.
function choices(form, changed) {
  const first = Object.fromEntries(new FormData(form));
  for (const field of form.elements) {
    const given = address.get(field.name);
    if (given === null || !field.name) continue;
    if (field.type === "radio") field.checked = field.value === given;
    else if (field.tagName !== "SELECT" || [...field.options].some((option) => option.value === given)) field.value = given;
  }
  const apply = () => changed(Object.fromEntries(new FormData(form)));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    remember(event.target.name, event.target.value, first[event.target.name]);
    apply();
  });
  apply();
}

// One panel of several: the one whose data are what the form says.
const panelForms = [...document.querySelectorAll("form[data-panels]")];
for (const form of panelForms) {
  // Not `form.dataset`: a field of that name hides it.
  const panels = [...document.querySelectorAll(`.panel[data-set="${form.getAttribute("data-panels")}"]`)];
  choices(form, (chosen) => {
    for (const panel of panels) panel.hidden = Object.entries(chosen).some(([name, value]) => panel.dataset[name] !== value);
    if (panels.every((panel) => panel.hidden) && panels.length) panels[0].hidden = false;
    for (const other of panelForms.filter((other) => other !== form)) { // the measure is one for the page
      const twin = other.querySelector(`input[name="metric"][value="${chosen.metric}"]`);
      if (twin && !twin.checked) {
        twin.checked = true;
        twin.dispatchEvent(new Event("input", { bubbles: true }));
      }
    }
  });
}

// Filters of the claims: a word of the search may stand anywhere in a claim.
for (const form of document.querySelectorAll("form[data-filters]")) {
  const items = [...document.querySelectorAll("." + form.getAttribute("data-filters"))];
  const texts = items.map((item) => item.textContent.toLowerCase());
  choices(form, ({ search = "", ...chosen }) => {
    const words = search.toLowerCase().split(/\s+/).filter(Boolean);
    items.forEach((item, index) => {
      const fits = Object.entries(chosen).every(([name, value]) => !value || item.dataset[name] === value);
      item.hidden = !fits || !words.every((word) => texts[index].includes(word));
    });
    form.querySelector(".count span").textContent = items.filter((item) => !item.hidden).length;
  });
}
function open() {
  const target = location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
  if (target && target.tagName === "DETAILS") {
    target.open = true;
    target.hidden = false;
    target.scrollIntoView();
  }
}
window.addEventListener("hashchange", open);
open();

// Sorting by a column of numbers, within one table: highest first, then lowest first.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  for (const head of heads) {
    const column = head.cellIndex;
    if (body.rows[0].cells[column].dataset.order === undefined) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-label", "Sort by " + head.textContent.trim());
    head.append("\u00a0", button); // never alone on a line
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") !== "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const value = (row) => Number(row.cells[column].dataset.order);
      body.append(...[...body.rows].sort((a, b) => (falling ? value(b) - value(a) : value(a) - value(b))));
    });
  }
}

// The command for a row.
const command = document.getElementById("command");
if (command) {
  const copy = document.getElementById("copy");
  choices(document.querySelector("form.command"), ({ protocol, model, dataset }) => {
    const form = document.querySelector("form.command");
    const fitted = form.elements.model.selectedOptions[0].dataset.fitted;
    const seeds = fitted ? "0" : form.elements.protocol.selectedOptions[0].dataset.seeds;
    command.textContent = `medbench run --protocol ${protocol} --models ${model} --datasets ${dataset} --seeds ${seeds} --results mine`;
    const link = document.getElementById("protocol");
    link.href = `protocols/${protocol}.toml`;
    link.textContent = `${protocol}.toml`;
  });
  if (navigator.clipboard) {
    copy.hidden = false;
    copy.addEventListener("click", () => navigator.clipboard.writeText(command.textContent));
  }
}
document.documentElement.dataset.ready = "yes";
