/* The scale bar: a round length, as long on the screen as the zoom makes it.

   In micrometres, or in raw pixels where no pixel size is known, and it says which. */

import { say } from "./words.js";

const ROUND = [5, 2, 1];
const LONGEST_PART = 0.3; // of the pane's width

/* Return the longest length of 1, 2 or 5 times a power of ten that is not above `longest`. */
export function roundLength(longest) {
  const power = 10 ** Math.floor(Math.log10(longest) + 1e-9);
  return (ROUND.find((step) => step * power <= longest * (1 + 1e-9)) ?? 1) * power;
}

function inWords(length, unit) {
  if (unit === "µm" && length >= 1000) return `${length / 1000} mm`;
  if (unit === "µm" && length < 1) return `${Number((length * 1000).toPrecision(1))} nm`;
  return `${Number(length.toPrecision(1))} ${unit}`;
}

export class ScaleBar {
  constructor(target) {
    this.target = target;
    this.text = target.querySelector("span");
    this.bar = target.querySelector("i");
    this.drawn = "";
  }

  /* Show the bar for a pane's width in CSS px, the zoom in CSS px for a raw pixel, and the raw pixel size or null. */
  show(width, zoom, pixelSizeUm) {
    const key = `${width} ${zoom} ${pixelSizeUm}`;
    if (key === this.drawn) return;
    this.drawn = key;
    const pxPerUnit = zoom / (pixelSizeUm ?? 1);
    const length = roundLength((width * LONGEST_PART) / pxPerUnit);
    const unit = pixelSizeUm === null ? "px" : "µm";
    this.bar.style.width = `${length * pxPerUnit}px`;
    this.target.dataset.length = String(Number(length.toPrecision(1)));
    this.target.dataset.unit = unit;
    say(this.text, inWords(length, unit));
  }
}
