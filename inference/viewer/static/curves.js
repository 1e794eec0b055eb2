// Curves over axes with units: focus curves and what a training run says of itself. Knows neither.

import { Axis, fitted, tickLabel } from "./axes.js";
import { colour, figure, make, say } from "./markup.js";

const MARGIN = { left: 58, right: 14, top: 10, bottom: 38 };
const LOG_FROM = 3; // largest over least value, from which a chart that may be logarithmic is
const POINTS_UP_TO = 60; // a curve of more points has no dots

/** A chart with a legend that says the last value of each curve, and the value under the cursor. */
export class Chart {
  /**
   * @param {{xLabel: string, yLabel: string, mayBeLog?: boolean, name: string}} look
   */
  constructor(look) {
    this.look = look;
    this.canvas = make("canvas", { class: "curves", role: "img", "aria-label": look.name });
    this.legend = make("ul", { class: "legend" });
    this.element = make("div", { class: "chart" }, this.canvas, this.legend);
    this.shown = { curves: [], marks: [], bands: [] };
    this.cursor = null;
    new ResizeObserver(() => this.#redraw()).observe(this.canvas);
    this.canvas.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.#point(null));
  }

  /**
   * Draw curves {label, colour, x, y, said}, marks {x, label, colour, dashed} and bands {from, to, colour}.
   * `said` replaces the last value in the legend; `yFromZero` keeps zero on the axis.
   */
  draw({ curves, marks = [], bands = [], yFromZero = false, xLabel = this.look.xLabel }) {
    this.shown = { curves, marks, bands, yFromZero, xLabel };
    this.#redraw();
  }

  #point(x) {
    this.cursor = x;
    this.#redraw();
  }

