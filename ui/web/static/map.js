// The map: points from afar, pictures from near; to be dragged, pinched, or moved by the keyboard.
const canvas = element.querySelector(".points");
const plane = element.querySelector(".plane");
const tip = element.querySelector(".tip");
const near = element.querySelector(".near");
const said = element.querySelector(".said");
const make = element.querySelector(".make");
const nothing = element.querySelector(".nothing");
const form = element.querySelector("form");
const clear = element.querySelector(".clear");
const foundText = element.querySelector(".found");
const context = canvas.getContext("2d");
const view = new View();
const pictures = new Pictures(() => draw());
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
const REACH = 14; // pixels around a point that are its own
let points = null;
let pixels = null;
let shown = []; // pictures on the screen: {row, left, top, side}
let current = -1; // row
let waiting = false;
let colours = null;
let times = (canvas.frames = []); // milliseconds of the last frames, for measurements

// --- Drawing

function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    if (!canvas.isConnected) return;
    const began = performance.now();
    paint();
    times.push(performance.now() - began);
    if (times.length > 600) times.splice(0, 300);
  });
}

function rgbOf(name, fallback) {
  const probe = el("i", { style: { color: `var(${name}, ${fallback})`, display: "none" } });
  plane.append(probe);
  const [r, g, b] = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
  probe.remove();
  return [r, g, b];
}

function readColours() {
  colours = { point: rgbOf("--body-text-color", "#888"), accent: rgbOf("--color-accent", "#66f"), edge: rgbOf("--background-fill-primary", "#fff") };
}

function paint() {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [Math.round(plane.clientWidth * ratio), Math.round(plane.clientHeight * ratio)];
  if (!width || !height) return;
  if (canvas.width !== width || canvas.height !== height || !pixels) {
    [canvas.width, canvas.height] = [width, height];
    view.resize(plane.clientWidth, plane.clientHeight);
    pixels = context.createImageData(width, height);
    pixels.words = new Uint32Array(pixels.data.buffer);
  }
  if (!colours) readColours();
  context.setTransform(1, 0, 0, 1, 0, 0);
  if (!points) return context.clearRect(0, 0, width, height);
  paintPoints(ratio);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  paintPictures(ratio);
  const of = shown.find(({ row }) => row === current);
  if (current >= 0) mark(of);
}

// Points go straight into the pixels: a hundred thousand of them take a few milliseconds.
function paintPoints(ratio) {
  const { data, words, width, height } = pixels;
  const [r, g, b] = colours.point;
  words.fill((b << 16) | (g << 8) | r);
  const zoom = view.scale / view.fitting;
  const room = (view.fitting * zoom * ratio) / Math.sqrt(points.size); // pixels between two points
  const side = Math.max(2, Math.min(Math.round(5 * ratio), Math.round(room / 2.2)));
  const strength = (points.hits.size ? 0.4 : 1) * (side > 2 ? 190 : 120);
  const half = (side - 1) / 2; // a disc, line by line
  const cuts = Array.from({ length: side }, (_, line) => Math.round(half - Math.sqrt((half + 0.4) ** 2 - (line - half) ** 2)));
  const scale = view.scale * ratio;
  const [left, top] = [width / 2 - view.x * scale - side / 2, height / 2 - view.y * scale - side / 2];
  const [x0, y0] = view.toPlane(-8, -8);
  const [x1, y1] = view.toPlane(view.width + 8, view.height + 8);
  const { x, y } = points;
  points.each(x0, y0, x1, y1, (row) => {
    const px = Math.floor(x[row] * scale + left);
    const py = Math.floor(y[row] * scale + top);
    if (px < 0 || py < 0 || px + side > width || py + side > height) return;
    for (let line = 0; line < side; line++) {
      let at = 4 * ((py + line) * width + px + cuts[line]) + 3;
      for (let n = side - 2 * cuts[line]; n > 0; n--, at += 4) data[at] += strength;
    }
  });
  context.putImageData(pixels, 0, 0);
}

function cellLevel() {
  return Math.max(0, Math.floor(Math.log2(view.scale / (view.width < 600 ? 44 : 62))));
}

