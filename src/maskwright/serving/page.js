"use strict";
const $ = (id) => document.getElementById(id);
const canvas = $("canvas"), paper = canvas.getContext("2d", { willReadFrequently: true });
let models = [], file = null, source = null, found = null, objects = [], owner = null, hovered = -1, turn = 0;

// ---- the server ------------------------------------------------------------------------------------------------

function tell(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("bad", bad);
}

async function ask(route, options = {}) {
  const headers = $("key").value ? { Authorization: `Bearer ${$("key").value}` } : {};
  const answer = await fetch(route, { ...options, headers });
  if (answer.ok) return answer.json();
  if (answer.status === 401) $("lock").hidden = false;
  let detail = `${answer.status} ${answer.statusText}`;
  try { detail = (await answer.json()).detail; } catch { /* a proxy answered */ }
  throw new Error(detail);
}

async function listModels() {
  try {
    models = (await ask("models")).models;
    $("model").replaceChildren(...models.map((m) => new Option(m.name, m.name)));
    tell("The image goes to this server only.");
  } catch (error) { tell(error.message, true); }
}

async function predict() {
  if (!file) return;
  if (!models.length) await listModels();
  const model = models.find((m) => m.name === $("model").value), mine = ++turn;
  if (!model) return;
  tell(`Looking at ${file.name} ...`);
  try {
    const lowest = Math.min(model.score, Math.max(model.lowest_score, 0.05));
    const query = new URLSearchParams({ model: model.name, score: lowest, format: "json" });
    const answer = await ask(`predict?${query}`, { method: "POST", body: file });
    let bitmap = null;
    try { bitmap = await createImageBitmap(file, { imageOrientation: "from-image" }); } catch { /* not a browser's format */ }
    if (mine !== turn) return;
    const [height, width] = answer.size;
    source = bitmap && bitmap.width === width && bitmap.height === height ? bitmap : null;
    found = answer;
    objects = answer.instances.map((row) => ({ ...row, ...decoded(row, height, width), rejected: false }));
    const notes = [...answer.notes, answer.limit_note, source ? "" : "The browser does not show this format: objects on grey."];
    tell(`${file.name}, ${width} x ${height}. ${notes.filter(Boolean).join(" ")}`);
    $("score").min = lowest;
    $("score").value = model.score;
    listClasses();
    show();
  } catch (error) { if (mine === turn) tell(error.message, true); }
}

// ---- run lengths: COCO's compressed counts, column by column -----------------------------------------------------

function runs(text) {
  const out = [];
  for (let i = 0; i < text.length;) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const code = text.charCodeAt(i++) - 48;
      value |= (code & 31) << shift;
      shift += 5;
      more = (code & 32) !== 0;
      if (!more && code & 16) value |= -1 << shift;
    }
    out.push(out.length > 2 ? value + out[out.length - 2] : value);
  }
  return out;
}

function decoded(row, height, width) {
  const spans = [];  // of pixels in column order: first, end
  let area = 0;
  if (row.segmentation) {
    let at = 0;
    runs(row.segmentation.counts).forEach((length, i) => {
      if (i % 2 && length) { spans.push(at, at + length); area += length; }
      at += length;
    });
  } else {
    const [x0, y0, x1, y1] = row.box.map(Math.round);
    for (let x = Math.max(x0, 0); x < Math.min(x1, width); x++) spans.push(x * height + Math.max(y0, 0), x * height + Math.min(y1, height));
    area = (row.box[2] - row.box[0]) * (row.box[3] - row.box[1]);
  }
  return { spans, area };
}

// ---- what is shown -----------------------------------------------------------------------------------------------

const chosen = (label) => { const box = document.querySelector(`#classes input[value="${label}"]`); return !box || box.checked; };
const visible = () => { const score = Number($("score").value); return objects.map((o) => o.score >= score && chosen(o.label)); };
const words = (o) => `${o.name}, score ${o.score.toFixed(2)}, ${Math.round(o.area)} pixels`;

function listClasses() {
  const counts = new Map();
  objects.forEach((o) => counts.set(o.label, (counts.get(o.label) || 0) + 1));
  $("classes").replaceChildren(...[...counts].sort((a, b) => a[0] - b[0]).map(([label, count]) => {
    const line = document.createElement("label"), box = document.createElement("input");
    Object.assign(box, { type: "checkbox", value: label, checked: true });
    line.append(box, ` ${found.classes[label].name} (${count})`);
    return line;
  }));
}

function show() {
  const shown = visible(), kept = objects.filter((o, i) => shown[i] && !o.rejected).length;
  $("frame").hidden = $("side").hidden = false;
  $("level").textContent = Number($("score").value).toFixed(2);
  $("count").textContent = `${kept} of ${objects.length} objects kept`;
  $("list").replaceChildren(...objects.flatMap((o, i) => shown[i] ? [listed(o, i)] : []));
  hovered = -1;
  $("tip").hidden = true;
  draw(shown);
}

