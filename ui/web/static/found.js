// The hits: a grid that fills its rows, and a large view of one picture.
const status = element.querySelector(".status");
const pending = element.querySelector(".pending");
const banner = element.querySelector(".banner");
const grid = element.querySelector(".grid");
const more = element.querySelector(".more");
const dialog = element.querySelector("dialog");
const hits = [];
let answer = {};
let shown = -1; // of the hits, the one that is large
let onward = false; // whether the next hits are awaited by the large view
let pushed = -Infinity; // when, and for which question, the history last grew
let wanted = "";

const ask = (change, anywhere = false) =>
  document.dispatchEvent(new CustomEvent("rwkvsearch:ask", { detail: { change, anywhere } }));
const percent = (share) => `${Math.round(100 * share)} %`;

function draw() {
  const now = props.value || {};
  if (!now.hits) return;
  settle();
  if (now.offset && (now.link !== answer.link || now.offset !== hits.length)) return; // of the question before
  answer = now.offset ? { ...answer, more: now.more, error: now.error } : now;
  hits.splice(now.offset, Infinity, ...now.hits);
  if (!now.offset) grid.replaceChildren();
  const first = grid.childElementCount;
  grid.append(...now.hits.map((hit, at) => card(hit, first + at)));
  if (!first && grid.firstChild) grid.firstChild.tabIndex = 0;
  drawMore();
  drawBanner();
  if (now.offset) goOn();
  else drawQuestion();
  element.dataset.drawn = answer.number;
}

function drawQuestion() {
  drawStatus();
  document.title = [title(), "rwkvsearch"].filter(Boolean).join(" – ");
  const image = Number(new URLSearchParams(location.search).get("image"));
  if (answer.back) {
    // The address may say the same in another order, or something that is not known.
    history.replaceState(history.state, "", address(image));
    wanted = matter();
    pushed = -Infinity;
    if (image) open(image);
    else if (dialog.open) dialog.close();
    return;
  }
  if (address() === location.pathname + location.search) return;
  const steps = matter() === wanted && performance.now() - pushed < 1500; // a filter that is moved
  history[steps ? "replaceState" : "pushState"](null, "", address());
  pushed = performance.now();
  wanted = matter();
}

// The address of what is shown; what Gradio reads, such as __theme, stays in it.
function address(image) {
  const parts = new URLSearchParams(answer.link);
  for (const [name, value] of new URLSearchParams(location.search)) if (name.startsWith("__")) parts.append(name, value);
  if (image) parts.set("image", image);
  return location.pathname + (parts.size ? `?${parts}` : "");
}

function matter() {
  const link = new URLSearchParams(answer.link);
  return JSON.stringify(["q", "like", "upload", "album", "liked", "disliked"].map((name) => link.getAll(name)));
}

function title() {
  const link = new URLSearchParams(answer.link);
  if (answer.album) return answer.album;
  return [answer.q, (link.has("like") || link.has("upload")) && "like a picture"].filter(Boolean).join(", ");
}

function drawMore() {
  more.hidden = !answer.more;
  more.disabled = false;
  more.textContent = "More";
}

function drawStatus() {
  const { size = 0, passing = 0, kind, ms } = answer;
  const among = passing < size ? `${passing.toLocaleString()} of ${size.toLocaleString()}` : size.toLocaleString();
  const parts = [];
  if (kind === "newest") parts.push(`${among} pictures, the latest first`);
  if (kind === "search") parts.push(`Best of ${among} pictures`, `${(ms.encode + ms.search).toFixed(0)} ms`);
  const clear = answer.narrowed ? el("button", { class: "clear", onclick: () => ask(() => {}, true) }, "Clear filters") : null;
  status.replaceChildren(
    el("span", { class: "said" }, el("span", { title: ms ? `words ${ms.encode} ms, search ${ms.search} ms; ${answer.how}` : "" }, parts.join(" · ")), clear),
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
          }, true),
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
  say(lines.join(" "), Boolean(answer.error));
}

