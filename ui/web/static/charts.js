// Bars of percentages, and latency against recall. Every mark has its value or its number in words.
function bars(groups) {
  return el("div", { class: "bars" }, groups.map(({ name, rows }) => el("div", { class: "group" },
    el("div", { class: "k" }, name),
    rows.map(({ label, value, kind }) => el("div", { class: `row ${kind}` },
      el("span", { class: "label" }, label),
      el("span", { class: "track", "aria-hidden": "true" }, el("span", { class: "bar", style: { width: `${Math.min(100, Math.max(0, value))}%` } })),
      el("span", { class: "value" }, value.toFixed(1)))))));
}

function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// points: {number, x (ms), y (0..1), name, chosen}; drawn anew for every width.
function curve(points, target) {
  const frame = el("div", { class: "curve" });
  let width = 0;
  new ResizeObserver(([entry]) => {
    const now = Math.round(entry.contentRect.width);
    if (now > 0 && now !== width) frame.replaceChildren(drawn(points, target, (width = now)));
  }).observe(frame);
  return frame;
}

function drawn(points, target, width) {
  const height = width < 500 ? 300 : 360;
  const left = 50, right = 16, top = 14, bottom = 44;
  const low = Math.min(target, ...points.map((point) => point.y));
  const floor = Math.max(0, Math.floor((low - 0.002) * 50) / 50);
  const first = Math.min(...points.map((point) => point.x)) / 1.3, last = Math.max(...points.map((point) => point.x)) * 1.3;
  const across = (x) => left + (width - left - right) * Math.log(x / first) / Math.log(last / first);
  const up = (y) => top + (height - top - bottom) * (1 - (y - floor) / (1.004 - floor));
  const text = (x, y, words, attributes = {}) => shape("text", { x, y, ...attributes }, words);
  const image = shape("svg", { width, height, role: "img", "aria-label": "Latency against ann_recall; the same numbers are in the table below" });

  const step = 1 - floor > 0.5 ? 0.2 : 1 - floor > 0.2 ? 0.1 : 1 - floor > 0.1 ? 0.05 : 1 - floor > 0.05 ? 0.02 : 0.01;
  for (let n = 0; 1 - n * step >= floor - 1e-9; n++) {
    const y = up(1 - n * step);
    image.append(shape("line", { x1: left, x2: width - right, y1: y, y2: y, class: "grid" }), text(left - 8, y + 4, (1 - n * step).toFixed(2), { "text-anchor": "end" }));
  }
  for (const x of ticks(first, last, width < 500)) {
    const at = across(x);
    image.append(shape("line", { x1: at, x2: at, y1: top, y2: height - bottom, class: "grid" }), text(at, height - bottom + 18, `${x} ms`, { "text-anchor": "middle" }));
  }
  if (target >= floor && target <= 1) {
    image.append(shape("line", { x1: left, x2: width - right, y1: up(target), y2: up(target), class: "target" }));
    image.append(text(width - right - 4, up(target) + 15, `asked for: ${target}`, { class: "strong", "text-anchor": "end" }));
  }
  image.append(shape("polyline", { points: best(points).map(({ x, y }) => `${across(x)},${up(y)}`).join(" "), class: "best" }));
  for (const [point, x, y] of apart(points.map((point) => [point, across(point.x), up(point.y)]))) {
    const dot = shape("g", { class: point.chosen ? "point chosen" : "point" }, shape("title", {}, `${point.name}: ${point.x.toFixed(2)} ms, ann_recall ${point.y.toFixed(3)}`));
    dot.append(shape("line", { x1: across(point.x), y1: up(point.y), x2: x, y2: y, class: "leader" }));
    if (point.chosen) dot.append(shape("circle", { cx: x, cy: y, r: 15, class: "ring" }));
    dot.append(shape("circle", { cx: x, cy: y, r: 10 }), text(x, y + 4, `${point.number}`, { "text-anchor": "middle" }));
    image.append(dot);
  }
  image.append(text((left + width - right) / 2, height - 6, "median of one query, from end to end", { "text-anchor": "middle" }));
  return image;
}

// Points that no other one beats in both, from the fastest on.
function best(points) {
  const kept = [];
  for (const point of [...points].sort((a, b) => a.x - b.x || b.y - a.y))
    if (!kept.length || point.y > kept.at(-1).y) kept.push(point);
  return kept;
}

// Marks of the same place side by side, so that each number can be read.
function apart(marks) {
  const placed = [];
  for (const [point, x, y] of marks) {
    let at = y;
    for (let tries = 0; tries < 12 && placed.some(([, px, py]) => Math.hypot(px - x, py - at) < 23); tries++) at += 12;
    placed.push([point, x, at]);
  }
  return placed;
}

function ticks(first, last, few) {
  const found = [];
  for (let power = -4; power < 6; power++)
    for (const digit of last / first > 60 && few ? [1] : last / first > 8 || few ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7]) {
      const x = Number((digit * 10 ** power).toPrecision(2));
      if (x >= first && x <= last) found.push(x);
    }
  return found;
}
