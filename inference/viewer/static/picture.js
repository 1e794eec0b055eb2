/* An image as a canvas has it: planes made colours, laid one over the other, with the mask on top.

   Off the screen and in the plane's own pixels; where it stands on the screen is for the pane. Buffers are made when
   the shape changes, and kept. */

export const MASK_COLOUR = 0xff008cff; // alpha, blue, green, red: an orange that no channel and no overlap has

export class Picture {
  constructor() {
    this.canvas = document.createElement("canvas");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.clear();
  }

  /* Have no image, and say so. */
  clear() {
    this.width = this.height = 0;
  }

  get isEmpty() {
    return this.width === 0;
  }

  /* Paint layers [{plane, colours}], all of one shape; the first covers, the others add. */
  paint(layers) {
    const [{ plane, colours }, ...others] = layers;
    this.take(plane.width, plane.height);
    const { pixels } = this;
    const { values } = plane;
    for (let index = 0; index < values.length; index++) pixels[index] = colours[values[index]];
    for (const layer of others) this.add(layer);
  }

  take(width, height) {
    this.width = width;
    this.height = height;
    if (this.data?.width === width && this.data.height === height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.data = this.context.createImageData(width, height);
    this.pixels = new Uint32Array(this.data.data.buffer);
  }

  /* Add colours, each part up to 255: two parts at a time, with their carries made full. */
  add({ plane, colours }) {
    const { pixels } = this;
    const { values } = plane;
    if (values.length !== pixels.length) return; // another shape cannot lie over this one
    for (let index = 0; index < values.length; index++) {
      const there = pixels[index];
      const more = colours[values[index]];
      let redBlue = (there & 0xff00ff) + (more & 0xff00ff);
      let green = (there & 0xff00) + (more & 0xff00);
      const carry = redBlue & 0x1000100;
      redBlue = (redBlue | (carry - (carry >>> 8))) & 0xff00ff;
      if (green > 0xff00) green = 0xff00;
      pixels[index] = 0xff000000 | redBlue | green;
    }
  }

  /* Colour what lies on the raw plane's pixels of at least `threshold`; returns how many raw pixels those are. */
  mark(raw, threshold) {
    const { values, width } = raw;
    const perRawX = this.width / raw.width;
    const perRawY = this.height / raw.height;
    let marked = 0;
    for (let index = 0; index < values.length; index++) {
      if (values[index] < threshold) continue;
      marked++;
      const x = index % width;
      const y = (index - x) / width;
      const right = Math.round((x + 1) * perRawX);
      const bottom = Math.round((y + 1) * perRawY);
      for (let row = Math.round(y * perRawY); row < bottom; row++)
        this.pixels.fill(MASK_COLOUR, row * this.width + Math.round(x * perRawX), row * this.width + right);
    }
    return marked;
  }

  /* Put what was painted onto the canvas. */
  finish() {
    this.context.putImageData(this.data, 0, 0);
  }
}