function say(text, wrong = false, ...children) {
  banner.replaceChildren(text, ...children);
  banner.hidden = !text;
  banner.classList.toggle("error", wrong);
}

// An answer that takes a while is announced; one that does not come is told, whatever the reason.
let waits = 0; // the number of the wait; 0: for nothing
let asking = 0;

document.addEventListener("rwkvsearch:waiting", () => {
  const mine = (waits = ++asking);
  setTimeout(() => waits === mine && pending.classList.add("on"), 150);
  setTimeout(() => lookAfter(mine, false), 3000);
});

pending.firstChild.animate([{ marginLeft: "-30%" }, { marginLeft: "100%" }], { duration: 1200, iterations: Infinity });

function settle() {
  waits = 0;
  pending.classList.remove("on");
}

async function lookAfter(mine, ended) {
  if (waits !== mine) return;
  let trouble = ended && "The server did not answer this; its log says why.";
  try {
    await fetched("/api/v1/health/live");
  } catch (error) {
    trouble = error instanceof TypeError ? "The server does not answer: is `rwkvsearch serve` still running?" : error.message;
  }
  if (waits !== mine) return;
  if (!trouble) return void setTimeout(() => lookAfter(mine, false), 3000);
  settle();
  drawMore();
  onward = false;
  say(`${trouble} `, true, el("button", { onclick: () => ask(() => {}) }, "Ask again"));
}

new PerformanceObserver((list) => {
  const ended = list.getEntries().some((one) => one.name.includes("/gradio_api/run/"));
  if (ended && waits) setTimeout(lookAfter, 700, waits, true);
}).observe({ type: "resource" });

