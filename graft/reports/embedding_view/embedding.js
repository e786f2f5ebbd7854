// The embedding map: colours by choice, the picture of a dot, and a selection by lasso or by the legend.
for (const figure of document.querySelectorAll(".embedding")) {
  const { ids, paths, colourings, sheet } = JSON.parse(figure.dataset.points);
  const svg = figure.querySelector("svg.map");
  const dots = [...svg.querySelectorAll("circle")];
  const places = dots.map((dot) => [Number(dot.getAttribute("cx")), Number(dot.getAttribute("cy"))]);
  const [choice, said, save] = ["select", "output", ".save"].map((name) => figure.querySelector(name));
  const hint = figure.querySelector(".hint");
  const legend = figure.querySelector(".legend");
  const picked = figure.querySelector(".picked");
  const lasso = svg.querySelector(".lasso");
  const tiles = `url(${figure.dataset.sheet})`;
  const MOST_TILES = 60;
  let colouring = colourings[0];
  let chosen = [];

  const tile = (element, point) => {
    const side = sheet.tile;
    Object.assign(element.style, {
      width: `${side}px`, height: `${side}px`, backgroundImage: tiles,
      backgroundPosition: `${-(point % sheet.row) * side}px ${-Math.floor(point / sheet.row) * side}px`,
    });
  };
  const facts = (point) => colourings.map((one) => one.values[one.codes[point]]).join(" · ");
  const show = (points) => {
    chosen = points;
    const inside = new Set(points);
    dots.forEach((dot, point) => {
      dot.setAttribute("class", points.length && !inside.has(point) ? "off" : `s${colouring.colours[colouring.codes[point]]}`);
    });
    said.textContent = points.length ? `${points.length} of ${dots.length} images` : "";
    save.hidden = points.length === 0;
    picked.replaceChildren(...points.slice(0, MOST_TILES).map((point) => {
      const one = document.createElement("i");
      one.title = `${paths[point]}: ${facts(point)}`;
      tile(one, point);
      return one;
    }));
  };
  const entry = (value, number) => {
    const item = document.createElement("li");
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const count = Object.assign(document.createElement("span"), { className: "quiet", textContent: colouring.counts[number].toLocaleString("en") });
    const mark = Object.assign(document.createElement("i"), { className: `s${colouring.colours[number]}` });
    button.setAttribute("aria-pressed", "false");
    button.append(mark, `${value} `, count);
    button.addEventListener("click", () => {
      const before = button.getAttribute("aria-pressed") === "true";
      for (const other of legend.querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
      button.setAttribute("aria-pressed", String(!before));
      show(before ? [] : [...dots.keys()].filter((point) => colouring.codes[point] === number));
    });
    item.append(button);
    return item;
  };
  const recolour = () => {
    colouring = colourings[choice.selectedIndex];
    legend.replaceChildren(...colouring.values.map(entry));
    show([]);
  };
  choice.addEventListener("change", recolour);
  recolour();

  const at = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  };
  const point = ([x, y]) => {
    const distances = places.map(([left, top]) => Math.hypot(left - x, top - y));
    const nearest = distances.indexOf(Math.min(...distances));
    return distances[nearest] < 14 ? nearest : -1;
  };
  const within = (outline, [x, y]) => outline.reduce((inside, [x1, y1], number) => {
    const [x2, y2] = outline[(number + 1) % outline.length];
    return (y1 > y) !== (y2 > y) && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1 ? !inside : inside;
  }, false);
  let outline = null;
  const hover = (event) => {
    const found = point(at(event));
    hint.hidden = found < 0;
    if (found < 0) return;
    tile(hint.querySelector("i"), found);
    hint.querySelector("span").textContent = `${paths[found]}: ${facts(found)}`;
    const room = svg.getBoundingClientRect();
    const x = event.clientX - room.left;
    hint.style.top = `${event.clientY - room.top + 14}px`;
    hint.style.left = x < room.width / 2 ? `${x + 14}px` : "auto";
    hint.style.right = x < room.width / 2 ? "auto" : `${room.width - x + 14}px`;
  };
  svg.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch") return hover(event); // dragging a finger scrolls the page
    outline = [at(event)];
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", (event) => {
    if (!outline) return hover(event);
    hint.hidden = true;
    outline.push(at(event));
    lasso.setAttribute("d", `M${outline.map((corner) => corner.join(" ")).join("L")}Z`);
  });
  svg.addEventListener("pointerup", () => {
    if (!outline) return;
    const corners = outline;
    outline = null;
    lasso.removeAttribute("d");
    for (const other of legend.querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
    show(corners.length < 3 ? [] : [...dots.keys()].filter((number) => within(corners, places[number])));
  });
  svg.addEventListener("pointerleave", () => { hint.hidden = true; });

  // A cell that a spreadsheet would compute is shown as text.
  const cell = (text) => {
    const plain = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
  };
  save.addEventListener("click", () => {
    const head = ["id", "path", ...colourings.map((one) => one.name.toLowerCase())];
    const lines = [head, ...chosen.map((number) => [ids[number], paths[number], ...colourings.map((one) => one.values[one.codes[number]])])];
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${lines.map((line) => line.map(cell).join(",")).join("\n")}\n`], { type: "text/csv" }));
    link.download = "images.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  });
}