function listed(object, i) {
  const item = document.createElement("li"), button = document.createElement("button");
  const name = document.createElement("span"), score = document.createElement("span");
  name.textContent = object.name;
  score.textContent = `${object.score.toFixed(2)}  ${Math.round(object.area)} px`;
  Object.assign(button, { type: "button" });
  button.dataset.row = i;
  button.setAttribute("aria-pressed", object.rejected);
  button.setAttribute("aria-label", `Reject ${words(object)}`);
  button.append(name, score);
  button.addEventListener("click", () => reject(i));
  button.addEventListener("focus", () => hover(i));
  button.addEventListener("mouseenter", () => hover(i));
  item.append(button);
  return item;
}

function colour(i, object) {
  if (object.rejected) return [128, 128, 128];
  const hue = (i * 137.508) % 360, part = (n) => { const k = (n + hue / 30) % 12; return 255 * (0.55 - 0.45 * Math.max(-1, Math.min(k - 3, 9 - k, 1))); };
  return [part(0), part(8), part(4)];
}

function draw(shown = visible()) {
  const [height, width] = found.size;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  paper.fillStyle = "#808080";
  paper.fillRect(0, 0, width, height);
  if (source) paper.drawImage(source, 0, 0);
  const image = paper.getImageData(0, 0, width, height), pixels = image.data;
  owner = new Int32Array(width * height).fill(-1);  // in column order, as the spans
  for (let i = objects.length - 1; i >= 0; i--) {  // the best last
    if (!shown[i]) continue;
    for (let s = 0; s < objects[i].spans.length; s += 2) owner.fill(i, objects[i].spans[s], objects[i].spans[s + 1]);
  }
  const tones = objects.map((o, i) => colour(i, o));
  for (let at = 0; at < owner.length; at++) {
    const i = owner[at];
    if (i < 0) continue;
    const y = at % height, p = 4 * (y * width + (at - y) / height);
    const edge = y === 0 || y === height - 1 || owner[at - 1] !== i || owner[at + 1] !== i || owner[at - height] !== i || owner[at + height] !== i;
    const part = objects[i].rejected ? (edge ? 0.8 : 0.1) : i === hovered ? 0.75 : edge ? 1 : 0.4;
    for (let c = 0; c < 3; c++) pixels[p + c] += part * (tones[i][c] - pixels[p + c]);
  }
  paper.putImageData(image, 0, 0);
}

function hover(i, x = null, y = null) {
  if (i !== hovered) {
    hovered = i;
    draw();
    document.querySelectorAll("#list button.on").forEach((b) => b.classList.remove("on"));
    document.querySelector(`#list button[data-row="${i}"]`)?.classList.add("on");
  }
  const tip = $("tip");
  tip.hidden = i < 0;
  if (i < 0) return;
  const scale = canvas.clientWidth / canvas.width, [x0, y0, x1] = objects[i].box;
  tip.textContent = words(objects[i]) + (objects[i].rejected ? ", rejected" : "");
  const left = x ?? (x0 + x1) / 2 * scale, top = y ?? y0 * scale;
  tip.style.left = `${Math.max(0, Math.min(left + 10, canvas.clientWidth - tip.offsetWidth))}px`;
  tip.style.top = `${Math.max(0, top - 32)}px`;
}

function under(event) {
  const scale = canvas.width / canvas.clientWidth, height = canvas.height;
  const x = Math.floor(event.offsetX * scale), y = Math.floor(event.offsetY * scale);
  return owner && x >= 0 && x < canvas.width && y >= 0 && y < height ? owner[x * height + y] : -1;
}

function reject(i) {
  if (i < 0) return;
  const inList = document.activeElement?.dataset?.row === String(i);
  objects[i].rejected = !objects[i].rejected;
  const place = $("list").scrollTop;
  show();
  $("list").scrollTop = place;
  if (inList) document.querySelector(`#list button[data-row="${i}"]`)?.focus();
}

function save() {
  const [height, width] = found.size, shown = visible();
  const kept = objects.filter((o, i) => shown[i] && !o.rejected);
  const annotations = kept.map((o, k) => ({
    id: k + 1, image_id: 1, category_id: found.classes[o.label].id, iscrowd: 0, area: o.area, score: o.score,
    bbox: [o.box[0], o.box[1], o.box[2] - o.box[0], o.box[3] - o.box[1]],
    ...(o.segmentation ? { segmentation: o.segmentation } : {}),
  }));
  const categories = found.classes.map((c) => ({ id: c.id, name: c.name }));
  const text = JSON.stringify({ images: [{ id: 1, file_name: file.name, width, height }], categories, annotations });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = `${file.name.replace(/\.[^.]*$/, "")}.coco.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// ---- what the user does --------------------------------------------------------------------------------------------

function take(list) { if (list.length) { file = list[0]; predict(); } }

$("file").addEventListener("change", (event) => take(event.target.files));
$("model").addEventListener("change", predict);
$("key").addEventListener("change", async () => { await listModels(); predict(); });
$("score").addEventListener("input", show);
$("classes").addEventListener("change", show);
$("save").addEventListener("click", save);
canvas.addEventListener("mousemove", (event) => hover(under(event), event.offsetX, event.offsetY));
canvas.addEventListener("mouseleave", () => hover(-1));
canvas.addEventListener("click", (event) => reject(under(event)));
document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
document.addEventListener("drop", (event) => { event.preventDefault(); $("drop").classList.remove("over"); take(event.dataTransfer.files); });
document.addEventListener("paste", (event) => take(event.clipboardData.files));
listModels();
