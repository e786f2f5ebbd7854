"use strict";
const SHOWN = 5; // bars before "all labels"
const AT_ONCE = 2; // requests
const find = (name) => document.getElementById(name);
const kept = "graft token";
let token = sessionStorage.getItem(kept) || "";
let about = null;
const waiting = [];
let running = 0, total = 0, done = 0;

// --- the server

async function ask(path, options = {}) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const answer = await fetch(path, { ...options, headers });
  const content = await answer.json().catch(() => ({}));
  if (answer.status === 401) wantToken();
  if (!answer.ok) throw new Error(content.message || `the server answered ${answer.status}`);
  return content;
}

function wantToken() {
  find("access").hidden = false;
  find("denied").textContent = token ? "This token is not the right one." : "";
  find("token").focus();
}

async function meet() {
  try {
    about = await ask("/model");
  } catch (error) {
    if (find("access").hidden) find("status").textContent = error.message;
    return;
  }
  find("access").hidden = true;
  find("model").textContent = `${about.model} version ${about.version}`;
  const labels = about.labels.length > 8 ? `${about.labels.length} labels` : about.labels.join(", ");
  find("basis").textContent = `It answers with one of: ${labels}. Pictures are sent to this server alone.`;
  if (about.labels.length > 8) find("basis").textContent = `It knows ${labels}. Pictures are sent to this server alone.`;
  work();
}

// --- pictures in

function add(files) {
  const pictures = [...files].filter((file) => file.size);
  for (const file of pictures) {
    const item = find("picture").content.firstElementChild.cloneNode(true);
    const photo = item.querySelector(".photo");
    const address = URL.createObjectURL(file);
    item.querySelector(".file").textContent = file.name || "pasted picture";
    photo.alt = file.name || "pasted picture";
    photo.addEventListener("load", () => URL.revokeObjectURL(address));
    photo.addEventListener("error", () => {
      photo.hidden = true;
      item.querySelector(".none").hidden = false;
    });
    photo.src = address;
    find("pictures").prepend(item);
    waiting.push({ file, item });
  }
  total += pictures.length;
  progress();
  work();
}

function work() {
  while (about && running < AT_ONCE && waiting.length) {
    const { file, item } = waiting.shift();
    running += 1;
    one(file, item).finally(() => {
      running -= 1;
      done += 1;
      item.setAttribute("aria-busy", "false");
      progress();
      work();
    });
  }
}

function progress() {
  find("clear").hidden = total === 0;
  find("status").textContent = total === 0 ? "" : `${done} of ${total} ${total === 1 ? "picture" : "pictures"} answered`;
}

function body(file) {
  const type = file.type.startsWith("image/") ? file.type : "application/octet-stream";
  return { method: "POST", body: file, headers: { "Content-Type": type } };
}

async function one(file, item) {
  let answer;
  try {
    const content = await ask("/predict", body(file));
    answer = content.predictions[0];
    show(item, answer, content.milliseconds);
  } catch (error) {
    item.querySelector(".label").textContent = "No answer";
    verdict(item, "failed", "", error.message);
    return;
  }
  prepareCorrection(item, file, answer.label);
  try {
    explain(item, await ask("/explain", body(file)));
  } catch (error) {
    console.info(error.message); // the answer stands without its explanation
  }
}

// --- an answer

function show(item, answer, milliseconds) {
  item.querySelector(".label").textContent = answer.label ?? ofTasks(answer);
  if (answer.abstain) verdict(item, "unsure", "It cannot tell: better ask a person. ", `${answer.reason}.`);
  else if (answer.abstain === false) verdict(item, "sure", "", "The only plausible label");
  const sorted = Object.entries(shares(answer)).sort((a, b) => b[1] - a[1]);
  const [first, all] = item.querySelectorAll(".bars");
  first.append(...sorted.slice(0, SHOWN).map(([label, share]) => bar(label, share, answer.label)));
  if (sorted.length > SHOWN) {
    item.querySelector(".all").hidden = false;
    item.querySelector(".all summary").textContent = `All ${sorted.length} labels`;
    all.append(...sorted.slice(SHOWN).map(([label, share]) => bar(label, share, answer.label)));
  }
  for (const part of item.querySelectorAll(".with-set")) part.hidden = !answer.set;
  item.querySelector(".set").textContent = (answer.set || []).join(", ") || "none";
  item.querySelector(".time").textContent = `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms on the server`;
  item.querySelector(".facts").hidden = false;
}

