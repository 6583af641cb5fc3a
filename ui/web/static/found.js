// The hits: a grid that fills its rows, and a large view of one picture.
const status = element.querySelector(".status");
const banner = element.querySelector(".banner");
const grid = element.querySelector(".grid");
const more = element.querySelector(".more");
const dialog = element.querySelector("dialog");
const hits = [];
let answer = {};
let shown = -1;

const ask = (change) => document.dispatchEvent(new CustomEvent("rwkvsearch:ask", { detail: change }));
const link = () => new URLSearchParams(answer.link || "");
const percent = (share) => `${Math.round(100 * share)} %`;

function draw() {
  answer = props.value || {};
  if (!answer.hits) return;
  if (!answer.offset) hits.length = 0;
  hits.splice(answer.offset, Infinity, ...answer.hits);
  if (!answer.offset) grid.replaceChildren();
  const first = grid.childElementCount;
  grid.append(...answer.hits.map((hit, at) => card(hit, first + at)));
  if (!first && grid.firstChild) grid.firstChild.tabIndex = 0;
  more.hidden = !answer.more;
  more.disabled = false;
  more.textContent = "More";
  if (!answer.offset) {
    drawStatus();
    drawBanner();
    const wanted = link();
    const here = new URLSearchParams(location.search);
    const image = here.get("image");
    here.delete("image");
    for (const name of [...here.keys()]) if (name.startsWith("__")) here.delete(name);
    if (here.toString() !== wanted.toString())
      history.pushState(null, "", wanted.size ? `?${wanted}` : location.pathname);
    document.title = answer.q ? `${answer.q} – rwkvsearch` : "rwkvsearch";
    if (image) open(Number(image));
  }
  element.dataset.drawn = String(Number(element.dataset.drawn || 0) + 1);
}

function drawStatus() {
  const { size = 0, passing = 0, kind, ms } = answer;
  const among = passing < size ? `${passing.toLocaleString()} of ${size.toLocaleString()}` : size.toLocaleString();
  const parts = [];
  if (kind === "newest") parts.push(`${among} pictures, the latest first`);
  if (kind === "search") parts.push(`Best of ${among} pictures`, `${(ms.encode + ms.search).toFixed(0)} ms`);
  status.replaceChildren(
    el("span", { title: ms ? `words ${ms.encode} ms, search ${ms.search} ms; ${answer.how}` : "" }, parts.join(" · ")),
    el("span", { class: "albums" }, ...albums()),
  );
}

function albums() {
  const current = answer.album;
  const made = (answer.albums || []).map((name) =>
    el(
      "button",
      {
        class: "album",
        "aria-pressed": String(name === current),
        onclick: () =>
          ask((now) => {
            for (const key of [...now.keys()]) now.delete(key);
            if (name !== current) now.set("album", name);
          }),
      },
      name,
    ),
  );
  if (answer.kind === "search" && !current)
    made.push(el("button", { class: "save", onclick: (event) => save(event.target) }, "Save as album"));
  return made;
}

function save(button) {
  const name = el("input", { "aria-label": "Name of the album", placeholder: "Name of the album", maxlength: 200 });
  const sent = (event) => {
    event.preventDefault();
    if (name.value.trim()) trigger("edit", { name: name.value.trim(), link: answer.link });
  };
  const form = el("form", { class: "naming", onsubmit: sent }, name, el("button", {}, "Save"));
  name.addEventListener("keydown", (event) => event.key === "Escape" && form.replaceWith(button));
  button.replaceWith(form);
  name.focus();
}

function drawBanner() {
  const lines = [];
  if (answer.error) lines.push(answer.error);
  else if (answer.message) lines.push(answer.message);
  else if (!hits.length && answer.kind === "newest")
    lines.push(answer.size ? "No picture passes these filters." : "The library is empty: run `rwkvsearch index FOLDER`.");
  if (answer.saved) lines.push(answer.saved);
  banner.textContent = lines.join(" ");
  banner.hidden = !lines.length;
  banner.classList.toggle("error", Boolean(answer.error));
}