function paintPictures(ratio) {
  const level = cellLevel();
  const cells = 2 ** level;
  const size = view.scale / cells; // pixels a cell
  const [x0, y0] = view.toPlane(0, 0).map((v) => Math.max(0, Math.floor((v * cells) / TILE)));
  const [x1, y1] = view.toPlane(view.width, view.height).map((v) => Math.min(Math.ceil(cells / TILE) - 1, Math.floor((v * cells) / TILE)));
  shown = [];
  for (let line = y0; line <= y1; line++) {
    for (let column = x0; column <= x1; column++) {
      const tile = points.tile(level, column, line);
      const side = size * Math.max(0.62, 0.95 - 0.07 * Math.log2(tile.crowded));
      for (const [cell, row] of tile.shown) place(row, column * TILE + (cell % TILE), line * TILE + ((cell / TILE) | 0), cells, side);
    }
  }
  const [mx, my] = [view.width / 2, view.height / 2];
  const away = (one) => Math.hypot(one.left + one.side / 2 - mx, one.top + one.side / 2 - my) - (points.hits.has(one.row) ? 1e5 : 0);
  const order = shown.map((one) => [away(one), points.ids[one.row]]).sort((a, b) => a[0] - b[0]);
  pictures.want(order.map(([, id]) => id));
  const few = shown.length > points.hits.size; // so near that each hit is a picture
  if (points.hits.size && few) paintHits();
  for (const one of shown) paintPicture(one);
  if (points.hits.size && !few) paintHits();
}

// A picture as near to its point as its cell allows, so that no two ever overlap.
function place(row, column, line, cells, side) {
  const half = side / 2 / view.scale;
  const within = (v, cell) => Math.max(cell / cells + half, Math.min((cell + 1) / cells - half, v));
  const [px, py] = view.toScreen(within(points.x[row], column), within(points.y[row], line));
  const [left, top] = [px - side / 2, py - side / 2];
  if (left < view.width && top < view.height && left + side > 0 && top + side > 0) shown.push({ row, left, top, side });
}

function paintPicture({ row, left, top, side }) {
  const bitmap = pictures.get(points.ids[row]);
  if (!bitmap) return;
  const isHit = points.hits.has(row);
  context.globalAlpha = points.hits.size && !isHit ? 0.3 : 1;
  context.drawImage(bitmap, left, top, side, side);
  context.globalAlpha = 1;
  if (isHit) {
    context.lineWidth = 3;
    context.strokeStyle = `rgb(${colours.accent})`;
    context.strokeRect(left + 1.5, top + 1.5, side - 3, side - 3);
  }
}

function paintHits() {
  const seen = new Set(shown.filter(({ row }) => pictures.get(points.ids[row])).map(({ row }) => row));
  context.fillStyle = `rgb(${colours.accent})`;
  context.strokeStyle = `rgb(${colours.edge})`;
  context.lineWidth = 1.5;
  for (const row of points.hits.keys()) {
    const [px, py] = view.toScreen(points.x[row], points.y[row]);
    if (seen.has(row) || px < -9 || py < -9 || px > view.width + 9 || py > view.height + 9) continue;
    context.beginPath();
    context.arc(px, py, 4, 0, 7);
    context.fill();
    context.stroke();
  }
}

function mark(picture) {
  context.strokeStyle = `rgb(${colours.accent})`;
  context.lineWidth = 4;
  if (picture && pictures.get(points.ids[current])) {
    context.strokeRect(picture.left - 1, picture.top - 1, picture.side + 2, picture.side + 2);
  } else {
    const [px, py] = view.toScreen(points.x[current], points.y[current]);
    context.beginPath();
    context.arc(px, py, 8, 0, 7);
    context.stroke();
  }
}

// --- One picture: under the pointer, or in the middle

function at(px, py) {
  if (!points) return -1;
  const over = shown.find((one) => px >= one.left && py >= one.top && px <= one.left + one.side && py <= one.top + one.side && pictures.get(points.ids[one.row]));
  return over ? over.row : points.nearest(...view.toPlane(px, py), REACH / view.scale);
}

function middle() {
  const [mx, my] = [view.width / 2, view.height / 2];
  let [best, least] = [-1, Infinity];
  for (const { row, left, top, side } of shown) {
    const away = Math.hypot(left + side / 2 - mx, top + side / 2 - my);
    if (away < least) [best, least] = [row, away];
  }
  return best >= 0 ? best : points ? points.nearest(view.x, view.y, Math.max(view.width, view.height) / view.scale) : -1;
}

let shownTip = null;
async function select(row, px, py, aloud = false) {
  const changed = row !== current;
  current = row;
  canvas.classList.toggle("over", row >= 0);
  if (changed) draw();
  if (row < 0) return void (tip.hidden = true);
  const id = points.ids[row];
  const turn = (shownTip = {});
  if (!pictures.name(id)) {
    await new Promise((go) => setTimeout(go, 60)); // not for every point that is passed over
    if (turn !== shownTip) return;
    const { pictures: some } = await fetched(`/api/v1/map/pictures?ids=${id}`).catch(() => ({ pictures: [] }));
    if (some.length) pictures.named.set(id, some[0]);
  }
  const one = pictures.name(id);
  if (turn !== shownTip || current !== row || !one) return;
  const [image, label] = tip.children;
  if (image.dataset.of !== one.thumb) {
    image.hidden = true;
    image.onload = () => (image.hidden = false);
    image.src = `${one.thumb}?size=320`;
    image.dataset.of = one.thumb;
  }
  label.textContent = one.name;
  tip.hidden = false;
  const left = Math.max(6, Math.min(view.width - 224, px + 18));
  const below = py < view.height / 2;
  tip.style.transform = `translate(${left}px, ${below ? py + 18 : py - 18}px) translateY(${below ? 0 : -100}%)`;
  if (aloud) near.textContent = `${one.name}; Enter opens it`;
}

