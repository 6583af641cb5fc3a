const box = element.querySelector(".sync");
const compact = box.classList.contains("compact");
const button = el("button", { type: "button", onclick: press }, "Sync now");
const line = el("span", { class: "line", role: "status" });
const bar = el("progress", { max: 1, "aria-label": "Progress of the sync" });
const skipped = el("details", { class: "skipped" });
let state = null;
let trouble = null;
let seen = false; // a sync that ended before this page was opened is no news
let wake = () => {};

box.append(button, line, bar, skipped);
watch();

async function watch() {
  while (box.isConnected) {
    if (!document.hidden) await look();
    const busy = state && state.state !== "idle";
    await Promise.race([pause(busy ? 1 : compact ? 10 : 5), new Promise((done) => (wake = done))]);
  }
}

async function look() {
  try {
    take(await fetched("/api/v1/sync"));
  } catch (error) {
    trouble = `The server does not answer: ${error.message}`;
    draw();
  }
}

async function press() {
  const busy = state && state.state !== "idle";
  button.disabled = true;
  try {
    take(await fetched("/api/v1/sync", { method: busy ? "DELETE" : "POST" }));
  } catch (error) {
    trouble = error.message;
    draw();
  }
  wake();
}

function take(found) {
  const ended = state && state.state !== "idle" && found.state === "idle";
  seen = seen || found.state !== "idle";
  if (found.state !== "idle" || !state || found.state !== state.state) trouble = null;
  state = found;
  draw();
  if (ended) window.dispatchEvent(new CustomEvent("rwkvsearch:synced"));
}

function draw() {
  const busy = Boolean(state) && state.state !== "idle";
  box.hidden = compact && !seen && !trouble;
  box.classList.toggle("wrong", Boolean(trouble) || (!busy && ["failed", "busy"].includes(state && state.outcome)));
  button.textContent = busy ? "Stop" : "Sync now";
  button.hidden = compact && !busy;
  button.disabled = !state || state.state === "stopping" || (!busy && Boolean(state.refused));
  line.textContent = trouble || said();
  bar.hidden = !busy;
  if (busy && state.stage === "embed" && state.total) bar.value = state.done / state.total;
  else bar.removeAttribute("value");
  drawSkipped();
}

function said() {
  if (!state) return "";
  if (state.state === "stopping") return "Stopping; what is done is kept.";
  if (state.state === "running") return running();
  if (state.refused) return state.refused;
  if (!state.outcome) return "Looks at every indexed folder for what is new, changed or gone.";
  return `${state.message} (${moment(state.finished_at)})`;
}

function running() {
  const { stage, done, total, errors, per_second: pace, seconds_left: left } = state;
  if (!stage) return "Starting";
  if (stage === "publish") return "Writing the index";
  if (stage === "scan") return `Looking: ${counted(total, "file")} so far`;
  if (!total) return "Nothing new to embed";
  const what = { captions: "texts", mirror: "pictures compared with Milvus" }[stage] || "files";
  return [
    `${many(done)} of ${many(total)} ${what}`,
    pace && `${pace < 10 ? pace : many(Math.round(pace))} a second`,
    left !== null && `${lasting(left)} left`,
    errors ? counted(errors, "error") : null,
  ].filter(Boolean).join(", ");
}

function drawSkipped() {
  const names = state ? state.skipped : [];
  skipped.hidden = compact || !names.length;
  if (skipped.hidden || skipped.childElementCount === names.length + 1) return;
  skipped.replaceChildren(
    el("summary", {}, `Skipped: ${many(names.length)}${names.length === 100 ? " or more" : ""}`),
    ...names.map(({ path, reason }) => el("p", {}, el("code", {}, path), ` ${reason}`)),
  );
}
