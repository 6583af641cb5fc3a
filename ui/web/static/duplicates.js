const root = element.querySelector(".duplicates");
const asked = new URLSearchParams(location.search);
const MOST = 24; // files of a group that are shown at first
const STANDARD = { kind: "all", under: "", min_score: "0.4", max_distance: "10" };
const wanted = Object.fromEntries(Object.entries(STANDARD).map(([name, value]) => [name, asked.get(name) ?? value]));
const summary = el("div", { class: "summary", role: "status" });
const kinds = el("div", { class: "kinds", role: "group", "aria-label": "Which duplicates" });
const list = el("div", { class: "groups" });
const more = el("button", { type: "button", class: "more", hidden: true, onclick: () => load(false) }, "More");
const folders = el("datalist", { id: "duplicates-folders" });
let shown = null; // the last answer
let turn = 0; // of questions: an answer to an older one is dropped

root.append(
  el("h2", {}, "Duplicates"),
  el("p", { class: "note" }, "Files that show the same picture. Nothing is deleted or changed here: copy the paths and decide yourself. ",
    "First in each group is the file with the most pixels, and of those the oldest."),
  kinds, settings(), summary, list, more,
);
load(true);
fetched("/api/v1/roots").then(({ roots }) =>
  folders.append(...roots.filter(({ kind }) => kind !== "loose").map(({ path }) => el("option", { value: path })))).catch(() => {});

function settings() {
  const field = (name, label, attributes) =>
    el("label", {}, label, el("input", { name, value: wanted[name], ...attributes }));
  const form = el("form", { class: "settings", onsubmit: apply },
    field("max_distance", "Bits that may differ", { type: "number", min: 0, max: 32 }),
    field("min_score", "Least score", { type: "number", min: -1, max: 1, step: 0.05 }),
    field("under", "Only in folder", { type: "text", list: folders.id, placeholder: "any", autocomplete: "off", spellcheck: "false" }),
    folders, el("button", { type: "submit" }, "Look"));
  const changed = ["under", "min_score", "max_distance"].some((name) => wanted[name] !== STANDARD[name]);
  return el("details", { class: "options", open: changed }, el("summary", {}, "How alike, and where"), form);
}

function apply(event) {
  event.preventDefault();
  for (const [name, value] of new FormData(event.target)) wanted[name] = value.trim() || STANDARD[name];
  load(true);
}

function query(extra = {}) {
  const pairs = Object.entries({ ...wanted, ...extra }).filter(([name, value]) => value !== STANDARD[name] && value !== "");
  return new URLSearchParams(pairs).toString();
}

async function load(anew) {
  const mine = ++turn;
  if (anew) {
    const asked = String(new URLSearchParams([...kept(), ...new URLSearchParams(query())]));
    history.replaceState(null, "", location.pathname + (asked && `?${asked}`)); // the page has a <base>
    say("Looking for duplicates …");
    list.replaceChildren();
    more.hidden = true;
  }
  more.disabled = true;
  try {
    let found;
    do {
      found = await fetched(`/api/v1/duplicates?${query({ offset: anew ? 0 : shown.next, wait: 2 })}`);
      if (mine !== turn || !root.isConnected) return;
    } while (found.state === "running");
    if (found.state === "failed") throw new Error(found.error);
    if (!anew && found.found_at !== shown.found_at) return load(true); // its pages are other ones
    shown = found;
    draw(anew);
  } catch (error) {
    if (mine === turn) say(error.message, true);
  }
  more.disabled = false;
}

function kept() {
  return [...new URLSearchParams(location.search)].filter(([name]) => !(name in STANDARD));
}

function say(text, wrong = false) {
  summary.classList.toggle("wrong", wrong);
  summary.replaceChildren(text);
}

function draw(anew) {
  drawKinds();
  drawSummary();
  list.append(...shown.groups.map(group));
  more.hidden = shown.next === null;
  if (anew && !shown.groups.length) list.replaceChildren(nothing());
  if (!shown.current) lookAgain();
}

function drawKinds() {
  const numbers = { all: shown.total, exact: shown.exact, near: shown.near };
  const names = { all: "All", exact: "Same bytes", near: "Near" };
  kinds.replaceChildren(...Object.entries(numbers).map(([kind, number]) =>
    el("button", { type: "button", "aria-pressed": String(wanted.kind === kind), onclick: () => choose(kind) }, `${names[kind]} ${many(number)}`)));
}

function choose(kind) {
  wanted.kind = kind;
  load(true).then(() => kinds.querySelector("[aria-pressed=true]")?.focus());
}