function card(hit, at) {
  const ratio = Math.min(Math.max(hit.width / hit.height, 0.5), 2.5);
  const sure = hit.confidence === undefined ? null : el("span", { class: `sure ${hit.confidence >= 0.5 ? "yes" : "no"}` }, percent(hit.confidence));
  const picture = el("img", { src: thumb(hit.hash), alt: hit.name, loading: at < 12 ? "eager" : "lazy", decoding: "async" });
  picture.addEventListener("error", () => made.classList.add("lost"));
  const said = hit.score === undefined ? "" : `\nconfidence ${percent(hit.confidence)}, score ${hit.score.toFixed(3)}`;
  const vote = (answer.liked || []).includes(hit.id) ? "liked" : "";
  const made = el(
    "a",
    {
      class: `card ${vote}`,
      href: `?image=${hit.id}`,
      tabindex: -1,
      title: `${hit.path}${said}`,
      "data-id": hit.id,
      style: { flexGrow: String(ratio), flexBasis: `calc(var(--row) * ${ratio.toFixed(3)})`, aspectRatio: String(ratio) },
    },
    picture,
    sure,
    el("span", { class: "name" }, hit.name),
  );
  return made;
}

grid.addEventListener("click", (event) => {
  const found = event.target.closest(".card");
  if (!found || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  open(Number(found.dataset.id));
});

grid.addEventListener("keydown", (event) => {
  const cards = [...grid.children];
  const at = cards.indexOf(document.activeElement);
  if (at < 0) return;
  const box = cards[at].getBoundingClientRect();
  const middle = box.left + box.width / 2;
  const row = (down) => {
    const others = down ? cards.slice(at + 1) : cards.slice(0, at).reverse();
    const next = others.find((one) => Math.abs(one.getBoundingClientRect().top - box.top) > 4);
    if (!next) return -1;
    const top = next.getBoundingClientRect().top;
    const off = (one) => Math.abs(one.getBoundingClientRect().left + one.offsetWidth / 2 - middle);
    const line = others.filter((one) => Math.abs(one.getBoundingClientRect().top - top) < 4);
    return cards.indexOf(line.reduce((best, one) => (off(one) < off(best) ? one : best)));
  };
  const steps = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: cards.length - 1 };
  let to = event.key in steps ? steps[event.key] : -1;
  if (event.key === "ArrowDown") to = row(true);
  if (event.key === "ArrowUp") to = row(false);
  const quick = { m: like, l: (hit) => vote(hit, "liked"), d: (hit) => vote(hit, "disliked") };
  if (quick[event.key] && !event.ctrlKey && !event.metaKey) return quick[event.key](hits[at]);
  if (to < 0 || to >= cards.length) return;
  event.preventDefault();
  cards[at].tabIndex = -1;
  cards[to].tabIndex = 0;
  cards[to].focus();
});

more.addEventListener("click", () => {
  more.disabled = true;
  more.textContent = "Looking …";
  trigger("select", { link: answer.link, offset: hits.length });
});
new IntersectionObserver((seen) => seen[0].isIntersecting && !more.hidden && !more.disabled && hits.length < 480 && more.click(), {
  rootMargin: "600px",
}).observe(more);

function like(hit) {
  dialog.close();
  ask((now) => {
    for (const name of ["q", "upload", "album", "liked", "disliked"]) now.delete(name);
    now.set("like", hit.id);
  });
  window.scrollTo({ top: 0 });
}

async function vote(hit, way) {
  if (answer.kind !== "search") return;
  const other = way === "liked" ? "disliked" : "liked";
  const had = (answer[way] || []).includes(hit.id);
  if (answer.album) {
    const address = `/api/v1/albums/${encodeURIComponent(answer.album)}/votes/${hit.id}`;
    try {
      const body = JSON.stringify({ liked: way === "liked" });
      const headers = { "Content-Type": "application/json" };
      await fetched(address, had ? { method: "DELETE" } : { method: "PUT", body, headers });
    } catch (error) {
      banner.textContent = error.message;
      banner.hidden = false;
    }
    return ask(() => {});
  }
  ask((now) => {
    const others = (name) => now.getAll(name).filter((id) => id !== String(hit.id));
    for (const name of [way, other]) {
      const kept = others(name);
      now.delete(name);
      for (const id of kept) now.append(name, id);
    }
    if (!had) now.append(way, hit.id);
  });
}

// The large view.
const part = (name) => dialog.querySelector(`.${name}`);

async function open(id) {
  shown = hits.findIndex((hit) => hit.id === id);
  let hit = hits[shown];
  try {
    const facts = await fetched(`/api/v1/images/${id}`);
    hit = { ...hit, ...facts, id, hash: facts.content_hash };
  } catch (error) {
    if (!hit) {
      banner.textContent = error.message;
      banner.hidden = false;
      return;
    }
  }
  drawLarge(hit);
  if (!dialog.open) dialog.showModal();
}

