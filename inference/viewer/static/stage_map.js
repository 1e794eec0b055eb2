// The stage map: every field of a scan where the stage was, or will be. A click chooses a field.
// Knows fields and outlines in micrometres; not where they come from, nor what a choice does.

import { Axis, fitted, tickLabel, ticks } from "./axes.js";
import { colour } from "./markup.js";

const MARGIN = { left: 62, right: 12, top: 12, bottom: 40 };
const MOST_ZOOM = 60;
const DRAG_FROM_PX = 4;
const GLYPH = { flagged: "!", hole: "×" };

export const STATUS_COLOURS = {
  done: "good",
  flagged: "warn",
  hole: "bad",
  planned: "quiet",
};

export class StageMap {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {(key: string) => void} onSelect
   */
  constructor(canvas, onSelect) {
    this.canvas = canvas;
    canvas.stageMap = this; // tests ask it where a place lies
    this.onSelect = onSelect;
    this.scan = null;
    this.selected = null;
    this.states = new Set(["low", "high"]);
    this.zoom = 1;
    this.centre = null; // in um; null: of all fields
    this.grip = null;
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.#take(event));
    canvas.addEventListener("pointermove", (event) => this.#drag(event));
    canvas.addEventListener("pointerup", (event) => this.#leave(event));
    canvas.addEventListener("pointercancel", () => { this.grip = null; });
    canvas.addEventListener("dblclick", () => this.#whole());
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Show a scan panel's content with one field chosen. */
  show(scan, selected) {
    this.scan = scan;
    this.selected = selected;
    this.draw();
  }

  /** Show fields of these imaging states only. */
  showStates(states) {
    this.states = new Set(states);
    this.draw();
  }

  /** Return where a stage position lies on the canvas, in CSS pixels; null before anything was drawn. */
  place(xUm, yUm) {
    return this.axes ? [this.axes.x.pixel(xUm), this.axes.y.pixel(yUm)] : null;
  }

  draw() {
    const { context, width, height } = fitted(this.canvas);
    if (this.scan === null || width < 150 || height < 120) return;
    const fields = this.#fields();
    this.axes = this.#axes(fields, width, height);
    if (this.axes === null) {
      context.fillStyle = colour("quiet");
      context.font = "13px system-ui, sans-serif";
      context.textAlign = "center";
      context.fillText("no stage positions are known yet", width / 2, height / 2);
      return;
    }
    this.inks = Object.fromEntries(Object.entries(STATUS_COLOURS).map(([status, name]) => [status, colour(name)]));
    this.#frame(context, width, height);
    context.save();
    context.beginPath();
    context.rect(MARGIN.left, MARGIN.top, width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom);
    context.clip();
    for (const field of fields) this.#field(context, field);
    for (const field of fields) this.#glyph(context, field);
    this.#outline(context, this.scan.next, colour("blue"), [6, 4]);
    this.#outline(context, this.selected, colour("text"), []);
    context.restore();
  }

  /** Return the fields that are drawn, low ones first: the high ones lie in them. */
  #fields() {
    const placed = this.scan.fields.filter((field) => field.x_um !== null && this.states.has(field.state));
    return [...placed.filter((field) => field.state === "low"), ...placed.filter((field) => field.state !== "low")];
  }

  #corners(field) {
    const outline = this.scan.outlines_um?.[field.state];
    if (!outline) return [[field.x_um, field.y_um]];
    return outline.map(([x, y]) => [field.x_um + x, field.y_um + y]);
  }

  #axes(fields, width, height) {
    if (fields.length === 0) return null;
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const field of fields) {
      for (const [x, y] of this.#corners(field)) {
        left = Math.min(left, x);
        right = Math.max(right, x);
        low = Math.min(low, y);
        high = Math.max(high, y);
      }
    }
    const [columns, rows] = [width - MARGIN.left - MARGIN.right, height - MARGIN.top - MARGIN.bottom];
    const whole = 1.06 * Math.max((right - left) / columns, (high - low) / rows, 1e-3);
    const umPerPixel = whole / this.zoom;
    const [x, y] = this.centre ?? [(left + right) / 2, (low + high) / 2];
    const [halfX, halfY] = [(umPerPixel * columns) / 2, (umPerPixel * rows) / 2];
    const [top, bottom] = this.scan.y_downwards ? [y - halfY, y + halfY] : [y + halfY, y - halfY];
    return {
      x: new Axis(x - halfX, x + halfX, MARGIN.left, width - MARGIN.right),
      y: new Axis(top, bottom, MARGIN.top, height - MARGIN.bottom),
      umPerPixel,
    };
  }

