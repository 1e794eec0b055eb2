/* The page as a whole: what arrives goes to the parts that show it, what is touched goes to the server.

   Draws once per screen refresh at most, and acknowledges a view after it was drawn: a page in the background draws and
   asks for nothing. `window.sharpscope` shows tests what is drawn. */

import { Actions } from "./actions.js";
import { Channels } from "./channels.js";
import { Connection } from "./connection.js";
import { Cursor } from "./cursor.js";
import { ExportDialog } from "./export_dialog.js";
import { inspectionOf } from "./inspection.js";
import { Keyboard } from "./keyboard.js";
import { keysOf } from "./keys.js";
import { Labels } from "./labels.js";
import { Levels } from "./levels.js";
import { LevelsPanel } from "./levels_panel.js";
import { Painter } from "./painter.js";
import { Stage } from "./stage.js";
import { StatusBar } from "./status_bar.js";
import { Tabs } from "./tabs.js";
import { Timeline } from "./timeline.js";
import { element, press, say } from "./words.js";

const NOTICE_MS = 8000;
const TIMINGS = 256; // draws that are remembered

class Page {
  constructor() {
    this.images = [];
    this.status = null;
    this.arrived = null;
    this.drawn = { count: 0, last: null, ms: new Float32Array(TIMINGS) };
    this.frameAsked = false;
    this.levels = new Levels();
    this.channels = new Channels(() => this.askOther(), () => this.repaint());
    this.painter = new Painter(this.levels, this.channels);
    this.labels = new Labels();
    this.cursor = new Cursor();
    this.statusBar = new StatusBar();
    this.tabs = new Tabs();
    this.timeline = new Timeline(() => this.ask());
    this.stage = new Stage(() => this.redraw(), (place) => this.point(place));
    this.levelsPanel = new LevelsPanel(this.levels, () => this.repaint(), () => this.auto());
    this.actions = new Actions((words) => this.notify(words));
    this.files = new ExportDialog(() => this.shown(), (words) => this.notify(words));
    this.keyboard = new Keyboard(keysOf(this));
    element("mask").addEventListener("click", () => this.toggleMask());
    this.connection = new Connection(this);
  }

  // What the connection tells.

  onState(state, words) {
    if (state !== "open") this.arrived = null; // it could not be acknowledged any more
    this.statusBar.showConnection(state, words);
  }

  onHello(hello) {
    this.version ??= hello.version;
    if (hello.version !== this.version) this.notify("The server is of another version now: reload the page");
    document.title = `${hello.title} · sharpscope`;
    say(element("title"), hello.title);
    this.tabs.take(hello.panels ?? []);
    this.arrived = null;
    if (hello.title !== this.title) this.forget(hello.title);
    this.actions.offer(hello.actions ?? []);
    this.takeSeries(hello.series ?? []);
    this.ask(); // a new connection knows of nothing
  }

  onStatus(status) {
    this.status = status;
    this.statusBar.show(status);
    this.actions.offer(status.actions ?? []);
    if (this.takeSeries(status.series ?? [])) this.ask();
    this.growTimeline();
  }

  onView(view, time) {
    this.arrived = { view, time };
    this.redraw();
  }

  onRefused(reason) {
    this.notify(`The server refused: ${reason}`);
  }

  /* Another source: nothing of the one before holds. */
  forget(title) {
    this.title = title;
    this.images = [];
    this.channels.clear();
    this.actions.clear();
    this.timeline.clear();
    this.painter.clear();
    this.labels.clear("Waiting for the first frame");
    this.redraw();
  }

  /* Returns whether other series are wanted now. */
  takeSeries(list) {
    this.tabs.prefer(list.length > 0);
    return this.channels.take(list);
  }

  growTimeline() {
    const series = this.channels.of(this.channels.active);
    this.timeline.grow(series?.length ?? 0, Boolean(this.status?.live), series?.kept ?? true);
  }

  /* Ask for the wanted series at the wanted time; for none where a frame is held that cannot be asked for again. */
  ask() {
    const { at, isKept } = this.timeline;
    const wanted = this.channels.wanted();
    if (!wanted.length) return;
    if (at !== null && !isKept) this.connection?.show([], null);
    else this.connection?.show(wanted, at);
  }

