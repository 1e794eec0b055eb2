/* The interactive comparison of images: linked zoom and pan, swipe, blink.

   Makes every `.viewer` of the page, a static row of panels by itself, answer to mouse, touch and keyboard. Its
   state stands in attributes of the element: data-ready, data-view (panels or swipe), data-field, data-zoom
   (screen px for one image px), data-centre (x and y, in parts of the image), data-split, data-left, data-right
   (labels), data-blink (off, left or right). Nothing global is left behind. */

const ZOOM_STEP = 1.25;
const PAN_STEP = 0.1; // of a panel
const SPLIT_STEP = 0.02;
const BLINK_MS = 500;
const WHEEL = 0.0015; // a notch of 120 zooms by a fifth
const PINCH = 0.01; // a trackpad's pinch comes as a wheel with ctrl, in small steps

function added(parent, tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return parent.appendChild(element);
}

function addedBar(frame) {
  const bar = added(frame, "span", "bar live");
  added(bar, "b", "");
  return bar;
}

/* One picture of a field. */
class Panel {
  constructor(figure) {
    this.frame = figure.querySelector(".frame");
    this.image = figure.querySelector("img");
    this.label = figure.querySelector(".label").textContent;
    this.enhanced = figure.querySelector(".label").classList.contains("enhanced");
    this.caption = figure.querySelector("figcaption");
    this.isMap = figure.classList.contains("map");
    this.surface = new Surface(this.frame);
    this.bar = addedBar(this.frame);
  }

  get shape() {
    return { width: this.image.naturalWidth, height: this.image.naturalHeight };
  }
}

/* One field of view: its panels, and the scale of its grid. */
class Field {
  constructor(element) {
    this.element = element;
    this.title = element.querySelector("h3").textContent;
    this.pixel = Number(element.dataset.pixel);
    this.unit = element.dataset.unit;
    this.panels = [...element.querySelectorAll(".panel")].map((figure) => new Panel(figure));
    const stage = element.querySelector(".panels");
    stage.tabIndex = 0;
    stage.setAttribute("role", "group");
    stage.setAttribute("aria-label", `Panels of ${this.title}`);
  }

  get ready() {
    return this.panels.every((panel) => panel.image.complete && panel.image.naturalWidth);
  }

  /* Give a scale bar the longest round length up to a third of the panel. */
  measure(bar, width, zoom) {
    const longest = ((width / zoom) * this.pixel) / 3;
    const power = 10 ** Math.floor(Math.log10(longest) + 1e-9);
    const length = [5, 2, 1].map((step) => step * power).find((l) => l <= longest * (1 + 1e-9)) || power;
    bar.style.width = `${(length / this.pixel) * zoom}px`;
    bar.firstChild.textContent = `${Number(length.toPrecision(1))} ${this.unit}`;
  }
}

class Viewer {
  constructor(element, number) {
    this.element = element;
    this.state = element.dataset;
    this.aim = new Aim();
    this.split = 0.5;
    this.fields = [...element.querySelectorAll(".field")].map((field) => new Field(field));
    element.prepend(document.getElementById("viewer-controls").content.cloneNode(true));
    this.swipe = this.find(".swipe");
    this.divider = this.find(".divider");
    this.right = new Surface(this.find(".swipe .frame"));
    this.left = new Surface(this.find(".swipe .frame"));
    this.swipeBar = addedBar(this.find(".swipe .frame"));
    this.state.view = "panels";
    this.state.blink = "off";
    this.buildControls(number);
    this.listen();
    this.chooseField(0);
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  buildControls(number) {
    this.find("filter").id = `viewer-window-${number}`;
    const tabs = this.find(".fields");
    tabs.classList.toggle("single", this.fields.length === 1);
    this.fields.forEach((field, index) => {
      const input = document.createElement("input");
      Object.assign(input, { type: "radio", value: index, checked: index === 0 });
      added(tabs, "label", "choice", field.title).prepend(input);
    });
    for (const group of ["fields", "views"])
      for (const input of this.element.querySelectorAll(`.${group} input`)) input.name = `${group}-${number}`;
  }

  listen() {
    const on = (selector, type, act) => this.find(selector).addEventListener(type, act);
    on(".fields", "change", (event) => this.chooseField(Number(event.target.value)));
    on(".views", "change", (event) => this.chooseView(event.target.value));
    on("select.left", "change", () => this.choosePair());
    on("select.right", "change", () => this.choosePair());
    on("button.blink", "click", () => this.blink());
    on(".in", "click", () => this.zoomBy(ZOOM_STEP));
    on(".out", "click", () => this.zoomBy(1 / ZOOM_STEP));
    on(".all", "click", () => this.showAll());
    on(".black", "input", () => this.chooseWindow(".black"));
    on(".white", "input", () => this.chooseWindow(".white"));
    this.element.addEventListener("keydown", (event) => this.onKey(event));
    for (const frame of this.element.querySelectorAll(".frame")) this.listenToFrame(frame);
    for (const image of this.element.querySelectorAll("img")) image.addEventListener("load", () => this.redraw());
    this.listenToDivider();
    new ResizeObserver(() => this.redraw()).observe(this.element);
    // A page that is scrolled past must not catch the wheel: it zooms only once the pointer moved over it.
    window.addEventListener("scroll", () => (this.armed = false), { passive: true });
  }

  listenToFrame(frame) {
    const fingers = new Map();
    const place = (event) => {
      const box = frame.getBoundingClientRect();
      return { x: event.clientX - box.left, y: event.clientY - box.top };
    };
    frame.addEventListener("wheel", (event) => this.onWheel(event, place(event)), { passive: false });
    frame.addEventListener("dblclick", () => this.showAll());
    frame.addEventListener("pointerdown", (event) => {
      if (event.button) return; // the menu of the right button would swallow its release
      frame.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, place(event));
    });
    frame.addEventListener("pointermove", (event) => {
      this.armed ||= event.movementX !== 0 || event.movementY !== 0;
      if (!fingers.has(event.pointerId)) return;
      const before = [...fingers.values()];
      fingers.set(event.pointerId, place(event));
      this.onDrag(before, [...fingers.values()]);
    });
    for (const type of ["pointerup", "pointercancel"])
      frame.addEventListener(type, (event) => fingers.delete(event.pointerId));
  }

