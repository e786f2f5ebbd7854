"use strict";
// A click on a column heading sorts by it: numbers in descending order first; another click reverses the order.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const table = heading.closest("table");
    const column = [...heading.parentNode.children].indexOf(heading);
    const key = (row) => row.children[column].dataset.value ?? row.children[column].textContent.trim();
    const rows = [...table.tBodies[0].rows];
    const numeric = rows.every((row) => key(row) === "" || !Number.isNaN(Number(key(row))));
    const before = heading.getAttribute("aria-sort");
    const descending = before ? before === "ascending" : numeric;
    rows.sort((a, b) => {
      if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === "");
      const order = numeric ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b));
      return descending ? -order : order;
    });
    for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    table.tBodies[0].append(...rows);
    table.dispatchEvent(new Event("sorted"));
  });
}
// A long table shows its first rows; a search box finds the others by what stands in their first column.
for (const table of document.querySelectorAll("table[data-fold]")) {
  const rows = () => [...table.tBodies[0].rows];
  const first = Number(table.dataset.fold);
  if (rows().length <= first) continue;
  const box = document.createElement("input");
  box.type = "search";
  box.className = "find";
  box.placeholder = `The first ${first} of ${rows().length}: find another`;
  box.setAttribute("aria-label", box.placeholder);
  const show = () => {
    const wanted = box.value.trim().toLowerCase();
    rows().forEach((row, place) => {
      row.hidden = wanted ? !row.children[0].textContent.toLowerCase().includes(wanted) : place >= first;
    });
  };
  box.addEventListener("input", show);
  table.addEventListener("sorted", show);
  table.parentNode.before(box);
  show();
}
// A page prints what is open; what is folded inside an open part is opened for it.
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not(.part, .rest)")) part.open = true;
});
// A link to a folded part opens it.
const unfold = () => {
  const part = location.hash && document.getElementById(location.hash.slice(1))?.querySelector("details.part");
  if (part && !part.open) { part.open = true; part.scrollIntoView(); }
};
addEventListener("hashchange", unfold);
unfold();
for (const link of document.querySelectorAll("nav.sections a")) {
  link.addEventListener("click", () => { if (link.hash === location.hash) unfold(); });
}
for (const button of document.querySelectorAll("button.unfold")) {
  button.addEventListener("click", () => {
    const closed = [...document.querySelectorAll("details")].filter((part) => !part.open);
    for (const part of closed.length ? closed : document.querySelectorAll("details.part, details.rest")) part.open = closed.length > 0;
    button.textContent = closed.length ? "Close all" : "Open all";
  });
}