  /* Other series were chosen; they may be shorter. */
  askOther() {
    this.growTimeline();
    this.ask();
  }

  // What is drawn.

  repaint() {
    this.mustPaint = true;
    this.redraw();
  }

  redraw() {
    if (this.frameAsked) return;
    this.frameAsked = true;
    requestAnimationFrame(() => this.draw());
  }

  draw() {
    const start = performance.now();
    this.frameAsked = false;
    const { arrived } = this;
    this.arrived = null;
    if (arrived) this.adopt(arrived.view, start);
    if (this.mustPaint && this.images.length) this.paint();
    this.mustPaint = false;
    this.stage.draw(this.painter.pictures, this.painter.enlargement);
    this.labels.showScale(this.stage.size.width, this.stage.view.zoom, this.active?.raw.pixelSizeUm ?? null);
    if (arrived) this.finish(arrived, start);
  }

  get active() {
    return this.images.find(({ series }) => series === this.channels.active);
  }

  /* Take the images of a view as those to show. */
  adopt(view, now) {
    const images = view.images.filter(({ series }) => this.channels.wanted().includes(series));
    if (!images.some(({ series }) => series === this.channels.active)) return; // of before another was chosen
    this.images = images;
    this.mustPaint = true;
    const { active } = this;
    this.stage.take(active.raw.width, active.raw.height);
    const histograms = this.painter.measure(images, active.series, now);
    if (histograms) this.levelsPanel.show(active.series, active.channel, histograms, active.full_scale);
    this.labels.show(active, images, this.status, this.channels.composite);
    this.statusBar.showFrame(active);
    element("mask").disabled = active.full_scale === null;
  }

  paint() {
    this.painter.paint(this.images);
    const { saturated } = this.painter;
    say(element("saturated"), saturated ? `${saturated.marked} px at ${saturated.fullScale} counts or above` : "");
    this.cursor.show(this.images, this.painter.enlargement);
  }

  finish({ view, time }, start) {
    const { drawn, active } = this;
    this.connection.acknowledge(view.id);
    if (!active || !view.images.includes(active)) return;
    this.timeline.arrive(active.index ?? null, active.elapsed_ms);
    const end = performance.now();
    drawn.ms[drawn.count++ % TIMINGS] = end - start;
    const age = active.age_ms === null ? null : active.age_ms + end - time;
    drawn.last = { number: active.number, index: active.index, age_ms_at_draw: age };
  }

  // What is touched.

  point(place) {
    this.cursor.point(place, this.images, this.painter.enlargement);
  }

  auto() {
    const { active } = this;
    if (!active) return;
    const histograms = this.painter.auto(this.images, active.series);
    this.levelsPanel.show(active.series, active.channel, histograms, active.full_scale);
    this.levelsPanel.reframe();
    this.levelsPanel.draw();
    this.repaint();
  }

  toggleMask() {
    this.painter.masked = !this.painter.masked;
    press(element("mask"), this.painter.masked);
    this.repaint();
  }

  notify(words) {
    say(element("notice"), words);
    clearTimeout(this.noticed);
    if (words) this.noticed = setTimeout(() => say(element("notice"), ""), NOTICE_MS);
  }

  /* Return what is shown, for a file of it. */
  shown() {
    const series = this.active ? this.channels.active : null;
    const names = this.channels.series.map(({ name }) => name);
    const look = (name) => this.lookOf(name);
    const { index = null, number = null } = this.active ?? {};
    return { series, index, number, length: this.timeline.length, names, look };
  }

  lookOf(series) {
    const { black, white } = this.levels.of(series, this.stage.mode === "enhanced" ? "enhanced" : "raw");
    const show = { raw: "raw", enhanced: "enhanced" }[this.stage.mode] ?? "side_by_side";
    const colour = this.channels.colourInWords(series);
    return { black, white, show, colour, scale_bar: true, time_stamp: true };
  }
}

const page = new Page();
window.sharpscope = inspectionOf(page, TIMINGS);
