// The points of a map, found by where they lie, and which of them are shown as pictures.
const GRID = 256; // buckets a side
const TILE = 8; // cells a side: pictures give way to each other within a tile
const CROWD = 40; // pictures of a tile that can all be shown

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function readPoints(found) {
  const ids = new Float64Array(found.ids);
  for (let i = 1; i < ids.length; i++) ids[i] += ids[i - 1];
  const [x, y] = [found.x, found.y].map((text) => Float32Array.from(new Uint16Array(bytesOf(text).buffer), (v) => v / 65536)); // below 1, so each is in a cell
  return { ids, x, y };
}

// An order that is the same each time, and in which the first ones lie everywhere.
function shuffledRanks(count) {
  const ranks = new Uint32Array(count);
  for (let i = 0; i < count; i++) {
    let h = Math.imul(i + 1, 0x9e3779b1);
    h = Math.imul(h ^ (h >>> 15), 0x85ebca77);
    ranks[i] = h ^ (h >>> 13);
  }
  return ranks;
}

class Points {
  constructor(found) {
    Object.assign(this, readPoints(found));
    this.size = this.ids.length;
    this.ranks = shuffledRanks(this.size);
    this.rowOf = new Map(Array.from(this.ids, (id, row) => [id, row]));
    this.hits = new Map(); // row -> rank of a search
    this.tiles = new Map();
    const bucket = (row) => Math.min(GRID - 1, (this.y[row] * GRID) | 0) * GRID + Math.min(GRID - 1, (this.x[row] * GRID) | 0);
    this.starts = new Uint32Array(GRID * GRID + 1);
    for (let i = 0; i < this.size; i++) this.starts[bucket(i) + 1]++;
    for (let b = 0; b < GRID * GRID; b++) this.starts[b + 1] += this.starts[b];
    const next = this.starts.slice();
    this.rows = new Uint32Array(this.size);
    for (let i = 0; i < this.size; i++) this.rows[next[bucket(i)]++] = i;
  }

  highlight(ids) {
    this.hits = new Map();
    for (const id of ids) if (this.rowOf.has(id)) this.hits.set(this.rowOf.get(id), this.hits.size);
    this.tiles.clear();
  }

  // Calls `tell` with every row in a rectangle, and perhaps a few around it.
  each(left, top, right, bottom, tell) {
    const at = (v) => Math.max(0, Math.min(GRID - 1, (v * GRID) | 0));
    for (let b = at(top); b <= at(bottom); b++) {
      const end = this.starts[b * GRID + at(right) + 1];
      for (let i = this.starts[b * GRID + at(left)]; i < end; i++) tell(this.rows[i]);
    }
  }

  nearest(x, y, reach) {
    let best = -1;
    let least = reach * reach;
    this.each(x - reach, y - reach, x + reach, y + reach, (row) => {
      const away = (this.x[row] - x) ** 2 + (this.y[row] - y) ** 2;
      if (away <= least) [best, least] = [row, away];
    });
    return best;
  }

  // The pictures of a tile, each in a cell of its own: rows by `column + TILE * line`. The first in
  // the order has its own cell, so who is shown from afar is still shown from near.
  tile(level, column, line) {
    const key = `${level}/${column}/${line}`;
    const known = this.tiles.get(key);
    if (known) return known;
    const cells = 2 ** level;
    const inside = [];
    const [left, top, side] = [(column * TILE) / cells, (line * TILE) / cells, TILE / cells];
    this.each(left, top, left + side, top + side, (row) => {
      if (Math.floor(this.x[row] / side) === column && Math.floor(this.y[row] / side) === line) inside.push(row);
    });
    const rank = (row) => (this.hits.size ? this.hits.get(row) ?? this.size + this.ranks[row] : this.ranks[row]);
    const cellOf = (row) => (Math.floor(this.x[row] * cells) - column * TILE) + TILE * (Math.floor(this.y[row] * cells) - line * TILE);
    const shown = new Map();
    for (const row of inside) {
      const first = shown.get(cellOf(row));
      if (first === undefined || rank(row) < rank(first)) shown.set(cellOf(row), row);
    }
    if (inside.length <= CROWD) {
      const own = new Set(shown.values());
      const later = inside.filter((row) => !own.has(row)).sort((a, b) => rank(a) - rank(b));
      for (const row of later) spread(shown, row, cellOf(row));
    }
    if (this.tiles.size > 4000) this.tiles.clear();
    const made = { shown, crowded: inside.length / Math.max(1, shown.size) };
    this.tiles.set(key, made);
    return made;
  }
}

// Puts a row into the free cell nearest to its own, two away at most.
function spread(shown, row, cell) {
  const [column, line] = [cell % TILE, (cell / TILE) | 0];
  let [best, least] = [-1, 9];
  for (let dy = -2; dy <= 2; dy++) {
    for (let dx = -2; dx <= 2; dx++) {
      const [c, l] = [column + dx, line + dy];
      const away = dx * dx + dy * dy;
      if (c >= 0 && l >= 0 && c < TILE && l < TILE && away < least && !shown.has(c + TILE * l)) [best, least] = [c + TILE * l, away];
    }
  }
  if (best >= 0) shown.set(best, row);
}

// What of the plane is seen: `scale` are pixels for the whole of it, `x` and `y` its middle.
class View {
  constructor() {
    Object.assign(this, { x: 0.5, y: 0.5, scale: 1, width: 1, height: 1 });
  }

  get fitting() {
    return Math.min(this.width, this.height) * 0.88;
  }

  limit() {
    this.scale = Math.max(this.fitting * 0.7, Math.min(this.fitting * 4096, this.scale));
    this.x = Math.max(0, Math.min(1, this.x));
    this.y = Math.max(0, Math.min(1, this.y));
  }

  resize(width, height) {
    const was = this.scale / this.fitting;
    [this.width, this.height] = [width, height];
    this.scale = was * this.fitting;
    this.limit();
  }

  fit() {
    [this.x, this.y, this.scale] = [0.5, 0.5, this.fitting];
  }

  move(dx, dy) {
    this.x -= dx / this.scale;
    this.y -= dy / this.scale;
    this.limit();
  }

  // Closer by a factor, with what is at a place of the screen staying there.
  zoom(factor, px = this.width / 2, py = this.height / 2) {
    const [x, y] = this.toPlane(px, py);
    this.scale *= factor;
    this.limit();
    this.x = x - (px - this.width / 2) / this.scale;
    this.y = y - (py - this.height / 2) / this.scale;
    this.limit();
  }

  toPlane(px, py) {
    return [this.x + (px - this.width / 2) / this.scale, this.y + (py - this.height / 2) / this.scale];
  }

  toScreen(x, y) {
    return [(x - this.x) * this.scale + this.width / 2, (y - this.y) * this.scale + this.height / 2];
  }
}
