/* Numbers, times and lengths as words; and how words get onto the page: only where they changed. */

export const element = (id) => document.getElementById(id);

/* Set an element's text; costs nothing where it says so already. */
export function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/* Show a switch as on or off. */
export function press(button, on) {
  button.setAttribute("aria-pressed", String(on));
}

export const NOTHING = "–";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/* Return counts with no more digits than they are worth. */
export function countsInWords(value) {
  if (value === null || value === undefined) return NOTHING;
  if (Number.isNaN(value)) return "no number";
  return Number.isInteger(value) || Math.abs(value) >= 10000 ? String(Math.round(value)) : value.toPrecision(5);
}

export function milliseconds(value) {
  if (!isNumber(value)) return NOTHING;
  return value >= 10000 ? `${(value / 1000).toFixed(1)} s` : `${value.toFixed(value < 10 ? 1 : 0)} ms`;
}

export function perSecond(value) {
  return isNumber(value) ? `${value.toFixed(1)}/s` : NOTHING;
}

export function whole(value) {
  return isNumber(value) ? String(value) : NOTHING;
}

/* Return a time since the first frame: 12.34 s, 3:05.2, 1:02:03. */
export function elapsed(value) {
  if (!isNumber(value)) return "";
  const seconds = value / 1000;
  if (seconds < 60) return `${seconds.toFixed(2)} s`;
  const pad = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
  return `${Math.floor(minutes / 60)}:${pad(minutes % 60)}:${pad(Math.floor(seconds % 60))}`;
}

/* Return the first characters of a hash, without the name of the hash function. */
export function shortHash(hash) {
  return hash ? hash.replace(/^.*:/, "").slice(0, 8) : "";
}

/* Return a list's lines, whatever a field holds: nothing, one line, or several. */
export function lines(value) {
  if (value === null || value === undefined || value === false || value === "") return [];
  return Array.isArray(value) ? value : [String(value)];
}
