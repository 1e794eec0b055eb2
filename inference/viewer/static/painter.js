/* From the planes of a view to the two pictures: levels, colours and the mask applied.

   Also keeps the histograms, and gives a series its first automatic levels. Knows nothing of the screen or the server.
   Tables, histograms and pictures are kept from frame to frame. */

import { Histogram } from "./histogram.js";
import { ColourTable } from "./levels.js";
import { enlargement } from "./message.js";
import { Picture } from "./picture.js";

const MOST_TABLES = 64; // of a quarter of a megabyte
const HISTOGRAM_MS = 250; // between two, where nobody waits for one

export class Painter {
  constructor(levels, channels) {
    this.levels = levels;
    this.channels = channels;
    this.pictures = { raw: new Picture(), enhanced: new Picture() };
    this.histograms = { raw: new Histogram(), enhanced: new Histogram() };
    this.spare = { raw: new Histogram(), enhanced: new Histogram() }; // of the other channels
    this.tables = new Map();
    this.masked = false;
    this.enlargement = 1;
    this.saturated = null;
    this.clear();
  }

  clear() {
    this.measured = -Infinity;
    this.measuredSeries = null;
    this.pictures.raw.clear();
    this.pictures.enhanced.clear();
  }

  /* Look at the counts of new images: first levels, and now and then the histogram of the active one, which is
     returned as {raw, enhanced or null} where it was taken. */
  measure(images, active, now) {
    let shown = null;
    for (const image of images) {
      const isActive = image.series === active;
      const isNew = this.levels.isNew(image.series, image.enhanced ? ["raw", "enhanced"] : ["raw"]);
      const isDue = isActive && (now - this.measured > HISTOGRAM_MS || this.measuredSeries !== active);
      if (!isNew && !isDue) continue;
      const histograms = this.histogramsOf(image, isActive ? this.histograms : this.spare);
      if (isNew) this.levels.auto(image.series, histograms);
      if (isActive) shown = histograms;
    }
    if (shown) {
      this.measured = now;
      this.measuredSeries = active;
    }
    return shown;
  }

  histogramsOf(image, into) {
    into.raw.measure(image.raw);
    if (image.enhanced) into.enhanced.measure(image.enhanced);
    return { raw: into.raw, enhanced: image.enhanced ? into.enhanced : null };
  }

  /* Set the levels of all images anew; returns the histograms of the active one. */
  auto(images, active) {
    for (const image of images) this.levels.auto(image.series, this.histogramsOf(image, this.spare));
    const image = images.find(({ series }) => series === active);
    return image ? this.histogramsOf(image, this.histograms) : null;
  }

  /* Paint the pictures of a view's images. */
  paint(images) {
    this.paintKind("raw", images);
    this.paintKind(
      "enhanced",
      images.filter(({ enhanced }) => enhanced),
    );
    this.enlargement = enlargement(images.find(({ enhanced }) => enhanced) ?? images[0]);
  }

  paintKind(kind, images) {
    const picture = this.pictures[kind];
    if (!images.length) return picture.clear();
    picture.paint(images.map((image) => ({ plane: image[kind], colours: this.coloursOf(image, kind) })));
    const marked = this.masked ? this.mark(picture, images) : null;
    if (kind === "raw") this.saturated = marked;
    picture.finish();
  }

  coloursOf(image, kind) {
    const key = `${kind} ${image.series}`;
    if (this.tables.size >= MOST_TABLES && !this.tables.has(key)) this.tables.clear();
    if (!this.tables.has(key)) this.tables.set(key, new ColourTable());
    const window = this.levels.of(image.series, kind);
    return this.tables.get(key).make(image[kind], window, this.channels.colourOf(image.series));
  }

  /* Mark saturated raw pixels; returns how many of how many, or null where no camera's full scale is known. */
  mark(picture, images) {
    const known = images.filter((image) => image.full_scale !== null && image.full_scale !== undefined);
    if (!known.length) return null;
    let marked = 0;
    for (const { raw, full_scale } of known) marked += picture.mark(raw, raw.valueOf(full_scale));
    return { marked, of: known.length * known[0].raw.values.length, fullScale: known[0].full_scale };
  }
}