  #frame(context, width, height) {
    const { x, y } = this.axes;
    context.font = "12px system-ui, sans-serif";
    context.strokeStyle = colour("line");
    context.fillStyle = colour("text");
    context.textAlign = "center";
    context.fillText("stage x (µm)", (MARGIN.left + width - MARGIN.right) / 2, height - 6);
    context.save();
    context.translate(13, (MARGIN.top + height - MARGIN.bottom) / 2);
    context.rotate(-Math.PI / 2);
    context.fillText("stage y (µm)", 0, 0);
    context.restore();
    context.fillStyle = colour("quiet");
    const across = ticks(x.from, x.to, Math.max(2, width / 90));
    for (const tick of across) {
      const column = Math.round(x.pixel(tick)) + 0.5;
      line(context, column, MARGIN.top, column, height - MARGIN.bottom);
      context.fillText(tickLabel(tick, across), column, height - MARGIN.bottom + 15);
    }
    context.textAlign = "right";
    const down = ticks(Math.min(y.from, y.to), Math.max(y.from, y.to), Math.max(2, height / 60));
    for (const tick of down) {
      const row = Math.round(y.pixel(tick)) + 0.5;
      line(context, MARGIN.left, row, width - MARGIN.right, row);
      context.fillText(tickLabel(tick, down), MARGIN.left - 6, row + 4);
    }
  }

  #path(context, field) {
    const corners = this.#corners(field).map(([x, y]) => this.place(x, y));
    context.beginPath();
    if (corners.length === 1) {
      context.arc(...corners[0], field.state === "low" ? 7 : 4, 0, 2 * Math.PI);
      return;
    }
    corners.forEach(([x, y], index) => (index === 0 ? context.moveTo(x, y) : context.lineTo(x, y)));
    context.closePath();
  }

  #field(context, field) {
    const ink = this.inks[field.status];
    this.#path(context, field);
    const high = field.state === "high" || !this.states.has("high");
    context.globalAlpha = field.status === "planned" ? 0.06 : high ? 0.42 : 0.2;
    context.fillStyle = ink;
    context.fill();
    context.globalAlpha = field.status === "planned" ? 0.4 : 0.9;
    context.strokeStyle = ink;
    context.lineWidth = field.state === "low" ? 1.5 : 1;
    context.stroke();
    context.globalAlpha = 1;
  }

  /** What is not well has a sign too: colours alone are not for everybody. */
  #glyph(context, field) {
    const glyph = GLYPH[field.status];
    if (!glyph) return;
    const [x, y] = this.place(field.x_um, field.y_um);
    const corner = this.#corners(field)[0];
    const side = 2 * Math.abs(this.place(...corner)[1] - y);
    const size = Math.max(10, Math.min(0.5 * side, 28));
    // A low field's sign stands at its upper edge: high fields lie over its middle.
    const edge = field.state === "low" && this.states.has("high") ? y - side / 2 + 0.75 * size : y;
    context.font = `700 ${size}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineWidth = 3;
    context.strokeStyle = colour("ground");
    context.fillStyle = this.inks[field.status];
    context.strokeText(glyph, x, edge);
    context.fillText(glyph, x, edge);
    context.textBaseline = "alphabetic";
  }

  #outline(context, key, ink, dash) {
    const field = this.scan.fields.find((candidate) => candidate.key === key);
    if (!field || field.x_um === null || !this.states.has(field.state)) return;
    this.#path(context, field);
    context.strokeStyle = ink;
    context.lineWidth = 2.5;
    context.setLineDash(dash);
    context.stroke();
    context.setLineDash([]);
  }

  // ---- mouse and keys --------------------------------------------------------------------------------

  #take(event) {
    if (event.button !== 0 || !this.axes) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.grip = { x: event.offsetX, y: event.offsetY, moved: false, centre: this.#middle() };
  }

  #drag(event) {
    if (this.grip === null) return;
    const [dx, dy] = [event.offsetX - this.grip.x, event.offsetY - this.grip.y];
    this.grip.moved ||= Math.hypot(dx, dy) > DRAG_FROM_PX;
    if (!this.grip.moved) return;
    const down = this.scan.y_downwards ? 1 : -1;
    const [x, y] = this.grip.centre;
    this.centre = [x - dx * this.axes.umPerPixel, y - down * dy * this.axes.umPerPixel];
    this.draw();
  }

  #leave(event) {
    const grip = this.grip;
    this.grip = null;
    if (grip && !grip.moved) this.#choose(event.offsetX, event.offsetY);
  }

  /** Choose the field under the cursor; again, and it is the next one that lies there. */
  #choose(column, row) {
    const there = this.#fields().reverse().filter((field) => this.#holds(field, column, row));
    if (there.length === 0) return;
    const index = there.findIndex((field) => field.key === this.selected);
    this.onSelect(there[(index + 1) % there.length].key);
  }

  #holds(field, column, row) {
    const context = this.canvas.getContext("2d");
    this.#path(context, field);
    const ratio = window.devicePixelRatio || 1;
    return context.isPointInPath(column * ratio, row * ratio);
  }

  #middle() {
    const { x, y } = this.axes;
    return [(x.from + x.to) / 2, (y.from + y.to) / 2];
  }

  #whole() {
    this.zoom = 1;
    this.centre = null;
    this.draw();
  }

  #wheel(event) {
    if (!this.axes) return;
    event.preventDefault();
    const { x, y, umPerPixel } = this.axes;
    const zoom = Math.min(MOST_ZOOM, Math.max(1, this.zoom * Math.exp(-0.0015 * event.deltaY)));
    const kept = this.zoom / zoom; // what lies under the cursor stays there
    const [middleX, middleY] = this.#middle();
    const offX = (event.offsetX - (x.start + x.end) / 2) * umPerPixel;
    const offY = (event.offsetY - (y.start + y.end) / 2) * umPerPixel * (this.scan.y_downwards ? 1 : -1);
    this.centre = zoom === 1 ? null : [middleX + offX * (1 - kept), middleY + offY * (1 - kept)];
    this.zoom = zoom;
    this.draw();
  }

  #key(event) {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step || this.scan === null) return;
    event.preventDefault();
    event.stopPropagation();
    const shown = this.scan.fields.filter((field) => this.states.has(field.state));
    const index = shown.findIndex((field) => field.key === this.selected);
    const next = shown[index < 0 ? 0 : Math.min(Math.max(index + step, 0), shown.length - 1)];
    if (next) this.onSelect(next.key);
  }
}

function line(context, x0, y0, x1, y1) {
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}
