/* The two panes and how they share the stage: side by side, swipe, blink, or one of them; and the mouse on them.

   Zoom and pan move one view, so both panes always show the same place of the sample. Knows nothing of pixels' values:
   pictures come painted. Colours, frames and labels are others' work. */

import { Pane } from "./pane.js";
import { element, press, say } from "./words.js";
import { View } from "./view.js";

const ZOOM_STEP = 1.25;
const WHEEL = 0.0015; // a notch of 120 zooms by a fifth
const PINCH = 0.01; // a trackpad's pinch comes as a wheel with ctrl, in small steps
const BLINK_MS = 500;
const SPLIT_STEP = 0.02;
const GAP = 2; // CSS px between the panes
const WORTH = 1.2; // so much larger images must be for another arrangement of the panes
const MARGIN = 0.02; // the divider stays this far inside

export class Stage {
  /* `changed` is called when something must be drawn anew; `pointed` with the sample's place under the cursor. */
  constructor(changed, pointed) {
    this.changed = changed;
    this.pointed = pointed;
    this.target = element("stage");
    this.raw = new Pane(element("canvas-raw"));
    this.enhanced = new Pane(element("canvas-enhanced"));
    this.view = new View();
    this.image = null; // {width, height} in raw pixels
    this.mode = "side";
    this.split = 0.5;
    this.blinking = null;
    this.listen();
    new ResizeObserver(() => this.resize()).observe(this.target);
    this.resize();
  }

  listen() {
    const { target } = this;
    this.drag = null;
    target.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    target.addEventListener("dblclick", () => this.fit());
    target.addEventListener("contextmenu", (event) => event.preventDefault()); // an image leaves by export, labelled
    target.addEventListener("pointerdown", (event) => this.onDown(event));
    target.addEventListener("pointermove", (event) => this.onMove(event));
    for (const type of ["pointerup", "pointercancel"]) target.addEventListener(type, () => this.drop());
    target.addEventListener("pointerleave", () => this.pointed(null));
    element("swipe").addEventListener("keydown", (event) => this.onDividerKey(event));
    element("modes").addEventListener("click", (event) => {
      if (event.target.dataset.mode) this.choose(event.target.dataset.mode);
    });
    element("zoom-in").addEventListener("click", () => this.zoomBy(ZOOM_STEP));
    element("zoom-out").addEventListener("click", () => this.zoomBy(1 / ZOOM_STEP));
    element("fit").addEventListener("click", () => this.fit());
    element("one-to-one").addEventListener("click", () => this.zoomTo(1));
  }

  resize() {
    const { clientWidth, clientHeight } = this.target;
    if (!clientWidth && this.size) return; // another tab is open
    const whole = { width: clientWidth, height: clientHeight };
    const beside = { width: Math.floor((clientWidth - GAP) / 2), height: clientHeight };
    const below = { width: clientWidth, height: Math.floor((clientHeight - GAP) / 2) };
    // Wide images are larger one below the other.
    const fit = (pane) => (this.image ? View.fitting(pane, this.image) : 0);
    this.isStacked = this.mode === "side" && fit(below) > WORTH * fit(beside);
    this.target.classList.toggle("stacked", this.isStacked);
    const { width, height } = this.mode !== "side" ? whole : this.isStacked ? below : beside;
    this.size = { width: Math.max(width, 1), height: Math.max(height, 1) };
    this.ratio = window.devicePixelRatio || 1;
    this.raw.resize(this.size, this.ratio);
    this.enhanced.resize(this.size, this.ratio);
    this.placeDivider();
    this.reframe();
    this.changed();
  }

  /* Take the shape of the raw image; another shape is shown whole. */
  take(width, height) {
    if (this.image?.width === width && this.image.height === height) return;
    this.image = { width, height };
    this.view.isFitted = true;
    this.resize();
  }

  reframe() {
    if (!this.image) return;
    if (this.view.isFitted) this.view.fit(this.size, this.image);
    else this.view.keepInside(this.size, this.image);
  }

  draw(pictures, enlargement) {
    this.raw.draw(pictures.raw, 1, this.view);
    this.enhanced.draw(pictures.enhanced, enlargement, this.view);
    say(element("zoom"), `${Math.round(this.view.zoom * 100)} %`);
  }

  /* Choose a layout; the same key again goes back from blink and swipe to side by side. */
  choose(mode, back = false) {
    this.mode = back && mode === this.mode ? "side" : mode;
    this.target.dataset.mode = this.mode;
    for (const button of element("modes").children) press(button, button.dataset.mode === this.mode);
    clearInterval(this.blinking);
    this.target.dataset.phase = "enhanced";
    if (this.mode === "blink") this.blinking = setInterval(() => this.turn(), BLINK_MS);
    this.resize();
  }

  turn() {
    const { dataset } = this.target;
    dataset.phase = dataset.phase === "raw" ? "enhanced" : "raw";
  }

  fit() {
    if (!this.image) return;
    this.view.fit(this.size, this.image);
    this.changed();
  }

  zoomBy(factor, at = { x: this.size.width / 2, y: this.size.height / 2 }) {
    if (!this.image) return;
    this.view.zoomAt(factor, at, this.size, this.image);
    this.changed();
  }

  zoomTo(zoom) {
    this.zoomBy(zoom / this.view.zoom);
  }

  /* Return where an event is: in which pane's coordinates, the two being alike. */
  placeOf(event) {
    const box = this.target.getBoundingClientRect();
    const within = (place, all, one) => (place > one + GAP / 2 ? Math.max(place - (all - one), 0) : place);
    return {
      x: within(event.clientX - box.left, box.width, this.size.width),
      y: within(event.clientY - box.top, box.height, this.size.height),
    };
  }

  onWheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 40 : 1; // Firefox counts lines
    this.zoomBy(Math.exp(-event.deltaY * lines * (event.ctrlKey ? PINCH : WHEEL)), this.placeOf(event));
  }

  onDown(event) {
    if (event.button !== 0) return;
    this.drag = { onDivider: event.target.id === "swipe", x: event.clientX, y: event.clientY };
    if (!this.drag.onDivider) this.target.classList.add("moving");
    this.target.setPointerCapture(event.pointerId);
  }

  onMove(event) {
    if (!this.drag) return this.image && this.pointed(this.view.sampleAt(this.placeOf(event), this.size, this.ratio));
    const { onDivider, x, y } = this.drag;
    if (onDivider) return this.splitAt(this.placeOf(event).x / this.size.width);
    Object.assign(this.drag, { x: event.clientX, y: event.clientY });
    if (!this.image) return;
    this.view.moveBy(event.clientX - x, event.clientY - y, this.size, this.image);
    this.changed();
  }

  drop() {
    this.drag = null;
    this.target.classList.remove("moving");
  }

  onDividerKey(event) {
    const step = { ArrowLeft: -SPLIT_STEP, ArrowRight: SPLIT_STEP }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    this.splitAt(this.split + step);
  }

  splitAt(part) {
    this.split = Math.min(Math.max(part, MARGIN), 1 - MARGIN);
    this.placeDivider();
  }

  placeDivider() {
    const left = this.split * this.size.width;
    element("swipe").style.left = `${left}px`;
    element("swipe").setAttribute("aria-valuenow", String(Math.round(this.split * 100)));
    element("pane-enhanced").style.clipPath = this.mode === "swipe" ? `inset(0 0 0 ${left}px)` : "none";
  }
}
