// Makes elements and says numbers. What comes from a folder is set as text, never as markup.

/** Return an element with attributes and children; a string child becomes text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Set an element's text where it differs, so that a selection in it survives. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const COLOURS = {
  ground: ["--ground", "#14171a"],
  text: ["--ink", "#d8dee4"],
  quiet: ["--quiet", "#93a0ac"],
  line: ["--line", "#2c343c"],
  blue: ["--blue", "#4aa3ff"],
  good: ["--good", "#57c785"],
  warn: ["--mild", "#e8b339"],
  bad: ["--grave", "#e8585b"],
  violet: ["--violet", "#b58cff"],
};

/** Return a colour as viewer.css has it, or what it is where the style does not name it. */
export function colour(name) {
  const [property, fallback] = COLOURS[name];
  return getComputedStyle(document.documentElement).getPropertyValue(property).trim() || fallback;
}

/** Return a number with so many significant digits, without an exponent where it is of a usual size. */
export function figure(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e7) return value.toExponential(digits - 1);
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(digits)));
}

/** Return a time as a person says it: 42 s, 12 min, 3 h 05 min. */
export function duration(seconds) {
  if (seconds < 100) return `${Math.max(0, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 100) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/** Return a figure with a picture that is loaded when it comes into view, or at once; one that cannot be says so. */
export function picture(address, caption, { atOnce = false } = {}) {
  const when = atOnce ? { fetchpriority: "high" } : { loading: "lazy" };
  const image = make("img", { ...when, alt: caption, decoding: "async", src: address });
  const shown = make("figure", {}, image, make("figcaption", {}, caption));
  image.addEventListener("error", () => image.replaceWith(make("span", { class: "missing" }, "no picture")));
  return shown;
}
