/* Window and level: which counts are shown black and which white, for each series and each of raw and enhanced.

   Also the table that makes a colour of each of the 65,536 values. Levels are in counts, so they hold for planes of any
   type. Where raw and enhanced are linked, which they are at first, both have one window: an enhanced image is in
   the counts of its raw frame. */

const DARK_PART = 0.001;
const BRIGHT_PART = 0.999;
const VALUES = 65536;
const OPAQUE = 0xff000000;

export const GREY = [255, 255, 255];

export class Levels {
  constructor() {
    this.windows = new Map();
    this.linked = true;
    this.always = false; // auto at every frame
  }

  /* Return the window {black, white, chosen, seen} of a series; the raw one for both where they are linked. */
  of(series, kind) {
    const key = `${this.linked ? "raw" : kind} ${series}`;
    if (!this.windows.has(key)) this.windows.set(key, { black: 0, white: 1, chosen: false, seen: "" });
    return this.windows.get(key);
  }

  /* Take what a person chose; white stays above black. */
  choose(series, kind, black, white) {
    if (!Number.isFinite(black) || !Number.isFinite(white)) return;
    const window = this.of(series, kind);
    Object.assign(window, { black, white: Math.max(white, nextAbove(black)), chosen: true });
  }

  /* Whether a series still waits for its first automatic levels, now that these kinds of its planes are there. */
  isNew(series, kinds) {
    const window = this.of(series, kinds.at(-1));
    return this.always || (!window.chosen && !window.seen.includes(kinds.at(-1)));
  }

  /* Set the levels from histograms {raw, enhanced or null}: of both together where they are linked. */
  auto(series, histograms) {
    if (this.linked) {
      const both = [histograms.raw, histograms.enhanced].filter(Boolean);
      this.setAuto(this.of(series, "raw"), both, histograms.enhanced ? "raw enhanced" : "raw");
      return;
    }
    for (const kind of ["raw", "enhanced"])
      if (histograms[kind]) this.setAuto(this.of(series, kind), [histograms[kind]], kind);
  }

  setAuto(window, histograms, seen) {
    const black = Math.min(...histograms.map((histogram) => histogram.percentile(DARK_PART)));
    let white = Math.max(...histograms.map((histogram) => histogram.percentile(BRIGHT_PART)));
    // Few points on an even ground: the brightest is white; and one step where all is even.
    if (white <= black) white = Math.max(...histograms.map((histogram) => histogram.percentile(1)));
    if (white <= black) white = black + Math.max(...histograms.map(({ step }) => step));
    Object.assign(window, { black, white: Math.max(white, nextAbove(black)), chosen: false, seen });
  }

  /* Give each of raw and enhanced its own window, at first the common one; or the raw one to both. */
  link(linked, series) {
    const common = { ...this.of(series, "raw") };
    this.linked = linked;
    if (!linked) Object.assign(this.of(series, "enhanced"), common);
  }
}

function nextAbove(counts) {
  return counts + Math.max(Math.abs(counts) * 1e-6, 1e-6);
}

/* The colours of a plane's values: one entry a value, as a canvas stores them (alpha, blue, green, red). */
export class ColourTable {
  constructor() {
    this.colours = new Uint32Array(VALUES);
    this.made = "";
  }

  /* Make the table for a plane, a window and a colour [red, green, blue]; nothing where it is made already. */
  make(plane, window, colour) {
    const { zero, step, hasNan } = plane;
    const { black, white } = window;
    const key = `${zero} ${step} ${hasNan} ${black} ${white} ${colour}`;
    if (key === this.made) return this.colours;
    this.made = key;
    const [red, green, blue] = colour.map((part) => part / 255);
    for (let value = 0; value < VALUES; value++) {
      const part = (zero + step * value - black) / (white - black);
      const level = 255 * Math.min(Math.max(part, 0), 1);
      const packed = (Math.round(level * blue) << 16) | (Math.round(level * green) << 8) | Math.round(level * red);
      this.colours[value] = (OPAQUE | packed) >>> 0;
    }
    if (hasNan) this.colours[0] = OPAQUE;
    return this.colours;
  }
}
