/* What the comparison of images draws with: which part of the images is shown, and a canvas that shows it.

   Knows no page and no event. The page puts it and `viewer.js` into one function, so that no name is global. */

const LARGEST_ZOOM = 32;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/* Which part of the images is shown. All lengths on the screen are in CSS px. */
class Aim {
  constructor() {
    this.reset();
  }

  reset() {
    this.magnification = 1; // 1 shows the whole field, however large the panel is
    this.x = 0.5; // the middle of the panel, in parts of the image
    this.y = 0.5;
  }

  zoom(panel, image) {
    return this.magnification * Math.min(panel.width / image.width, panel.height / image.height);
  }

  /* Zoom by a factor and keep what lies at a place of the panel where it is. Returns whether it did. */
  zoomAt(factor, at, panel, image) {
    const before = this.zoom(panel, image);
    const most = Math.max(LARGEST_ZOOM / (before / this.magnification), 1);
    const magnification = clamp(this.magnification * factor, 1, most);
    if (magnification === this.magnification) return false;
    this.magnification = magnification;
    const after = this.zoom(panel, image);
    this.x += ((at.x - panel.width / 2) / image.width) * (1 / before - 1 / after);
    this.y += ((at.y - panel.height / 2) / image.height) * (1 / before - 1 / after);
    this.keepInside(panel, image);
    return true;
  }

  moveBy(dx, dy, panel, image) {
    const zoom = this.zoom(panel, image);
    this.x -= dx / (image.width * zoom);
    this.y -= dy / (image.height * zoom);
    this.keepInside(panel, image);
  }

  keepInside(panel, image) {
    const zoom = this.zoom(panel, image);
    const halfX = Math.min(panel.width / (2 * image.width * zoom), 0.5);
    const halfY = Math.min(panel.height / (2 * image.height * zoom), 0.5);
    this.x = clamp(this.x, halfX, 1 - halfX);
    this.y = clamp(this.y, halfY, 1 - halfY);
  }
}

/* A canvas that shows an image, or the part of it between two places from left (0) to right (1). */
class Surface {
  constructor(frame) {
    this.canvas = document.createElement("canvas");
    frame.prepend(this.canvas);
    this.canvas.setAttribute("role", "img");
  }

  get size() {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
  }

  show(panel, aim, from = 0, to = 1) {
    const { canvas, size } = this;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(size.width * ratio);
    canvas.height = Math.round(size.height * ratio);
    canvas.setAttribute("aria-label", panel.image.alt);
    canvas.classList.toggle("map", panel.isMap);
    const context = canvas.getContext("2d");
    context.beginPath();
    context.rect(Math.round(from * canvas.width), 0, Math.round((to - from) * canvas.width), canvas.height);
    context.clip();
    const scale = ratio * aim.zoom(size, panel.shape);
    context.imageSmoothingEnabled = scale < 1; // beyond 100 % a pixel is a square
    context.imageSmoothingQuality = "high";
    const left = canvas.width / 2 - aim.x * panel.shape.width * scale;
    const top = canvas.height / 2 - aim.y * panel.shape.height * scale;
    context.setTransform(scale, 0, 0, scale, Math.round(left), Math.round(top));
    context.drawImage(panel.image, 0, 0);
  }
}
