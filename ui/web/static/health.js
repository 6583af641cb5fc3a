const root = element.querySelector(".health");
const parts = Object.fromEntries(["holds", "roots", "errors", "doctor"].map((name) => [name, el("section", { class: name })]));
root.append(...Object.values(parts));
window.addEventListener("rwkvsearch:synced", load);
load();
checkup();

async function load() {
  await Promise.all([
    part("holds", "What it holds", "/api/v1/stats", holds),
    part("roots", "Folders", "/api/v1/roots", folders),
    part("errors", "Files that could not be used", "/api/v1/errors", errors),
  ]);
}

async function part(name, title, address, draw) {
  let made;
  try {
    made = draw(await fetched(address));
  } catch (error) {
    made = el("p", { class: "wrong" }, error.message);
  }
  parts[name].replaceChildren(el("h2", {}, title), ...[made].flat());
}

function holds(stats) {
  const facts = [
    ["Pictures", many(stats.images), "different contents"],
    ["Files", many(stats.files), "good ones that are there"],
    ["Gone", many(stats.gone), "remembered, in case they come back"],
    ["Errors", many(stats.errors), "files that could not be used"],
    ["Texts", many(stats.captions), "that belong to pictures"],
    ["Tags", many(stats.tags), "given by rwkvsearch tag"],
    ["On disk", bytes(stats.bytes), "without the pictures"],
    ["Last sync", moment(stats.synced_at), "rwkvsearch index, watch, or the button"],
  ];
  const models = stats.models.map((model) => [model.id, `${counted(model.embeddings, "embedding")} of ${model.dim} numbers`]);
  const anns = stats.anns.map((ann) => [`Index of ${ann.model}`, [
    ann.kind, counted(ann.rows, "row"), bytes(ann.bytes),
    ann.ann_recall === null ? "recall not measured: rwkvsearch tune" : `finds ${(100 * ann.ann_recall).toFixed(1)} % of the exact hits`,
  ].join(", ")]);
  return [
    el("div", { class: "facts" }, facts.map(([name, value, about]) =>
      el("div", { class: "fact" }, el("span", { class: "name" }, name), el("strong", {}, value), el("span", { class: "about" }, about)))),
    el("dl", {}, [["Library", stats.library], ...models, ...anns].flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
  ];
}

function folders({ roots }) {
  if (!roots.length) return el("p", {}, "Nothing was indexed yet: ", el("code", {}, "rwkvsearch index PATH"));
  return el("ul", { class: "list" }, roots.map((one) => {
    const counts = [counted(one.files, "file"), one.errors && counted(one.errors, "error"), one.gone && `${many(one.gone)} gone`];
    const place = one.kind === "loose" ? "Files that were named one by one" : one.path;
    return el("li", {},
      el("code", {}, place),
      el("span", {}, [...counts.filter(Boolean), `synced ${moment(one.synced_at)}`].join(", ")),
      one.is_there ? null : el("strong", { class: "wrong" }, "cannot be read now: what is known of it is kept; plug it in, or tell where it is with rwkvsearch relocate"));
  }));
}

function errors({ files, reasons }) {
  if (!files) return el("p", {}, "None.");
  return reasons.map(reason);
}

function reason({ reason, files, remedy }) {
  const names = el("div", { class: "names" });
  const about = new URLSearchParams({ reason });
  let next = 0;
  const more = el("button", { type: "button", onclick: further }, "More");
  const box = el("details", { class: "reason", ontoggle: () => box.open && next === 0 && further() },
    el("summary", {}, el("strong", {}, reason), ` ${counted(files, "file")}`),
    el("p", {}, remedy),
    el("div", { class: "bar" }, el("button", { type: "button", onclick: copyAll }, "Copy all paths")),
    names, more);

  async function further() {
    more.disabled = true;
    try {
      const page = await fetched(`/api/v1/errors/files?${about}&offset=${next}`);
      names.append(...page.files.map(({ path, bytes: size }) =>
        el("p", {}, el("code", {}, path), ` ${bytes(size)} `, el("button", { type: "button", class: "small", onclick: ({ target }) => copied(pasteable(path), target) }, "Copy"))));
      next = page.next;
      more.hidden = next === null;
    } catch (error) {
      names.append(el("p", { class: "wrong" }, error.message));
    }
    more.disabled = false;
  }

  async function copyAll({ target }) {
    const paths = [];
    for (let at = 0; at !== null;) {
      const page = await fetched(`/api/v1/errors/files?${about}&limit=10000&offset=${at}`);
      paths.push(...page.files.map(({ path }) => path));
      at = page.next;
    }
    await copied(paths.map(pasteable).join("\n"), target);
  }

  return box;
}

async function checkup(start = false) {
  let found = null;
  try {
    found = await fetched("/api/v1/doctor", start ? { method: "POST" } : {});
    drawDoctor(found);
    while (found.running && root.isConnected) {
      await pause(1);
      found = await fetched("/api/v1/doctor");
      drawDoctor(found);
    }
    if (start) parts.doctor.querySelector("button").focus({ preventScroll: true });
  } catch (error) {
    drawDoctor(found, error.message);
  }
}

function drawDoctor(found, wrong = null) {
  const running = Boolean(found && found.running) && !wrong;
  const start = el("button", { type: "button", disabled: running, onclick: () => checkup(true) }, running ? "Looking …" : "Check the library");
  const line = el("span", { role: "status" }, wrong || verdict(found));
  const needed = found && found.findings.some(({ fixable }) => fixable);
  parts.doctor.replaceChildren(
    el("h2", {}, "Is it whole?"),
    el("div", { class: "bar" }, start, line),
    el("ul", { class: "list findings" }, (found ? found.findings : []).map(finding)),
    ...(needed ? [repair(found.repair)] : []));
}

function verdict(found) {
  if (found.running) return `checking ${found.check || "…"}`;
  if (found.error) return found.error;
  if (found.clean === null) return "Compares database, embeddings, index, files and weights. Nothing is changed.";
  const faults = found.findings.filter(({ state }) => state === "fault").length;
  return `${found.clean ? "Clean" : counted(faults, "fault")} (${moment(found.finished_at)}, ${lasting(found.seconds)})`;
}

function finding({ check, state, text, remedy }) {
  return el("li", { class: state },
    el("span", { class: "state" }, state), el("span", { class: "check" }, check),
    el("span", { class: "text" }, text, remedy && state !== "ok" ? el("em", {}, remedy) : null));
}

function repair(command) {
  return el("div", { class: "bar repair" }, el("span", {}, "What can be put right, this puts right; no picture is touched:"),
    el("code", {}, command), el("button", { type: "button", onclick: ({ target }) => copied(command, target) }, "Copy"));
}
