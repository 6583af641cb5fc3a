const root = element.querySelector(".benchmarks");
const KS = ["R@1", "R@5", "R@10"];
const DIRECTIONS = [["text_to_image", "Text → image", "the picture of a caption is among the first"], ["image_to_text", "Image → text", "a caption of the picture is among the first"]];
const MOST = 6; // models of one set that are drawn; the table has all

load();

async function load() {
  try {
    draw(await fetched("/api/v1/benchmarks"));
  } catch (error) {
    root.replaceChildren(el("p", { class: "wrong" }, error.message));
  }
}

function draw(found) {
  const of = (kind) => found.results.filter((one) => one.kind === kind);
  const sections = [
    ...sameData(of("recall").filter(isRecall)).map((group) => recallSection(group, found)),
    ...sameData(of("classify").filter(isAccuracy)).map((group) => accuracySection(group)),
    ...sameData(of("tune").filter(isTuning)).map((group) => tuningSection(group)),
  ];
  root.replaceChildren(...[
    found.results.length ? null : empty(),
    sections, found.results.length ? everything(found.results) : null,
    unreadable(found.unreadable), found.results.length ? null : commands(found, true), published(found), found.results.length ? commands(found, false) : null].flat().filter(Boolean));
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const isRecall = ({ data, results }) => data && DIRECTIONS.every(([name]) => results[name] && KS.every((k) => isNumber(results[name][k])));
const isAccuracy = ({ data, results }) => data && isNumber(results.top1) && isNumber(results.top5);
const isTuning = ({ results }) => Array.isArray(results.kinds) && results.kinds.length > 0 && results.kinds.every((one) => one && isNumber(one.p50_ms) && one.p50_ms > 0 && isNumber(one.ann_recall_images));

// Results on the same data, the group of the newest first.
function sameData(results) {
  const groups = new Map();
  for (const one of results) {
    const print = one.data ? one.data.fingerprint : one.file;
    groups.set(print, [...(groups.get(print) || []), one]);
  }
  return [...groups.values()];
}

// The newest of each model with the same settings.
function newest(group) {
  const seen = new Map();
  for (const one of group) {
    const key = JSON.stringify([modelOf(one), one.settings]);
    if (!seen.has(key)) seen.set(key, one);
  }
  return [...seen.values()];
}

const modelOf = (one) => (one.model ? one.model.id : "no model");
const setOf = ({ data }) => (data ? [data.name, data.split].filter(Boolean).join(", ") : "");
const day = (when) => when.slice(0, 16).replace("T", " ") + " UTC";

function counts({ images, captions, classes }) {
  const parts = [[images, "image"], [captions, "caption"], [classes, "class"]].filter(([number]) => isNumber(number));
  return parts.map(([number, noun]) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : noun === "class" ? "es" : "s"}`).join(", ");
}

function labelled(shown, one) {
  const twice = shown.filter((other) => modelOf(other) === modelOf(one)).length > 1;
  return twice ? `${modelOf(one)} · ${settings(one)}` : modelOf(one);
}

function settings({ settings: { prefix, templates } }) {
  if (typeof prefix === "string") return prefix ? `prefix “${prefix}”` : "no prefix";
  return Array.isArray(templates) ? templates.map((sentence) => `“${sentence}”`).join(", ") : "";
}

function recallSection(group, found) {
  const shown = newest(group).slice(0, MOST), [first] = group;
  const set = found.published_recall.find(({ name }) => name === first.published_set);
  const panels = DIRECTIONS.map(([direction, title, meaning]) => el("div", { class: "panel" },
    el("h3", {}, title), el("p", { class: "about" }, meaning),
    bars(KS.map((k) => ({ name: k, rows: [
      ...shown.map((one) => ({ label: labelled(shown, one), value: one.results[direction][k], kind: "own" })),
      ...(set ? set.rows.map((row) => ({ label: `${row.model}, published${shown.some((one) => row.ours && modelOf(one).startsWith(`${row.ours}-`)) ? ", the same model" : ""}`, value: row[direction][k], kind: "published" })) : []),
    ] })))));
  const note = set
    ? `Beside it the published rows of ${set.name}, ${set.split}, striped. Whether captions had a prefix, and how ties count, is not said by all of them.`
    : `${first.published_note[0].toUpperCase()}${first.published_note.slice(1)}. So nothing stands beside these bars.`;
  return el("section", { class: "recall" },
    el("h2", {}, `Recall on ${setOf(first)}`),
    el("p", { class: "about" }, `${counts(first.data)}; percent; ties count against the model; ${shown.map((one) => `${modelOf(one)}: ${settings(one)}, ${one.settings.precision || ""}`).join("; ")}`),
    el("p", { class: "note" }, note),
    el("div", { class: "panels" }, panels));
}

function accuracySection(group) {
  const shown = newest(group).slice(0, MOST), [first] = group;
  return el("section", { class: "accuracy" },
    el("h2", {}, `Zero-shot classification of ${setOf(first)}`),
    el("p", { class: "about" }, `${counts(first.data)}; percent; ${[...new Set(shown.map(settings))].join("; ")}`),
    el("div", { class: "panel" }, bars([["top-1", "top1"], ["top-5", "top5"]].map(([name, key]) => ({
      name, rows: shown.map((one) => ({ label: labelled(shown, one), value: one.results[key], kind: "own" })),
    })))));
}

function tuningSection([one, ...older]) {
  const { results } = one;
  const lower = (kind) => Math.min(kind.ann_recall_images, isNumber(kind.ann_recall_texts) ? kind.ann_recall_texts : 1);
  const points = results.kinds.map((kind, n) => ({ number: n + 1, x: kind.p50_ms, y: lower(kind), name: kind.faiss, chosen: kind.kind === results.chosen }));
  const share = (value) => (isNumber(value) ? value.toFixed(3) : "–");
  const rows = results.kinds.map((kind, n) => [n + 1, kind.kind === results.chosen ? `${kind.faiss} (chosen)` : kind.faiss,
    share(kind.ann_recall_images), share(kind.ann_recall_texts), kind.p50_ms.toFixed(2), isNumber(kind.p99_ms) ? kind.p99_ms.toFixed(2) : "–", isNumber(kind.bytes_per_vector) ? Math.round(kind.bytes_per_vector) : "–"]);
  const drawnRows = table(["", "Kind", "Images", "Texts", "p50, ms", "p99, ms", "Bytes"], rows, [0, 2, 3, 4, 5, 6]);
  points.forEach((point, n) => point.chosen && drawnRows.querySelectorAll("tbody tr")[n].classList.add("chosen"));
  return el("section", { class: "tuning" },
    el("h2", {}, `Latency and recall of ${setOf(one) || modelOf(one)}`),
    el("p", { class: "about" }, `${Number(results.images).toLocaleString("en")} pictures of ${modelOf(one)}, ${day(one.when)}, ${machine(one)}${older.length ? `; ${older.length} older in the table below` : ""}`),
    el("p", { class: "note" }, `Chosen: number ${points.findIndex((point) => point.chosen) + 1}, ${results.chosen}, ${results.why}. Up and left is better; the line joins what nothing else beats in both. Each kind stands at the lower of its two recalls.`),
    curve(points, isNumber(results.target) ? results.target : 2),
    drawnRows,
    el("p", { class: "about" }, `Images, texts: ann_recall@${results.k}, the share of the exact hits that is found; p50, p99: milliseconds of one query from end to end; bytes: of a picture in the index`));
}

const machine = ({ machine: about }) => [about.processor, isNumber(about.cores) ? `${about.cores} cores` : ""].filter(Boolean).join(", ");

function figures({ kind, results }) {
  const plain = (value) => (isNumber(value) ? value.toFixed(1) : "?");
  if (kind === "recall") return DIRECTIONS.map(([name, title]) => `${title} ${KS.map((k) => plain((results[name] || {})[k])).join(" / ")}`).join("; ");
  if (kind === "classify") return `top-1 ${plain(results.top1)}, top-5 ${plain(results.top5)}`;
  if (kind === "eval") return Object.entries(results.recall || {}).map(([name, value]) => `${name} ${plain(value)}`).join(", ");
  if (kind === "tune") return `chosen ${results.chosen}`;
  if (kind === "speed" && results.machine) return speeds(results);
  return Object.entries(results).filter(([, value]) => isNumber(value)).slice(0, 4).map(([name, value]) => `${name} ${value}`).join(", ") || "see the file";
}

function speeds({ encoder = {}, indexing, queries, ann = {} }) {
  const one = (value) => (isNumber(value) ? value.toPrecision(3) : "?");
  const median = (value) => one((value || {}).median);
  const ratios = ({ ratio_to_vit_b32: found }) => Object.entries(found).map(([batch, value]) => `${one(value)} at batch ${batch}`).join(", ");
  return [
    ...Object.values(encoder.models || {}).map(({ images, texts }) => `${median(images[16])} images/s, ${median(texts[16])} texts/s`),
    ...["image", "text"].filter((tower) => encoder[`b32_${tower}`]).map((tower) => `B/32 ${tower} to ViT-B/32: ${ratios(encoder[`b32_${tower}`])}`),
    indexing ? `${median(indexing.files_per_second)} files/s` : "",
    queries ? `query ${median(queries.warm.new_words.p50_ms)} ms` : "",
    ...Object.values(ann).map(({ rows, query, "ann_recall@10": recall }) => `${Number(rows).toLocaleString("en")} pictures: query ${median(query.p50_ms)} ms, ann_recall@10 ${one(recall.images)}`),
  ].filter(Boolean).join("; ");
}

function everything(results) {
  const rows = results.map((one) => [day(one.when), one.kind, modelOf(one), [setOf(one), one.data ? `(${counts(one.data)})` : ""].join(" "), figures(one), [one.settings.precision, one.settings.device].filter(Boolean).join(", "), machine(one), one.file]);
  return el("section", { class: "everything" }, el("h2", {}, "All results"),
    el("p", { class: "about" }, "Recall: R@1 / R@5 / R@10 in percent. The files lie in benchmarks/ of the library; a removed file is gone from here."),
    table(["Date", "Kind", "Model", "Data", "Figures", "Settings", "Machine", "File"], rows));
}

function unreadable(files) {
  if (!files.length) return null;
  return el("section", { class: "unreadable" }, el("h2", {}, "Files that cannot be shown"),
    table(["File", "Why"], files.map(({ file, reason }) => [file, reason])));
}

function published(found) {
  const percent = (values) => KS.map((k) => values[k].toFixed(1)).join(" / ");
  const sets = found.published_recall.map(({ name, split, images, rows }) => [
    el("h3", {}, `${name}, ${split}, ${images.toLocaleString("en")} images: zero-shot recall`),
    table(["Model", "Trained on", "Text → image", "Image → text", "Source"], rows.map((row) => [row.model, row.trained_on, percent(row.text_to_image), percent(row.image_to_text), row.source])),
  ]);
  const accuracies = found.published_accuracy.map((row) => [
    el("h3", {}, `${row.model}, ${row.trained_on}: zero-shot classification, top-1`),
    table([...Object.keys(row.top1), "Average"], [[...Object.values(row.top1), row.average].map((value) => value.toFixed(1))]),
    el("p", { class: "about" }, `Source: ${row.source}`),
  ]);
  return el("section", {}, el("details", { class: "published" }, el("summary", {}, "Published figures"),
    el("p", { class: "about" }, "R@1 / R@5 / R@10 in percent, as their authors report them. They hold for these sets alone."), sets.flat(), accuracies.flat()));
}

function empty() {
  return el("section", { class: "empty" }, el("h2", {}, "Nothing is measured yet"),
    el("p", {}, "Run one of these commands where the library is, then open this page again. SET is a folder with captions as Karpathy or COCO write them, SHARDS a folder of WebDataset tars."));
}

function commands(found, open) {
  const list = el("ul", { class: "commands" }, found.commands.map(({ what, command }) => el("li", {},
    el("span", { class: "about" }, what), el("code", {}, command),
    el("button", { type: "button", "aria-label": `Copy: ${command}`, onclick: ({ currentTarget }) => copied(command, currentTarget) }, "Copy"))));
  return open ? el("section", {}, list) : el("section", {}, el("h2", {}, "Measure more"), list);
}

function table(heads, rows, numbers = []) {
  const cell = (tag, value, n) => el(tag, { class: numbers.includes(n) ? "number" : null }, `${value}`);
  return el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": heads.filter(Boolean).join(", ") }, el("table", {},
    el("thead", {}, el("tr", {}, heads.map((head, n) => cell("th", head, n)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((value, n) => cell("td", value, n)))))));
}