  listenToDivider() {
    const { divider } = this;
    divider.addEventListener("pointerdown", (event) => {
      event.stopPropagation(); // or the image would be dragged along
      divider.setPointerCapture(event.pointerId);
    });
    divider.addEventListener("pointermove", (event) => {
      if (!divider.hasPointerCapture(event.pointerId)) return;
      const box = divider.parentElement.getBoundingClientRect();
      this.moveDivider((event.clientX - box.left) / box.width);
    });
  }

  onWheel(event, at) {
    if (!this.armed && !event.ctrlKey) return;
    const pixels = event.deltaY * (event.deltaMode ? 16 : 1);
    const factor = Math.exp(-pixels * (event.ctrlKey ? PINCH : WHEEL));
    if (this.zoomBy(factor, at) || event.ctrlKey) event.preventDefault();
  }

  /* Move and zoom as one finger or two do. */
  onDrag(before, after) {
    const middle = (points) => ({
      x: points.reduce((sum, point) => sum + point.x, 0) / points.length,
      y: points.reduce((sum, point) => sum + point.y, 0) / points.length,
    });
    const spread = ([a, b]) => (b ? Math.max(Math.hypot(a.x - b.x, a.y - b.y), 1) : 1);
    const [from, to] = [middle(before), middle(after)];
    this.aim.moveBy(to.x - from.x, to.y - from.y, this.size, this.shape);
    this.zoomBy(spread(after) / spread(before), to);
  }

  onKey(event) {
    if (event.altKey || event.metaKey || event.ctrlKey || event.target.matches("select")) return;
    const act = this.actOf(event);
    if (!act) return;
    event.preventDefault();
    act();
  }

  actOf(event) {
    const acts = {
      "+": () => this.zoomBy(ZOOM_STEP),
      "=": () => this.zoomBy(ZOOM_STEP),
      "-": () => this.zoomBy(1 / ZOOM_STEP),
      0: () => this.showAll(),
      1: () => this.zoomBy(1 / this.aim.zoom(this.size, this.shape)),
      b: () => this.blink(),
    };
    return acts[event.key] || (event.target.matches("input, button") ? null : this.arrowActOf(event));
  }

  arrowActOf(event) {
    const steps = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const ends = { Home: 0, End: 1 };
    if (this.state.view === "swipe" && !event.shiftKey) {
      if (event.key in ends) return () => this.moveDivider(ends[event.key]);
      const step = steps[event.key]?.[0];
      return step ? () => this.moveDivider(this.split - step * SPLIT_STEP) : null;
    }
    if (!(event.key in steps)) return null;
    const [dx, dy] = steps[event.key].map((step) => step * PAN_STEP * this.size.width);
    return () => {
      this.aim.moveBy(dx, dy, this.size, this.shape);
      this.redraw();
    };
  }

  get field() {
    return this.fields[Number(this.state.field)];
  }

  /* Of the panels on the screen, which are all alike. */
  get size() {
    return this.state.view === "swipe" ? this.left.size : this.field.panels[0].surface.size;
  }

  get shape() {
    return this.field.panels[0].shape;
  }

  get pair() {
    const panels = this.field.panels;
    return [panels[this.find("select.left").value], panels[this.find("select.right").value]];
  }

  chooseField(index) {
    this.state.field = index;
    this.fields.forEach((field, i) => field.element.classList.toggle("shown", i === index));
    const shape = this.field.element.style.getPropertyValue("--shape");
    const [width, height] = shape.split("/").map(Number);
    this.swipe.style.setProperty("--shape", shape);
    this.swipe.style.setProperty("--ratio", width / height);
    this.fillChoices();
    this.aim.reset();
    this.choosePair();
  }