  #redraw() {
    const { context, width, height } = fitted(this.canvas);
    if (width < 120 || height < 80) return;
    const axes = this.#axes(width, height);
    this.#frame(context, axes, width, height);
    if (axes === null) return this.#say(null);
    context.save();
    context.beginPath();
    context.rect(axes.x.start, axes.y.end, axes.x.end - axes.x.start, axes.y.start - axes.y.end);
    context.clip();
    this.#bands(context, axes);
    for (const curve of this.shown.curves) drawCurve(context, axes, curve);
    context.restore();
    this.#marks(context, axes);
    this.#say(this.#pointed(context, axes));
  }

  #axes(width, height) {
    const curves = this.shown.curves.filter((curve) => curve.x.length > 0);
    if (curves.length === 0) return null;
    const xs = curves.flatMap((curve) => curve.x).concat(this.shown.marks.map((mark) => mark.x));
    const ys = curves.flatMap((curve) => curve.y);
    let [low, high] = extent(ys);
    const logarithmic = Boolean(this.look.mayBeLog) && low > 0 && high / low > LOG_FROM;
    if (this.shown.yFromZero && !logarithmic) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
    [low, high] = logarithmic ? [low / 1.1, high * 1.1] : widened(low, high, this.shown.yFromZero);
    const [first, last] = widened(...extent(xs), false, 0.02);
    return {
      x: new Axis(first, last, MARGIN.left, width - MARGIN.right),
      y: new Axis(low, high, height - MARGIN.bottom, MARGIN.top, logarithmic),
    };
  }

  #frame(context, axes, width, height) {
    const [ink, faint, line] = [colour("text"), colour("quiet"), colour("line")];
    context.font = "12px system-ui, sans-serif";
    context.lineWidth = 1;
    context.fillStyle = ink;
    context.textAlign = "center";
    context.fillText(this.shown.xLabel ?? this.look.xLabel, (MARGIN.left + width - MARGIN.right) / 2, height - 6);
    context.save();
    context.translate(13, (MARGIN.top + height - MARGIN.bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.fillText(this.look.yLabel, 0, 0);
    context.restore();
    context.fillStyle = faint;
    context.strokeStyle = line;
    if (axes === null) {
      context.fillText("nothing measured yet", width / 2, height / 2);
      return;
    }
    const down = axes.x.ticks(Math.max(2, (width - MARGIN.left) / 80));
    for (const tick of down) {
      const x = Math.round(axes.x.pixel(tick)) + 0.5;
      stroke(context, [[x, axes.y.end], [x, axes.y.start]]);
      context.fillText(tickLabel(tick, down), x, axes.y.start + 15);
    }
    context.textAlign = "right";
    const across = axes.y.ticks(Math.max(2, (height - MARGIN.bottom) / 42));
    for (const tick of across) {
      const y = Math.round(axes.y.pixel(tick)) + 0.5;
      stroke(context, [[axes.x.start, y], [axes.x.end, y]]);
      context.fillText(tickLabel(tick, across), axes.x.start - 6, y + 4);
    }
  }

  #bands(context, axes) {
    for (const band of this.shown.bands) {
      const [from, to] = [axes.x.pixel(band.from), axes.x.pixel(band.to)];
      context.globalAlpha = 0.18;
      context.fillStyle = band.colour;
      context.fillRect(from, axes.y.end, Math.max(to - from, 1), axes.y.start - axes.y.end);
      context.globalAlpha = 1;
    }
  }

  #marks(context, axes) {
    for (const mark of this.shown.marks) {
      const x = Math.round(axes.x.pixel(mark.x)) + 0.5;
      context.strokeStyle = mark.colour;
      context.setLineDash(mark.dashed ? [5, 4] : []);
      context.lineWidth = 1.5;
      stroke(context, [[x, axes.y.end], [x, axes.y.start]]);
      context.setLineDash([]);
    }
  }

  /** Return the place of the nearest point of the first curve under the cursor, and mark it. */
  #pointed(context, axes) {
    if (this.cursor === null) return null;
    const { x } = this.shown.curves.find((curve) => curve.x.length > 0);
    const distance = (value) => Math.abs(axes.x.pixel(value) - this.cursor);
    const nearest = x.reduce((best, value) => (distance(value) < distance(best) ? value : best), x[0]);
    context.strokeStyle = colour("text");
    context.globalAlpha = 0.5;
    stroke(context, [[axes.x.pixel(nearest), axes.y.end], [axes.x.pixel(nearest), axes.y.start]]);
    context.globalAlpha = 1;
    return nearest;
  }

  /** Write the legend: each curve with its last value, or the one at `x`; each mark with its place. */
  #say(x) {
    const { curves, marks } = this.shown;
    const entries = [
      ...curves.filter((curve) => curve.x.length > 0).map((curve) => {
        const index = x === null ? curve.x.length - 1 : curve.x.indexOf(x);
        const value = x === null && curve.said !== undefined ? curve.said : curve.y[index];
        return [curve.colour, curve.label, index < 0 ? "–" : figure(value, 4), "line"];
      }),
      ...marks.filter((mark) => mark.label).map((mark) => [mark.colour, mark.label, figure(mark.x, 4), "mark"]),
    ];
    while (this.legend.children.length > entries.length) this.legend.lastChild.remove();
    entries.forEach(([ink, label, value, kind], index) => {
      const line = this.legend.children[index] ?? this.legend.appendChild(legendLine());
      line.dataset.label = label;
      line.children[0].style.background = ink;
      line.children[0].className = kind;
      say(line.children[1], label);
      say(line.children[2], value);
    });
    const place = x === null ? "" : `at ${this.shown.xLabel ?? this.look.xLabel} ${figure(x, 5)}`;
    this.canvas.title = place;
  }
}

function legendLine() {
  return make("li", {}, make("i"), make("span"), make("output"));
}

function drawCurve(context, axes, curve) {
  context.strokeStyle = curve.colour;
  context.fillStyle = curve.colour;
  context.lineWidth = 1.8;
  const points = curve.x.map((x, index) => [axes.x.pixel(x), axes.y.pixel(curve.y[index])]);
  stroke(context, points);
  if (points.length > POINTS_UP_TO) return;
  for (const [x, y] of points) {
    context.beginPath();
    context.arc(x, y, 2.8, 0, 2 * Math.PI);
    context.fill();
  }
}

function stroke(context, points) {
  context.beginPath();
  points.forEach(([x, y], index) => (index === 0 ? context.moveTo(x, y) : context.lineTo(x, y)));
  context.stroke();
}

function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

function widened(low, high, keepLow, share = 0.06) {
  const margin = (high - low || Math.abs(high) || 1) * share;
  return [keepLow && low === 0 ? 0 : low - margin, high + margin];
}
