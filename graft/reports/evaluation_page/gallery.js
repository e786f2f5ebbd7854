// A picture is enlarged by a click; Escape or another click closes it.
const enlarged = document.createElement("dialog");
enlarged.className = "enlarged";
enlarged.append(document.createElement("img"), document.createElement("p"));
enlarged.addEventListener("click", () => enlarged.close());
document.body.append(enlarged);
for (const button of document.querySelectorAll("button.zoom")) {
  button.addEventListener("click", () => {
    const picture = button.querySelector("img");
    const [large, text] = enlarged.children;
    large.src = picture.src;
    large.alt = picture.alt;
    text.textContent = picture.alt;
    enlarged.setAttribute("aria-label", picture.alt);
    enlarged.showModal();
  });
}
// Many mistakes can be narrowed to a class and to those at least so confident.
for (const section of document.querySelectorAll("#mistakes")) {
  const items = [...section.querySelectorAll(".gallery li")];
  if (items.length < 9) continue;
  const classes = [...new Set(items.flatMap((item) => JSON.parse(item.dataset.classes)))].sort();
  const chosen = document.createElement("select");
  chosen.append(new Option("any class", ""), ...classes.map((name) => new Option(name, name)));
  const least = Object.assign(document.createElement("input"), { type: "range", min: 0, max: 100, step: 5, value: 0 });
  const said = document.createElement("output");
  const labelled = (text, control) => { const label = document.createElement("label"); label.append(text, control); return label; };
  const row = document.createElement("div");
  row.className = "choose";
  row.append(labelled("Labelled or predicted", chosen), labelled("Confidence from", least), said);
  const show = () => {
    const all = chosen.value === "" && Number(least.value) === 0;
    let shown = 0;
    for (const item of items) {
      const right = chosen.value === "" || JSON.parse(item.dataset.classes).includes(chosen.value);
      item.hidden = !(right && 100 * Number(item.dataset.confidence) >= Number(least.value));
      shown += !item.hidden;
    }
    if (!all) for (const part of section.querySelectorAll("details.rest")) part.open = true;
    said.textContent = all ? `${least.value} %` : `${least.value} %: ${shown} of ${items.length} pictures`;
  };
  chosen.addEventListener("change", show);
  least.addEventListener("input", show);
  section.querySelector(".gallery").before(row);
  show();
}
