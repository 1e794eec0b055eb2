/* What lies under the cursor: its place in raw pixels and micrometres, and the counts of raw and enhanced there. */

import { countsInWords, element, NOTHING, say } from "./words.js";

export class Cursor {
  constructor() {
    this.place = null;
  }

  /* Take the place {x, y} in raw pixels, or null where the cursor left. */
  point(place, images, enlargement) {
    this.place = place;
    this.show(images, enlargement);
  }

  /* Show the counts at the place; with several channels, of each. */
  show(images, enlargement) {
    const [image] = images;
    const { place } = this;
    const isInside =
      image && place && place.x >= 0 && place.y >= 0 && place.x < image.raw.width && place.y < image.raw.height;
    if (!isInside) {
      for (const name of ["px", "um", "raw", "enhanced"]) say(element(`cursor-${name}`), NOTHING);
      return;
    }
    const [x, y] = [Math.floor(place.x), Math.floor(place.y)];
    const size = image.raw.pixelSizeUm;
    say(element("cursor-px"), `${x}, ${y}`);
    say(element("cursor-um"), size ? `${(place.x * size).toFixed(2)}, ${(place.y * size).toFixed(2)}` : NOTHING);
    say(element("cursor-raw"), inWords(images.map(({ raw }) => raw.countsAt(x, y))));
    const at = [Math.floor(place.x * enlargement), Math.floor(place.y * enlargement)];
    say(element("cursor-enhanced"), inWords(images.map(({ enhanced }) => enhanced?.countsAt(...at) ?? null)));
  }
}

function inWords(counts) {
  return counts.map(countsInWords).join("  ");
}