// Of several tasks, each column begins with the name of its task and a dot.
function ofTasks(answer) {
  return Object.keys(about.tasks).map((task) => `${task}: ${answer[`${task}.label`] || "none"}`).join(", ");
}

function shares(answer) {
  const of = ([task, labels]) => labels.map((label) => [`${task}: ${label}`, answer[`${task}.${label}`]]);
  return answer.probabilities ?? Object.fromEntries(Object.entries(about.tasks).flatMap(of));
}

function verdict(item, kind, strong, text) {
  const place = item.querySelector(".verdict");
  const bold = document.createElement("b");
  bold.textContent = strong;
  place.replaceChildren(bold, text);
  place.classList.add(kind);
  place.hidden = false;
}

function bar(label, share, chosen) {
  const line = document.createElement("li");
  const [name, track, number] = ["span", "span", "span"].map((tag) => document.createElement(tag));
  const fill = document.createElement("i");
  name.textContent = label;
  track.className = "track";
  fill.style.width = `${100 * share}%`;
  track.append(fill);
  number.className = "share";
  number.textContent = `${(100 * share).toFixed(1)} %`;
  line.dataset.label = label;
  line.dataset.probability = share;
  line.classList.toggle("chosen", label === chosen);
  line.append(name, track, number);
  return line;
}

function explain(item, content) {
  if (content.heat_map) {
    const heat = item.querySelector(".heat");
    heat.src = content.heat_map;
    heat.alt = `Heat map for ${content.label}`;
    item.querySelector(".map figcaption").textContent = `What speaks for ${content.label} is bright`;
    item.querySelector(".map").hidden = false;
  }
  if (!content.nearest.length) return;
  const list = item.querySelector(".near ul");
  for (const image of content.nearest) {
    const line = document.createElement("li");
    const picture = document.createElement("img");
    picture.src = image.picture;
    picture.alt = image.path;
    picture.title = image.path;
    line.append(picture, image.label);
    list.append(line);
  }
  item.querySelector(".near").hidden = false;
}

// --- corrections

function prepareCorrection(item, file, answer) {
  if (!about.labels.includes(answer)) return;
  const form = item.querySelector("form.correct");
  const select = form.querySelector("select");
  select.append(...about.labels.map((label) => new Option(label, label, label === answer, label === answer)));
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const said = form.querySelector(".queued");
    const content = new FormData();
    content.append("answer", answer);
    content.append("label", select.value);
    content.append("image", file, file.name || "picture");
    try {
      const queued = await ask("/corrections", { method: "POST", body: content });
      said.classList.remove("failed");
      said.textContent = `Queued as ${select.value}. Apply the queue: ${queued.command}`;
    } catch (error) {
      said.classList.add("failed");
      said.textContent = error.message;
    }
  });
}

// --- drop, paste, choose, photograph

const drop = find("drop");
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
addEventListener("dragover", () => drop.classList.add("over"));
addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
addEventListener("drop", (event) => {
  drop.classList.remove("over");
  add(event.dataTransfer.files);
});
addEventListener("paste", (event) => add(event.clipboardData.files));
for (const [button, input] of [["choose", "files"]]) find(button).addEventListener("click", () => find(input).click());
for (const input of ["files", "camera"]) {
  find(input).addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = "";
  });
}
find("photograph").addEventListener("click", async () => {
  // A phone opens its own camera; a computer shows what its camera sees, where the browser allows that.
  if (matchMedia("(pointer: coarse)").matches || !navigator.mediaDevices) return find("camera").click();
  try {
    find("view").srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
    find("finder").showModal();
  } catch {
    find("camera").click();
  }
});
find("shoot").addEventListener("click", () => {
  const view = find("view");
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [view.videoWidth, view.videoHeight];
  canvas.getContext("2d").drawImage(view, 0, 0);
  canvas.toBlob((blob) => {
    if (blob) add([new File([blob], "photo.jpg", { type: blob.type })]);
    find("finder").close();
  }, "image/jpeg", 0.92);
});
find("away").addEventListener("click", () => find("finder").close());
find("finder").addEventListener("close", () => {
  for (const track of find("view").srcObject?.getTracks() ?? []) track.stop();
  find("view").srcObject = null;
});
find("clear").addEventListener("click", () => {
  waiting.length = 0;
  [total, done] = [running, 0];
  find("pictures").replaceChildren();
  progress();
  find("choose").focus();
});
find("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = find("token").value.trim();
  sessionStorage.setItem(kept, token);
  meet();
});
meet();