function card(hit, at) {
  const ratio = Math.min(Math.max(hit.width / hit.height, 0.5), 2.5);
  const sure = hit.confidence === undefined ? null : el("span", { class: `sure ${hit.confidence >= 0.5 ? "yes" : "no"}` }, percent(hit.confidence));
  const picture = el("img", { src: thumb(hit.hash), alt: hit.name, loading: at < 12 ? "eager" : "lazy", decoding: "async" });
  picture.addEventListener("load", () => made.classList.remove("loading"));
  picture.addEventListener("error", () => made.classList.replace("loading", "lost"));
  const said = hit.score === undefined ? "" : `\nconfidence ${percent(hit.confidence)}, score ${hit.score.toFixed(3)}`;
  const vote = (answer.liked || []).includes(hit.id) ? "liked" : "";
  const made = el(
    "a",
    {
      class: `card loading ${vote}`,
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

function askFurther() {
  if (more.hidden || more.disabled) return;
  more.disabled = true;
  more.textContent = "Looking …";
  trigger("select", { link: answer.link, offset: hits.length });
}

more.addEventListener("click", askFurther);
new IntersectionObserver((seen) => seen[0].isIntersecting && hits.length < 480 && askFurther(), {
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
      return say(error.message, true);
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
  const known = hits[shown];
  dialog.dataset.id = id;
  if (known) showLarge(known);
  const mine = () => dialog.dataset.id === String(id) && (dialog.open || !known);
  try {
    const facts = await fetched(`/api/v1/images/${id}`);
    const first = facts.files[0];
    const hit = { name: first && first.path.split("/").pop(), path: first && first.path, ...known, ...facts, id, hash: facts.content_hash };
    if (!mine()) return;
    if (known) part("facts").replaceChildren(...factsOf(hit));
    else showLarge(hit);
  } catch (error) {
    if (!mine()) return;
    if (known) part("facts").replaceChildren(...factsOf(known), el("p", { class: "wrong" }, reason(error)));
    else say(reason(error), true);
  }
}

const reason = (error) => (error instanceof TypeError ? "The server does not answer." : error.message);

function showLarge(hit) {
  drawLarge(hit);
  if (!dialog.open) dialog.showModal();
  history.replaceState(history.state, "", address(hit.id));
}

function drawLarge(hit) {
  const large = el("img", { src: thumb(hit.hash, 1600), alt: hit.name || "", style: { aspectRatio: `${hit.width} / ${hit.height}` } });
  large.style.width = `min(100%, ${3 * hit.width}px, calc(94dvh * ${(hit.width / hit.height).toFixed(4)}))`;
  large.style.backgroundImage = `url("${thumb(hit.hash)}")`;
  large.addEventListener("error", () => large.replaceWith(el("p", { class: "missing" }, `${hit.name || "This picture"} cannot be read now.`)));
  part("picture").replaceChildren(large);
  part("name-of").textContent = hit.name || "";
  drawSteps();
  const votes = answer.kind === "search" ? [voting(hit, "liked", "Like"), voting(hit, "disliked", "Not this")] : [];
  const why = answer.why && hit.score !== undefined ? [button("Why this picture", (event) => explain(hit, large, event.target))] : [];
  part("actions").replaceChildren(
    button("More like this", () => like(hit)),
    ...why,
    button("Words for this picture", (event) => tell(hit, event.target)),
    button("Copy path", (event) => copied(hit.path, event.target)),
    el("a", { class: "button", href: `/api/v1/images/${hit.id}/original`, download: hit.name || true }, "Download"),
    ...votes,
  );
  part("words").replaceChildren();
  part("facts").replaceChildren(...factsOf(hit));
}

function drawSteps() {
  part("prev").disabled = shown <= 0;
  part("next").disabled = shown < 0 || (shown >= hits.length - 1 && !answer.more);
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

function factsOf(hit) {
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
  const showing = pressed.getAttribute("aria-pressed") === "true";
  pressed.setAttribute("aria-pressed", String(!showing));
  part("words").replaceChildren();
  if (showing) return part("picture").replaceChildren(large);
  pressed.disabled = true;
  const source = `/api/v1/images/${hit.id}/why`;
  try {
    const said = await fetched(`${source}.json?${answer.why}`);
    const map = el("img", { class: "why", src: `${source}?${answer.why}`, alt: `What fits in ${hit.name}: ${said.words}` });
    await map.decode();
    if (pressed.isConnected) {
      part("picture").replaceChildren(map);
      part("words").replaceChildren(el("p", { class: "reason" }, said.words));
    }
  } catch (error) {
    pressed.setAttribute("aria-pressed", "false");
    if (pressed.isConnected) part("words").replaceChildren(el("p", { class: "wrong" }, reason(error)));
  }
  pressed.disabled = false;
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
    part("words").replaceChildren(el("p", { class: "wrong" }, reason(error)));
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

function step(by) {
  if (hits[shown + by]) return open(hits[shown + by].id);
  if (by > 0 && shown >= 0 && answer.more) {
    onward = true;
    askFurther();
  }
}

// The hits behind the last are there: the large view goes on, if it has waited for them.
function goOn() {
  drawSteps();
  if (onward && dialog.open) step(1);
  onward = false;
}

part("prev").addEventListener("click", () => step(-1));
part("next").addEventListener("click", () => step(1));
part("close").addEventListener("click", () => dialog.close());
dialog.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
  const hit = hits[shown];
  if (!hit) return;
  if (event.key === "m") like(hit);
  const way = { l: "liked", d: "disliked" }[event.key];
  if (way && answer.kind === "search") {
    dialog.close();
    vote(hit, way);
  }
});
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
dialog.addEventListener("close", () => {
  onward = false;
  history.replaceState(history.state, "", address());
  const found = shown >= 0 && grid.children[shown];
  if (found) found.focus();
});

let touched = null;
part("picture").addEventListener("touchstart", (event) => (touched = event.touches.length === 1 ? event.touches[0] : null), { passive: true });
part("picture").addEventListener("touchend", (event) => {
  if (!touched) return;
  const across = event.changedTouches[0].clientX - touched.clientX;
  const down = event.changedTouches[0].clientY - touched.clientY;
  touched = null;
  if (Math.abs(across) > 50 && Math.abs(across) > 2 * Math.abs(down)) step(across > 0 ? -1 : 1);
});

watch("value", draw);
draw();