function drawSummary() {
  const left = shown.not_compared && `${counted(shown.not_compared, "picture")} could not be compared yet: sync in “Library”.`;
  say("");
  if (shown.total) {
    summary.append(
      el("strong", {}, `${bytes(shown.spare_bytes)} could be freed`),
      ` ${counted(shown.total, "group")}: ${counted(shown.spare_files, "file")} beside the first of each, among ${many(shown.files)}. `,
      el("span", { class: "all" }, `All but the first of ${wanted.kind === "all" ? "every group" : "these groups"}:`,
        copier("Copy paths", "lines"), copier("Copy for a shell", "shell"),
        el("a", { class: "button", download: "duplicates.nul", href: `/api/v1/duplicates/paths?${query({ as: "nul" })}`, title: "for xargs -0" }, "Save NUL-separated")));
  }
  if (left) summary.append(el("span", { class: "left" }, left));
}

function copier(label, form, number = null) {
  return el("button", { type: "button", onclick: async ({ target }) => {
    try {
      const text = await spare(form, number);
      const lost = text.includes("\ufffd"); // bytes that no clipboard holds
      await copied((lost ? await spare("shell", number) : text).replace(/\n$/, ""), target);
    } catch {
      target.textContent = "Did not work";
      setTimeout(() => (target.textContent = label), 1200);
    }
  } }, label);
}

async function spare(form, number) {
  const answer = await fetch(`/api/v1/duplicates/paths?${query({ as: form, group: number ?? "" })}`);
  if (!answer.ok) throw new Error();
  return answer.text();
}

function nothing() {
  if (!shown.files) return empty("The library holds no pictures yet.", el("code", {}, "rwkvsearch index PATH"));
  if (shown.total) {
    return empty(`No ${wanted.kind === "near" ? "near duplicates" : "copies of the same bytes"} among ${counted(shown.files, "file")}.`,
      el("button", { type: "button", onclick: () => choose("all") }, "Show all"));
  }
  const wider = Number(wanted.max_distance) < 12;
  return empty(`No duplicates among ${counted(shown.files, "file")}.`,
    wider ? el("button", { type: "button", onclick: widen }, "Allow 12 bits: finds larger crops, look closely") : null);
}

function widen() {
  wanted.max_distance = root.querySelector("[name=max_distance]").value = "12";
  load(true);
}

function empty(text, ...rest) {
  return el("div", { class: "empty" }, el("p", {}, text), rest);
}

function group({ number, kind, spare_bytes: spare, files }) {
  const what = kind === "exact" ? "Same bytes" : "Near";
  const copies = el("div", { class: "copies" }, files.slice(0, MOST).map((file, at) => copy(file, at, files)));
  const rest = el("button", { type: "button", class: "rest", hidden: files.length <= MOST, onclick: () => {
    copies.append(...files.slice(MOST).map((file) => copy(file, 1, files)));
    rest.hidden = true;
  } }, `Show all ${counted(files.length, "file")}`);
  return el("section", { class: "group", "aria-label": `Group ${number + 1}` },
    el("header", {},
      el("span", { class: `kind ${kind}` }, what),
      el("span", {}, `${counted(files.length, "file")}, ${bytes(spare)} could be freed`),
      copier("Copy all but the first", "lines", number)),
    copies, rest);
}

function copy(file, at, files) {
  const name = file.path.split("/").pop();
  const picture = el("img", { loading: "lazy", alt: name, src: file.thumb && `${file.thumb}?size=320`,
    onerror: ({ target }) => target.replaceWith(el("span", { class: "lost" }, "cannot be read now")) });
  return el("figure", { class: at ? "copy" : "copy first" },
    el("a", { class: "thumb", href: `/?image=${file.image_id}`, title: "Show it large" }, picture),
    el("figcaption", {},
      el("strong", {}, at ? likeness(file) : `First: ${why(files)}`),
      el("span", {}, `${file.width} × ${file.height}, ${bytes(file.bytes)}`),
      el("span", {}, file.modified_at ? moment(file.modified_at) : "changed a moment ago"),
      el("code", { class: "path", title: file.path }, file.path),
      el("button", { type: "button", onclick: ({ target }) => copied(pasteable(file.path), target) }, "Copy path")));
}

function likeness({ score, distance }) {
  if (score === null) return "Same bytes";
  return `Score ${score.toFixed(3)}, ${counted(distance, "bit")} ${distance === 1 ? "differs" : "differ"}`;
}

function why([first, ...others]) {
  const pixels = ({ width, height }) => width * height;
  const rivals = others.filter((file) => pixels(file) === pixels(first));
  if (!rivals.length) return "most pixels";
  const older = rivals.every(({ modified_at: at }) => !at || (first.modified_at && first.modified_at < at));
  const most = rivals.length < others.length ? "most pixels, then " : "";
  return most + (older ? "oldest" : "pixels and date the same");
}

async function lookAgain() {
  const mine = turn;
  while (root.isConnected && mine === turn) {
    await pause(5);
    if (document.hidden) continue;
    const found = await fetched(`/api/v1/duplicates?${query({ limit: 1, wait: 0 })}`).catch(() => null);
    if (mine !== turn || !found || found.state !== "ready" || found.found_at === shown.found_at) continue;
    summary.append(el("button", { type: "button", class: "again", onclick: () => load(true) }, "The library has changed: show it as it is now"));
    return;
  }
}