  /* Offer the images of the field; what was chosen stays, and at first the restored one is on the right. */
  fillChoices() {
    const { panels } = this.field;
    const enhanced = panels.findIndex((panel) => panel.enhanced);
    const first = { left: 0, right: enhanced > 0 ? enhanced : panels.length - 1 };
    for (const side of ["left", "right"]) {
      const options = panels.map((panel, index) => new Option(panel.label, index));
      this.find(`select.${side}`).replaceChildren(...options);
      const same = panels.findIndex((panel) => panel.label === this.state[side]);
      this.find(`select.${side}`).value = same >= 0 ? same : first[side];
    }
  }

  choosePair() {
    const captions = [];
    this.pair.forEach((panel, index) => {
      const side = ["left", "right"][index];
      this.state[side] = panel.label;
      const label = this.find(`.swipe .label.${side}`);
      label.textContent = panel.label;
      label.classList.toggle("enhanced", panel.enhanced);
      if (panel.caption) captions.push(panel.caption.cloneNode(true));
    });
    this.find(".captions").replaceChildren(...captions);
    this.redraw();
  }

  chooseView(view) {
    this.state.view = view;
    for (const input of this.element.querySelectorAll(".views input")) input.checked = input.value === view;
    if (view === "panels" && this.state.blink !== "off") this.setBlink("off");
    this.redraw();
  }

  /* Start or end the blinking. Where the system asks for less motion, each call shows the next image. */
  blink() {
    if (this.state.view !== "swipe") this.chooseView("swipe");
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    const next = { off: "left", left: still ? "right" : "off", right: "off" };
    this.setBlink(next[this.state.blink]);
    const turn = () => this.setBlink(this.state.blink === "left" ? "right" : "left");
    if (this.state.blink !== "off" && !still) this.timer = setInterval(turn, BLINK_MS);
  }

  setBlink(blink) {
    if (blink === "off") clearInterval(this.timer);
    this.state.blink = blink;
    this.find("button.blink").setAttribute("aria-pressed", blink !== "off");
    this.redraw();
  }

  /* Stretch the grey further; maps keep their colours, or their bar would be wrong. */
  chooseWindow(moved) {
    const [black, white] = [this.find(".black"), this.find(".white")];
    const [low, high] = [Number(black.value), Number(white.value)];
    if (high - low < 5) (moved === ".black" ? white : black).value = moved === ".black" ? low + 5 : high - 5;
    const [from, to] = [Number(black.value) / 100, Number(white.value) / 100];
    for (const part of this.element.querySelectorAll("feComponentTransfer > *")) {
      part.setAttribute("slope", 1 / (to - from));
      part.setAttribute("intercept", -from / (to - from));
    }
    const whole = from === 0 && to === 1;
    this.find("output.range").textContent = whole ? "" : `${black.value} to ${white.value} % of the window`;
    this.filter = whole ? "" : `url(#${this.find("filter").id})`;
    this.redraw();
  }

  moveDivider(split) {
    this.split = clamp(split, 0, 1);
    this.redraw();
  }

  zoomBy(factor, at = { x: this.size.width / 2, y: this.size.height / 2 }) {
    const zoomed = this.aim.zoomAt(factor, at, this.size, this.shape);
    this.redraw();
    return zoomed;
  }

  showAll() {
    this.aim.reset();
    this.redraw();
  }

  redraw() {
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = undefined;
      if (this.field.ready && this.size.width) this.draw();
    });
  }

  draw() {
    this.aim.keepInside(this.size, this.shape);
    const zoom = this.aim.zoom(this.size, this.shape);
    if (this.state.view === "swipe") this.drawSwipe(zoom);
    else this.drawPanels(zoom);
    for (const canvas of this.element.querySelectorAll("canvas"))
      canvas.style.filter = canvas.classList.contains("map") ? "" : this.filter || "";
    this.find("output.zoom").textContent = `${Math.round(100 * zoom)} %`;
    this.state.zoom = zoom.toFixed(4);
    this.state.centre = `${this.aim.x.toFixed(4)} ${this.aim.y.toFixed(4)}`;
    this.element.toggleAttribute("data-moved", this.aim.magnification > 1);
    this.state.ready = "";
  }

  drawPanels(zoom) {
    for (const panel of this.field.panels) {
      panel.surface.show(panel, this.aim);
      this.field.measure(panel.bar, this.size.width, zoom);
    }
  }

  drawSwipe(zoom) {
    const split = { off: this.split, left: 1, right: 0 }[this.state.blink];
    const [left, right] = this.pair;
    this.left.show(left, this.aim, 0, split);
    this.right.show(right, this.aim, split, 1);
    this.field.measure(this.swipeBar, this.size.width, zoom);
    this.find(".swipe .label.left").classList.toggle("gone", split === 0);
    this.find(".swipe .label.right").classList.toggle("gone", split === 1);
    this.divider.style.left = `${100 * split}%`;
    this.divider.setAttribute("aria-valuenow", Math.round(100 * split));
    this.state.split = split.toFixed(4);
  }
}

document.querySelectorAll(".viewer").forEach((element, index) => new Viewer(element, index + 1));
