/* The histogram and what stands around it: two handles, two numbers, auto, log and range.

   Shows and changes the Levels of the active series; owns the axis under the histogram, which moves only when the
   levels leave it, on auto and on range, so that nothing jumps under the mouse. */

import { countsInWords, element, press, say } from "./words.js";

const STEP = 0.01; // of the axis, for an arrow key
const ROOM = [0.15, 0.6]; // of the window, left and right of it on the axis
const RAW_COLOUR = "#8b96a3";
const ENHANCED_COLOUR = "#f0e442";

export class LevelsPanel {
  constructor(levels, changed, autoAsked) {
    this.levels = levels;
    this.changed = changed;
    this.series = null;
    this.kind = "raw";
    this.axis = { from: 0, to: 1 };
    this.isLog = true;
    this.isWhole = false;
    this.fullScale = null;
    this.histograms = null;
    this.canvas = element("histogram");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.handles = { black: element("handle-black"), white: element("handle-white") };
    this.inputs = { black: element("black"), white: element("white") };
    this.listen(autoAsked);
    new ResizeObserver(() => this.resize()).observe(this.canvas);
  }

  listen(autoAsked) {
    const plot = element("plot");
    plot.addEventListener("pointerdown", (event) => this.grab(event));
    plot.addEventListener("pointermove", (event) => this.held && this.moveTo(event));
    for (const type of ["pointerup", "pointercancel"]) plot.addEventListener(type, () => this.release());
    plot.addEventListener("keydown", (event) => this.onKey(event));
    for (const input of Object.values(this.inputs)) input.addEventListener("change", () => this.read());
    element("auto").addEventListener("click", autoAsked);
    element("auto-always").addEventListener("click", () => this.toggleAlways());
    element("log").addEventListener("click", () => this.toggleLog());
    element("whole-range").addEventListener("click", () => this.toggleWhole());
    element("linked").addEventListener("change", (event) => this.link(event.target.checked));
    element("levels-kind").addEventListener("change", (event) => this.showKind(event.target.value));
  }

  get window() {
    return this.levels.of(this.series, this.kind);
  }

  toggleLog() {
    press(element("log"), (this.isLog = !this.isLog));
    this.draw();
  }

  toggleAlways() {
    press(element("auto-always"), (this.levels.always = !this.levels.always));
    this.changed();
  }

  toggleWhole() {
    press(element("whole-range"), (this.isWhole = !this.isWhole));
    this.reframe();
    this.draw();
  }

  link(linked) {
    this.levels.link(linked, this.series);
    element("levels-kind").disabled = linked;
    this.showKind(linked ? "raw" : element("levels-kind").value);
    this.changed();
  }

  showKind(kind) {
    element("levels-kind").value = this.kind = kind;
    this.draw();
  }

  /* Show the histograms {raw, enhanced or null} of a series. */
  show(series, channel, histograms, fullScale) {
    const isOther = series !== this.series;
    Object.assign(this, { series, histograms, fullScale });
    say(element("levels-of"), channel ?? "");
    if (isOther) this.reframe();
    this.draw();
  }

  /* Lay the axis around the levels, or over the whole range. */
  reframe() {
    if (!this.histograms) return;
    const { black, white } = this.window;
    const range = white - black;
    this.axis = { from: black - ROOM[0] * range, to: white + ROOM[1] * range };
    if (black >= 0) this.axis.from = Math.max(this.axis.from, 0);
    const whole = this.fullScale ?? this.histograms.raw.counts(65535);
    if (this.isWhole) this.axis = { from: Math.min(this.histograms.raw.counts(0), 0), to: Math.max(whole, white) };
  }

  /* Draw histogram, handles and numbers as the levels are. */
  draw() {
    if (!this.histograms) return;
    const { black, white } = this.window;
    if (!this.held && (black < this.axis.from || white > this.axis.to)) this.reframe();
    this.drawCurves();
    this.placeHandle("black", black);
    this.placeHandle("white", white);
    say(element("axis-from"), countsInWords(Math.round(this.axis.from)));
    say(element("axis-to"), countsInWords(Math.round(this.axis.to)));
  }

  drawCurves() {
    const { context, canvas, density } = this;
    if (!density) return;
    context.fillStyle = "#0a0d11";
    context.fillRect(0, 0, canvas.width, canvas.height);
    this.drawCurve(this.histograms.raw, RAW_COLOUR, true);
    if (this.histograms.enhanced) this.drawCurve(this.histograms.enhanced, ENHANCED_COLOUR, false);
  }

  drawCurve(histogram, colour, isFilled) {
    const { context, canvas, density } = this;
    const most = histogram.bin(density, this.axis.from, this.axis.to);
    const high = (value) => (this.isLog ? Math.log1p(value) / Math.log1p(most) : value / most);
    context.fillStyle = context.strokeStyle = colour;
    context.lineWidth = Math.max(window.devicePixelRatio, 1);
    context.beginPath();
    context.moveTo(0, canvas.height);
    for (let x = 0; x < density.length; x++)
      context.lineTo(x + 0.5, canvas.height * (1 - 0.94 * (most > 0 ? high(density[x]) : 0)));
    context.lineTo(canvas.width, canvas.height);
    if (isFilled) context.fill();
    else context.stroke();
  }

  placeHandle(name, counts) {
    const part = (counts - this.axis.from) / (this.axis.to - this.axis.from);
    this.handles[name].style.left = `${100 * Math.min(Math.max(part, 0), 1)}%`;
    this.handles[name].setAttribute("aria-valuenow", String(counts));
    const text = String(Number(counts.toPrecision(7)));
    if (document.activeElement !== this.inputs[name] && this.inputs[name].value !== text)
      this.inputs[name].value = text;
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(Math.round(this.canvas.clientWidth * ratio), 1);
    this.canvas.height = Math.max(Math.round(this.canvas.clientHeight * ratio), 1);
    this.density = new Float64Array(this.canvas.width);
    this.draw();
  }

  countsAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const part = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    return this.axis.from + part * (this.axis.to - this.axis.from);
  }

  /* Take hold of the handle that is nearer. */
  grab(event) {
    if (event.button !== 0 || !this.histograms) return;
    const counts = this.countsAt(event);
    const { black, white } = this.window;
    this.held = Math.abs(counts - black) < Math.abs(counts - white) ? "black" : "white";
    element("plot").setPointerCapture(event.pointerId);
    this.moveTo(event);
  }

  release() {
    this.held = null;
    this.draw();
  }

  moveTo(event) {
    this.set(this.held, this.countsAt(event));
  }

  onKey(event) {
    const name = event.target === this.handles.black ? "black" : "white";
    const step = { ArrowLeft: -STEP, ArrowRight: STEP, ArrowDown: -STEP, ArrowUp: STEP }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    this.set(name, this.window[name] + step * (this.axis.to - this.axis.from));
  }

  /* Set one level; the other is not passed. */
  set(name, counts) {
    const { black, white } = this.window;
    if (name === "black") this.levels.choose(this.series, this.kind, Math.min(counts, white), white);
    else this.levels.choose(this.series, this.kind, black, Math.max(counts, black));
    this.draw();
    this.changed();
  }

  read() {
    const black = this.inputs.black.valueAsNumber;
    const white = this.inputs.white.valueAsNumber;
    if (this.series !== null) this.levels.choose(this.series, this.kind, black, white);
    this.draw();
    this.changed();
  }
}
