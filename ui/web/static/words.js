// Numbers, sizes and times as a person reads them.
const many = (number) => number.toLocaleString("en");
const counted = (number, noun) => `${many(number)} ${noun}${number === 1 ? "" : "s"}`;

function bytes(number) {
  const [unit, size] = [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]].find(([, size]) => number >= size) || ["bytes", 1];
  const value = number / size;
  return `${size > 1 && value < 100 ? value.toFixed(1) : many(Math.round(value))} ${unit}`;
}

function lasting(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

function moment(text) {
  return text ? new Date(text).toLocaleString("sv", { dateStyle: "short", timeStyle: "short" }) : "never";
}

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

// A path as it can be pasted: one with undecodable bytes, which no clipboard holds, as a word for a shell.
function pasteable(path) {
  if (path.isWellFormed()) return path;
  const hex = (byte) => `\\x${byte.toString(16).padStart(2, "0")}`;
  const written = Array.from(path, (sign) => {
    const code = sign.codePointAt(0);
    if (code >= 0xdc80 && code <= 0xdcff) return hex(code - 0xdc00);
    if (code >= 0x20 && code < 0x7f && !"\\'".includes(sign)) return sign;
    return Array.from(new TextEncoder().encode(sign), hex).join("");
  });
  return `$'${written.join("")}'`;
}
