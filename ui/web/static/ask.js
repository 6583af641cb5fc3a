// The box for words and pictures. What is asked is kept as the address of the page would say it.
const form = element.querySelector("form");
const words = form.querySelector("input[type=search]");
const file = form.querySelector("input[type=file]");
const chips = form.querySelector(".chips");
const note = element.querySelector(".note");
const recent = element.querySelector("datalist");
const previews = new Map();
const FILTERS = ["under", "camera", "format", "tag", "orientation", "after", "before", "min_confidence", "diverse"];

const asked = () => new URLSearchParams((props.value || {}).link || "");

// With `anywhere` the filters are those of the new question, else those that are set stay.
function submit(change, anywhere = false) {
  const link = asked();
  if (anywhere) for (const name of FILTERS) link.delete(name);
  change(link);
  link.delete("image");
  props.value = { ...props.value, link: link.toString() };
  draw();
  note.textContent = "";
  trigger(anywhere ? "undo" : "submit", { link: link.toString() });
}

// Another thing to look for: what was said of the hits before says nothing of it.
function anew(link) {
  for (const name of ["liked", "disliked", "album"]) link.delete(name);
}

function draw() {
  const link = asked();
  const { picture } = props.value || {};
  if (document.activeElement !== words || !words.dataset.typed) words.value = link.get("q") || "";
  words.placeholder = link.get("album") ? "Search all pictures" : "Describe a picture, or drop one here";
  chips.replaceChildren(
    ...(link.get("album") ? [chip(null, `Album: ${link.get("album")}`, anew)] : []),
    ...(link.get("like")
      ? [chip(picture && thumb(picture.hash), picture ? picture.name : "a picture", (now) => now.delete("like"))]
      : []),
    ...(link.get("upload")
      ? [chip(previews.get(link.get("upload")), "your picture", (now) => now.delete("upload"))]
      : []),
  );
}

function chip(image, name, remove) {
  return el(
    "span",
    { class: "chip", title: name },
    image ? el("img", { src: image, alt: "" }) : null,
    el("span", {}, name),
    el("button", { type: "button", "aria-label": `Remove ${name}`, onclick: () => submit((link) => (anew(link), remove(link))) }, "×"),
  );
}

async function give(picture) {
  note.textContent = "Reading the picture …";
  try {
    const found = await fetched("/api/v1/uploads", {
      method: "POST",
      body: picture,
      headers: { "Content-Type": "application/octet-stream" },
    });
    previews.set(found.upload, URL.createObjectURL(picture));
    const typed = words.dataset.typed && words.value.trim();
    delete words.dataset.typed;
    submit((link) => {
      anew(link);
      link.delete("like");
      link.set("upload", found.upload);
      if (typed) link.set("q", typed);
    });
  } catch (error) {
    note.textContent = error.message;
  }
}

function remember(text) {
  if (!text.trim()) return;
  const texts = [text, ...remembered().filter((one) => one !== text)].slice(0, 20);
  try {
    localStorage.setItem("rwkvsearch.recent", JSON.stringify(texts));
  } catch {} // private windows keep nothing
  suggest();
}

function remembered() {
  try {
    const texts = JSON.parse(localStorage.getItem("rwkvsearch.recent") || "[]");
    return texts.filter((text) => typeof text === "string");
  } catch {
    return [];
  }
}

function suggest() {
  recent.replaceChildren(...remembered().map((text) => el("option", { value: text })));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  delete words.dataset.typed;
  remember(words.value);
  submit((link) => {
    if ((link.get("q") || "") !== words.value || link.get("album")) anew(link);
    if (words.value.trim()) link.set("q", words.value);
    else link.delete("q");
  });
});
words.addEventListener("input", () => {
  words.dataset.typed = "1";
  if (!words.value) form.requestSubmit(); // the small cross was pressed
});
form.querySelector(".pick").addEventListener("click", () => file.click());
file.addEventListener("change", () => {
  if (file.files.length) give(file.files[0]);
  file.value = "";
});

const pictureOf = (transfer) => [...(transfer ? transfer.files : [])].find((one) => one.type.startsWith("image/"));
document.addEventListener("dragover", (event) => {
  if ([...event.dataTransfer.types].includes("Files")) {
    event.preventDefault();
    form.classList.add("over");
  }
});
document.addEventListener("dragleave", (event) => event.relatedTarget || form.classList.remove("over"));
document.addEventListener("drop", (event) => {
  form.classList.remove("over");
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  const picture = pictureOf(event.dataTransfer);
  if (picture) give(picture);
  else note.textContent = "That is no picture: drop a JPEG, PNG, WebP or the like.";
});
document.addEventListener("paste", (event) => {
  const picture = pictureOf(event.clipboardData);
  if (!picture) return;
  event.preventDefault();
  give(picture);
});
document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName);
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    words.focus();
    words.select();
  }
});

// From the hits: another question, or the same one with votes.
document.addEventListener("rwkvsearch:ask", (event) => {
  delete words.dataset.typed;
  submit(event.detail.change, event.detail.anywhere);
});
window.addEventListener("popstate", () => {
  delete words.dataset.typed;
  trigger("undo", { link: location.search.slice(1), back: true });
});
watch("value", draw);
suggest();
draw();
