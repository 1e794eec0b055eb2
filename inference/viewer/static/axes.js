// Axes of a drawing: round ticks, and the way from a value to a pixel. Pure; knows no canvas.

/** Return round values between two ends, about so many: steps of 1, 2 or 5 times a power of ten. */
export function ticks(from, to, about = 6) {
  const span = to - from;
  if (!(span > 0)) return [from];
  const power = 10 ** Math.floor(Math.log10(span / about));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => span / size <= about);
  const first = Math.ceil(from / step - 1e-9);
  const count = Math.floor(to / step + 1e-9) - first;
  return Array.from({ length: count + 1 }, (_, index) => (first + index) * step);
}

/** Return ticks of a logarithmic axis: 1, 2 and 5 in each decade, or the decades alone where there are many. */
export function logTicks(from, to) {
  const decades = Math.log10(to / from);
  const factors = decades > 3 ? [1] : [1, 2, 5];
  const found = [];
  for (let power = Math.floor(Math.log10(from)); power <= Math.ceil(Math.log10(to)); power += 1) {
    for (const factor of factors) {
      const value = factor * 10 ** power;
      if (value >= from * (1 - 1e-9) && value <= to * (1 + 1e-9)) found.push(value);
    }
  }
  return found.length > 1 ? found : ticks(from, to, 4);
}

/** Return what a tick is labelled with, as exact as the step needs. */
export function tickLabel(value, all) {
  const size = Math.max(...all.map(Math.abs));
  if (size >= 10_000 && all.every((tick) => Math.abs(tick / 1000 - Math.round(tick / 100) / 10) < 1e-6)) {
    return `${Number((value / 1000).toFixed(1))}k`;
  }
  if (size !== 0 && size < 1e-3) return value === 0 ? "0" : value.toExponential(0);
  return String(Number(value.toPrecision(6)));
}

/** A way from values to pixels along one axis. */
export class Axis {
  /** `from` lies at pixel `start`, `to` at pixel `end`. */
  constructor(from, to, start, end, logarithmic = false) {
    Object.assign(this, { from, to, start, end, logarithmic });
  }

  pixel(value) {
    const share = this.logarithmic
      ? Math.log(Math.max(value, this.from * 1e-3) / this.from) / Math.log(this.to / this.from)
      : (value - this.from) / (this.to - this.from);
    return this.start + share * (this.end - this.start);
  }

  ticks(about) {
    return this.logarithmic ? logTicks(this.from, this.to) : ticks(this.from, this.to, about);
  }
}

/** Fit a canvas to its box at the screen's resolution; return its context, in CSS pixels, and its size. */
export function fitted(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  const columns = Math.round(width * ratio);
  const rows = Math.round(height * ratio);
  if (canvas.width !== columns || canvas.height !== rows) {
    canvas.width = columns;
    canvas.height = rows;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}
