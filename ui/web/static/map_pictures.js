// Thumbnails for a canvas: what is asked for last comes first, few at a time, the last ones kept.
const AT_ONCE = 6;
const KEPT = 700;
const SIDE = 200; // pixels, of what is kept
const ASKED = 120; // names at a time

class Pictures {
  constructor(onArrival) {
    this.onArrival = onArrival;
    this.named = new Map(); // id -> {name, thumb}, or null while it is asked for or if it has gone
    this.kept = new Map(); // id -> ImageBitmap, or null while it is fetched or if it cannot be
    this.wanted = [];
    this.running = 0;
    this.asking = false;
  }

  get(id) {
    const found = this.kept.get(id);
    if (found) {
      this.kept.delete(id);
      this.kept.set(id, found);
    }
    return found;
  }

  name(id) {
    return this.named.get(id);
  }

  // What the screen shows now, the most important first; what it does not is not fetched any more.
  want(ids) {
    this.wanted = ids.filter((id) => !this.kept.has(id));
    this.ask();
    this.fetch();
  }

  async ask() {
    const some = this.wanted.filter((id) => !this.named.has(id)).slice(0, ASKED);
    if (this.asking || !some.length) return;
    this.asking = true;
    for (const id of some) this.named.set(id, null);
    try {
      const { pictures } = await fetched(`/api/v1/map/pictures?ids=${some.join(",")}`);
      for (const one of pictures) this.named.set(one.image_id, one);
    } catch {
      await new Promise((go) => setTimeout(go, 2000));
      for (const id of some) this.named.delete(id);
    }
    this.asking = false;
    this.onArrival();
    this.ask();
    this.fetch();
  }

  fetch() {
    while (this.running < AT_ONCE) {
      const id = this.wanted.find((one) => this.named.get(one) && !this.kept.has(one));
      if (id === undefined) return;
      this.load(id, this.named.get(id).thumb);
    }
  }

  async load(id, address) {
    this.running++;
    this.kept.set(id, null);
    try {
      const answer = await fetch(`${address}?size=320`);
      if (!answer.ok) throw new Error(answer.status);
      const whole = await createImageBitmap(await answer.blob());
      const side = Math.min(whole.width, whole.height);
      const [left, top] = [(whole.width - side) / 2, (whole.height - side) / 2];
      const small = Math.min(side, SIDE);
      this.kept.set(id, await createImageBitmap(whole, left, top, side, side, { resizeWidth: small, resizeHeight: small, resizeQuality: "medium" }));
      whole.close();
      for (const [old, bitmap] of this.kept) {
        if (this.kept.size <= KEPT) break;
        if (bitmap) bitmap.close();
        this.kept.delete(old);
      }
    } catch {
      this.kept.set(id, null); // stays a point
    }
    this.running--;
    this.onArrival();
    this.fetch();
  }
}