function open(row) {
  if (row < 0) return;
  remember();
  location.assign(`/?image=${points.ids[row]}`);
}

// --- Moving

let remembering = 0;
function moved() {
  draw();
  clearTimeout(remembering);
  remembering = setTimeout(remember, 300);
}

function remember() {
  const place = [view.x.toFixed(5), view.y.toFixed(5), (view.scale / view.fitting).toFixed(3)].join(",");
  history.replaceState(history.state, "", `${location.pathname}${location.search}#at=${place}`);
}

function recall() {
  const found = location.hash.match(/^#at=([\d.]+),([\d.]+),([\d.]+)$/);
  view.fit();
  if (!found) return;
  const [x, y, zoom] = found.slice(1).map(Number);
  if (![x, y, zoom].every(Number.isFinite)) return;
  Object.assign(view, { x, y, scale: view.fitting * zoom });
  view.limit();
}

// Goes on in small steps, so that the eye can follow.
let gliding = 0;
function glide(step, frames = 9) {
  const turn = ++gliding;
  if (still) {
    for (let i = 0; i < frames; i++) step(1 / frames);
    return moved();
  }
  const next = (left) => {
    if (turn !== gliding || left === 0) return;
    step(1 / frames);
    moved();
    requestAnimationFrame(() => next(left - 1));
  };
  next(frames);
}

const zoomBy = (factor, px, py) => glide((part) => view.zoom(factor ** part, px, py));
const moveBy = (dx, dy) => glide((part) => view.move(dx * part, dy * part));

function fit() {
  gliding++;
  view.fit();
  moved();
}

const fingers = new Map();
let travelled = 0;
const spot = (event) => {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};
const pinch = () => {
  const [[ax, ay], [bx, by]] = [...fingers.values()];
  return { x: (ax + bx) / 2, y: (ay + by) / 2, apart: Math.max(1, Math.hypot(ax - bx, ay - by)) };
};

canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, spot(event));
  gliding++;
  travelled = fingers.size > 1 ? 1e3 : 0;
});
canvas.addEventListener("pointermove", (event) => {
  const here = spot(event);
  const before = fingers.get(event.pointerId);
  if (!before) return void (event.pointerType === "mouse" && select(at(...here), ...here));
  const was = fingers.size === 2 && pinch();
  fingers.set(event.pointerId, here);
  travelled += Math.hypot(here[0] - before[0], here[1] - before[1]);
  if (was) {
    const now = pinch();
    view.move(now.x - was.x, now.y - was.y);
    view.zoom(now.apart / was.apart, now.x, now.y);
  } else if (fingers.size === 1 && travelled > 4) {
    view.move(here[0] - before[0], here[1] - before[1]);
    canvas.classList.add("dragging");
  }
  if (travelled > 4) select(-1);
  moved();
});
canvas.addEventListener("pointerup", (event) => {
  const here = spot(event);
  const row = at(...here);
  const tapped = fingers.delete(event.pointerId) && travelled <= 4;
  canvas.classList.remove("dragging");
  if (!tapped) return;
  if (event.pointerType === "mouse" || row === current) open(row); // a finger looks first
  else select(row, ...here, true);
});
canvas.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && select(-1));
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  gliding++;
  const pixels = event.deltaY * [1, 16, 100][event.deltaMode];
  view.zoom(Math.exp(-Math.max(-240, Math.min(240, pixels)) / (event.ctrlKey ? 110 : 420)), ...spot(event));
  select(-1);
  moved();
}, { passive: false });

const keys = {
  "+": () => zoomBy(1.6), "=": () => zoomBy(1.6), "-": () => zoomBy(1 / 1.6), "0": fit, Home: fit,
  ArrowLeft: () => moveBy(90, 0), ArrowRight: () => moveBy(-90, 0), ArrowUp: () => moveBy(0, 90), ArrowDown: () => moveBy(0, -90),
};
let settling = 0;
canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Enter") return open(current >= 0 ? current : middle());
  if (event.key === "Escape") return select(-1);
  const act = keys[event.key];
  if (!act) return;
  event.preventDefault();
  act();
  clearTimeout(settling);
  settling = setTimeout(lookAtMiddle, 260);
});
canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && lookAtMiddle());
canvas.addEventListener("blur", () => select(-1));