function drawLarge(hit) {
  const large = el("img", { src: thumb(hit.hash, 1600), alt: hit.name || "", style: { aspectRatio: `${hit.width} / ${hit.height}` } });
  large.style.width = `min(100%, ${3 * hit.width}px, calc(94dvh * ${(hit.width / hit.height).toFixed(4)}))`;
  large.style.backgroundImage = `url("${thumb(hit.hash)}")`;
  part("picture").replaceChildren(large);
  part("name-of").textContent = hit.name || "";
  part("prev").disabled = shown <= 0;
  part("next").disabled = shown < 0 || shown >= hits.length - 1;
  const votes = answer.kind === "search" ? [voting(hit, "liked", "Like"), voting(hit, "disliked", "Not this")] : [];
  const why = answer.kind === "search" && hit.score !== undefined ? [button("Why this picture", (event) => explain(hit, large, event.target))] : [];
  part("actions").replaceChildren(
    button("More like this", () => like(hit)),
    ...why,
    button("Words for this picture", (event) => tell(hit, event.target)),
    button("Copy path", (event) => copied(hit.path, event.target)),
    el("a", { class: "button", href: `/api/v1/images/${hit.id}/original`, download: hit.name || true }, "Download"),
    ...votes,
  );
  part("words").replaceChildren();
  part("facts").replaceChildren(...facts(hit));
}

const button = (label, onclick) => el("button", { onclick }, label);

function voting(hit, way, label) {
  const pressed = (answer[way] || []).includes(hit.id);
  const sent = () => {
    dialog.close();
    vote(hit, way);
  };
  return el("button", { "aria-pressed": String(pressed), onclick: sent }, label);
}

function facts(hit) {
  const rows = [];
  const row = (name, ...values) => values.filter(Boolean).length && rows.push(el("dt", {}, name), el("dd", {}, ...values));
  if (hit.score !== undefined) row("Fits", `confidence ${percent(hit.confidence)}, score ${hit.score.toFixed(3)}`);
  row("Taken", hit.taken_at && hit.taken_at.replace("T", " "));
  row("Camera", [hit.camera, hit.lens].filter(Boolean).join(", "));
  row("Size", `${hit.width} × ${hit.height} ${hit.format || ""}`);
  if (hit.latitude !== null && hit.latitude !== undefined) row("Place", `${hit.latitude.toFixed(5)}, ${hit.longitude.toFixed(5)}`);
  row("Tags", (hit.tags || []).map((tag) => `${tag.label} ${percent(tag.confidence)}`).join(", "));
  row("Captions", ...(hit.captions || []).map((caption) => el("p", {}, caption.text)));
  const paths = (hit.files || []).map((file) => file.path);
  row(paths.length > 1 ? "Files" : "File", ...(paths.length ? paths : [hit.path]).map((path) => el("p", { class: "path" }, path)));
  return rows;
}

async function explain(hit, large, pressed) {
  const showing = large.dataset.why;
  large.dataset.why = showing ? "" : "1";
  pressed.setAttribute("aria-pressed", String(!showing));
  const asked = link();
  large.src = showing ? thumb(hit.hash, 1600) : `/api/v1/images/${hit.id}/why?${asked}`;
}

async function tell(hit, pressed) {
  pressed.disabled = true;
  try {
    const found = await fetched(`/api/v1/images/${hit.id}/captions?k=8`);
    const texts = found.hits.map((one) =>
      el("li", {}, el("button", { onclick: () => searchFor(one.text) }, one.text), el("span", {}, one.score.toFixed(2))),
    );
    part("words").replaceChildren(el("ul", {}, ...texts));
  } catch (error) {
    part("words").replaceChildren(el("p", {}, error.message));
  }
  pressed.disabled = false;
}

function searchFor(text) {
  dialog.close();
  ask((now) => {
    for (const key of ["like", "upload", "album", "liked", "disliked"]) now.delete(key);
    now.set("q", text);
  });
}

const step = (by) => hits[shown + by] && open(hits[shown + by].id);
part("prev").addEventListener("click", () => step(-1));
part("next").addEventListener("click", () => step(1));
part("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
dialog.addEventListener("close", () => {
  const found = shown >= 0 && grid.children[shown];
  if (found) found.focus();
});

watch("value", draw);
draw();
