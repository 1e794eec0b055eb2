/* A canvas on the screen that shows a picture where the view says.

   Beyond 100 % a pixel is a square, never smoothed. Below, where several pixels share one of the screen, their mean is
   shown: leaving pixels out would thin lines and lose points. */

export class Pane {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
  }

  /* Take a size in CSS px; ratio is device pixels for one. */
  resize({ width, height }, ratio) {
    const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== across || this.canvas.height !== down) {
      this.canvas.width = across;
      this.canvas.height = down;
      this.canvas.style.width = `${width}px`;
      this.canvas.style.height = `${height}px`;
    }
    this.size = { width, height };
    this.ratio = ratio;
  }

  /* Draw a picture that has `enlargement` pixels for each raw pixel; nothing but the ground where it is empty. */
  draw(picture, enlargement, view) {
    const { context, canvas, ratio } = this;
    context.fillStyle = "#05070a";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (picture.isEmpty) return;
    const { left, top } = view.origin(this.size, ratio);
    const scale = (view.zoom * ratio) / enlargement; // device pixels for one of the picture
    context.imageSmoothingEnabled = scale < 1;
    context.imageSmoothingQuality = "medium";
    const [x, y] = [Math.round(left * ratio), Math.round(top * ratio)];
    context.drawImage(picture.canvas, x, y, picture.width * scale, picture.height * scale);
  }
}