function lookAtMiddle() {
  const row = middle();
  if (row < 0) return;
  const of = shown.find((one) => one.row === row);
  const place = of ? [of.left + of.side / 2, of.top + of.side / 2] : view.toScreen(points.x[row], points.y[row]);
  select(row, ...place, true);
}

element.querySelector(".in").addEventListener("click", () => zoomBy(1.8));
element.querySelector(".out").addEventListener("click", () => zoomBy(1 / 1.8));
element.querySelector(".reset").addEventListener("click", fit);

// --- Words that light up what fits them

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const words = form.elements.q.value.trim();
  if (!words) return unlight();
  foundText.className = "found";
  foundText.textContent = "Searching…";
  try {
    const { hits } = await fetched(`/api/v1/search?${new URLSearchParams({ q: words, k: 200 })}`);
    if (!points) return void (foundText.textContent = "There is no map yet.");
    points.highlight(hits.map((hit) => hit.image_id));
    foundText.textContent = points.hits.size ? `The ${points.hits.size} best for “${words}”` : "Nothing on the map fits.";
    clear.hidden = false;
    draw();
  } catch (error) {
    foundText.className = "found error";
    foundText.textContent = error.message;
  }
});
form.addEventListener("keydown", (event) => event.key === "Escape" && unlight());
clear.addEventListener("click", unlight);

function unlight() {
  form.elements.q.value = foundText.textContent = "";
  foundText.className = "found";
  clear.hidden = true;
  if (points) points.highlight([]);
  draw();
}

// --- What there is of a map, and making it

const number = (n) => n.toLocaleString("en");
const duration = (s) => (s < 90 ? `${Math.max(1, Math.round(s))} s` : `${Math.round(s / 60)} min`);

function tell(state) {
  said.className = "said";
  make.hidden = state.state === "computing";
  make.textContent = state.state === "none" ? "Make the map" : "Make it anew";
  const last = state.last_seconds ? `; the last one took ${duration(state.last_seconds)}` : "";
  if (state.state === "computing") {
    said.textContent = `Making the map: ${state.step}, ${duration(state.seconds)} so far${last}. Searches go on meanwhile.`;
  } else if (state.error) {
    said.className = "said error";
    said.textContent = state.error;
    make.textContent = "Try again";
  } else if (state.pictures) {
    const lacking = state.lacking ? `; ${number(state.lacking)} that are new are not on it yet` : "";
    said.textContent = `${number(state.pictures)} pictures, those alike close together${lacking}.`;
  } else {
    said.textContent = state.lacking ? `${number(state.lacking)} pictures, no map of them yet.` : "The library is empty: fill it with `rwkvsearch index PATH`.";
  }
  nothing.hidden = state.pictures > 0;
  nothing.textContent = state.state === "computing" ? "The map is being made. It appears here." : said.textContent;
  canvas.setAttribute("aria-label", `Map of ${number(state.pictures)} pictures. Arrow keys move it, plus and minus zoom, 0 shows everything, Enter opens the picture in the middle.`);
}

async function load() {
  const found = await fetched("/api/v1/map");
  if (found.ids.length) {
    const first = !points;
    points = new Points(found);
    select(-1);
    if (first) {
      paint();
      recall();
    }
    if (form.elements.q.value.trim() && points) form.requestSubmit();
  }
  tell(found.state);
  draw();
  return found.state;
}

async function start(anew) {
  make.hidden = true;
  try {
    tell(await fetched(`/api/v1/map${anew ? "?anew=true" : ""}`, { method: "POST" }));
    await follow();
  } catch (error) {
    said.className = "said error";
    said.textContent = error.message;
    make.hidden = false;
  }
}

async function follow() {
  let state = { state: "computing" };
  while (state.state === "computing" && canvas.isConnected) {
    await new Promise((go) => setTimeout(go, 1000));
    state = await fetched("/api/v1/map/state").catch(() => state);
    if (state.step) tell(state);
  }
  if (canvas.isConnected) await load();
}

make.addEventListener("click", () => start(make.textContent !== "Make the map"));
new ResizeObserver(() => draw()).observe(plane);
new MutationObserver(() => {
  colours = null;
  draw();
}).observe(document.body, { attributes: true, attributeFilter: ["class"] });

// Whoever opens the page wants a map; one that failed is not tried again unasked.
load().then((state) => {
  if (state.state === "computing") return follow();
  if (!state.error && (state.state === "outdated" || (state.state === "none" && state.lacking))) return start(false);
}).catch((error) => {
  said.className = "said error";
  said.textContent = error.message;
});
