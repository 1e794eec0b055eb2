/* Which part of the sample is shown: one zoom and one centre for every pane.

   In raw pixels, edges at whole numbers: the first pixel reaches from 0 to 1. `zoom` is screen px (CSS) for one raw
   pixel. Knows no canvas; a pane's size comes as {width, height} in CSS px, an image's in raw pixels. */

const LARGEST_ZOOM = 64;
const SMALLEST_PART = 0.25; // of the zoom that fits

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

export class View {
  constructor() {
    this.zoom = 1;
    this.x = this.y = 0;
    this.isFitted = true; // and stays so when the window or the image changes
  }

  static fitting(pane, image) {
    return Math.min(pane.width / image.width, pane.height / image.height);
  }

  /* Show the whole image. */
  fit(pane, image) {
    this.isFitted = true;
    this.zoom = View.fitting(pane, image);
    this.x = image.width / 2;
    this.y = image.height / 2;
  }

  /* Zoom by a factor, and keep what lies at a place of the pane where it is. */
  zoomAt(factor, at, pane, image) {
    const fitting = View.fitting(pane, image);
    const zoom = clamp(this.zoom * factor, Math.min(fitting, 1) * SMALLEST_PART, Math.max(LARGEST_ZOOM, fitting));
    this.x += (at.x - pane.width / 2) * (1 / this.zoom - 1 / zoom);
    this.y += (at.y - pane.height / 2) * (1 / this.zoom - 1 / zoom);
    this.zoom = zoom;
    this.isFitted = false;
    this.keepInside(pane, image);
  }

  moveBy(dx, dy, pane, image) {
    this.x -= dx / this.zoom;
    this.y -= dy / this.zoom;
    this.isFitted = false;
    this.keepInside(pane, image);
  }

  /* Keep the pane full of the image; in the middle where the image is the smaller. */
  keepInside(pane, image) {
    const halfX = Math.min(pane.width / this.zoom, image.width) / 2;
    const halfY = Math.min(pane.height / this.zoom, image.height) / 2;
    this.x = clamp(this.x, halfX, image.width - halfX);
    this.y = clamp(this.y, halfY, image.height - halfY);
  }

  /* Return where the image's corner lies in a pane, on whole device pixels so that its pixels stay squares. */
  origin(pane, ratio) {
    const snap = (place) => Math.round(place * ratio) / ratio;
    return {
      left: snap(pane.width / 2 - this.x * this.zoom),
      top: snap(pane.height / 2 - this.y * this.zoom),
    };
  }

  /* Return the sample's place, in raw pixels, at a place of the pane. */
  sampleAt(at, pane, ratio) {
    const { left, top } = this.origin(pane, ratio);
    return { x: (at.x - left) / this.zoom, y: (at.y - top) / this.zoom };
  }
}
