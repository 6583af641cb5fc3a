// Elements out of plain values: nothing that comes from a library is ever read as HTML.
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(made.style, value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

const thumb = (hash, size = 320) => `/api/v1/thumbs/${hash}?size=${size}`;

async function fetched(address, options) {
  const answer = await fetch(address, { headers: { Accept: "application/json" }, ...options });
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(found.detail || `the server said ${answer.status}`);
  return found;
}

async function copied(text, button) {
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    const area = el("textarea", { style: { position: "fixed", opacity: 0 } }, text);
    button.parentElement.append(area);
    area.select();
    button.textContent = document.execCommand("copy") ? "Copied" : "Not allowed";
    area.remove();
  }
  setTimeout(() => (button.textContent = label), 1200);
}
