"use strict";
const rows = JSON.parse(document.getElementById("rows").textContent);
const columns = JSON.parse(document.getElementById("columns").textContent);

function decide(item, decision) {
  const row = rows[item.dataset.entry];
  row.decision = row.decision === decision ? "" : decision;
  row.new_label = row.decision === "relabel" ? item.querySelector("select").value : "";
  item.className = row.decision;
  for (const button of item.querySelectorAll("[data-decision]")) {
    button.setAttribute("aria-pressed", String(button.dataset.decision === row.decision));
  }
  const done = rows.filter((one) => one.decision).length;
  document.getElementById("progress").textContent = `${done} of ${rows.length} decided`;
}

function csv() {
  const quoted = (value) => {
    const text = String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows.map((row) => columns.map((name) => row[name]))].map((line) => line.map(quoted).join(",")).join("\n") + "\n";
}

for (const item of document.querySelectorAll(".queue li")) {
  for (const button of item.querySelectorAll("[data-decision]")) {
    button.addEventListener("click", () => decide(item, button.dataset.decision));
  }
  item.querySelector("select").addEventListener("change", () => {
    rows[item.dataset.entry].decision = "";
    decide(item, "relabel");
  });
  item.addEventListener("keydown", (event) => {
    if (event.target.tagName === "SELECT" || event.ctrlKey || event.metaKey || event.altKey) return;
    const decision = { k: "keep", r: "relabel", u: "" }[event.key.toLowerCase()];
    if (decision === undefined) return;
    rows[item.dataset.entry].decision = "";
    decide(item, decision);
    item.nextElementSibling?.focus();
  });
}
document.getElementById("save")?.addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = document.getElementById("save").dataset.file;
  link.click();
  URL.revokeObjectURL(link.href);
});
