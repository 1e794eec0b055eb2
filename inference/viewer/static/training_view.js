// The page of a training run: its curves, and the picture that it draws of one field again and again.

import { Chart } from "./curves.js";
import { colour, duration, figure, make, picture, say } from "./markup.js";

const CHARTS = {
  validation: { title: "Validation", yLabel: "validation loss", mayBeLog: true },
  generator: { title: "Generator: weighted terms of its loss", yLabel: "term of the loss", mayBeLog: true },
  discriminator: { title: "Discriminator", yLabel: "loss", mayBeLog: false },
  ssim: { title: "Structural similarity", yLabel: "SSIM", mayBeLog: false },
  psnr: { title: "Peak signal to noise", yLabel: "PSNR (dB)", mayBeLog: false },
  ncc: { title: "Correlation", yLabel: "NCC", mayBeLog: false },
  weights: { title: "Weights of the terms", yLabel: "weight", mayBeLog: true },
  others: { title: "Other quantities", yLabel: "value", mayBeLog: true },
};
const INKS = ["blue", "good", "warn", "violet",
  "bad", "quiet"];

export class TrainingView {
  constructor(element, address) {
    this.address = address;
    this.run = null;
    this.charts = new Map();
    this.heard = { now: Date.now(), at: performance.now() };
    this.headline = make("p", { class: "headline", role: "status" });
    this.bar = make("i", { class: "done" });
    this.facts = make("p", { class: "quiet" });
    this.axis = make("select", { "aria-label": "Horizontal axis" },
      make("option", { value: "iterations" }, "by iteration"), make("option", { value: "minutes" }, "by time"));
    this.axis.addEventListener("change", () => this.#drawCurves());
    this.grid = make("div", { class: "chart-grid" });
    this.pictures = make("div", { class: "progress-pictures" });
    element.append(
      make("section", { class: "card", "aria-label": "Progress" },
        make("div", { class: "row" }, this.headline, this.axis),
        make("div", { class: "bar", "aria-hidden": "true" }, this.bar), this.facts),
      this.grid,
      this.pictures,
    );
  }

  show(run, nowMs) {
    this.run = run;
    this.heard = { now: nowMs, at: performance.now() };
    this.bar.style.width = `${100 * run.progress.spent}%`;
    const shares = Object.entries(run.shares).map(([name, part]) => `${name} ${figure(100 * part, 3)} %`);
    const facts = [run.name, `channel ${run.channel}`, run.trend];
    if (shares.length > 1) facts.push(`generator's loss: ${shares.join(", ")}`);
    if (run.unreadable_lines) facts.push(`${run.unreadable_lines} lines of the history cannot be read`);
    say(this.facts, facts.join(" · "));
    this.#drawCurves();
    this.#drawPictures();
    this.tick();
  }

  tick() {
    if (this.run === null) return;
    say(this.headline, this.#sentence());
  }

  #sentence() {
    const { progress, best, budget, finished, latest } = this.run;
    if (latest === null || progress.iteration === 0) return "No validation yet";
    const parts = [`iteration ${progress.iteration.toLocaleString("en-US")} of ${budget.iterations.toLocaleString("en-US")}`,
      `${duration(progress.seconds)}${budget.minutes ? ` of ${duration(60 * budget.minutes)}` : ""}`];
    if (best) parts.push(`best validation ${figure(best.validation, 4)} at iteration ${best.iteration.toLocaleString("en-US")}`);
    if (finished) return `Finished · ${parts.join(" · ")}`;
    const quiet = Math.max(0, (this.heard.now + performance.now() - this.heard.at - Date.parse(latest)) / 1000);
    const left = progress.left_s === null ? "" : ` · about ${duration(progress.left_s - quiet)} left`;
    return `${parts.join(" · ")}${progress.spent < 1 ? left : ""} · last line ${duration(quiet)} ago`;
  }

  #drawCurves() {
    if (this.run === null) return;
    const groups = Object.groupBy
      ? Object.groupBy(this.run.curves, (curve) => curve.chart)
      : grouped(this.run.curves, (curve) => curve.chart);
    for (const name of Object.keys(CHARTS)) {
      const curves = (groups[name] ?? []).filter(worthDrawing);
      if (curves.length > 0) this.#chart(name).draw(this.#drawing(name, curves));
    }
    const empty = this.run.curves.length === 0;
    if (empty) this.#chart("validation").draw({ curves: [] });
  }

  #drawing(name, curves) {
    const byTime = this.axis.value === "minutes";
    const drawn = curves.map((curve, index) => ({
      label: curve.label,
      colour: colour(INKS[index % INKS.length]),
      x: byTime ? curve.seconds.map((seconds) => (seconds ?? 0) / 60) : curve.iterations,
      y: curve.values,
    }));
    const { best } = this.run;
    const at = best && curves[0].iterations.indexOf(best.iteration);
    const marks = name === "validation" && best && at >= 0
      ? [{ x: drawn[0].x[at], label: byTime ? "best (min)" : "best (iteration)", colour: colour("good"), dashed: true }] : [];
    return { curves: drawn, marks, yFromZero: name === "discriminator", xLabel: byTime ? "time (min)" : "iteration" };
  }

  /** Return a chart by name; the first time it is put among the others in the order of `CHARTS`. */
  #chart(name) {
    if (!this.charts.has(name)) {
      const look = CHARTS[name];
      const chart = new Chart({ name: look.title, xLabel: "iteration", ...look });
      this.charts.set(name, chart);
      const card = make("section", { class: "card", "data-chart": name }, make("h2", {}, look.title), chart.element);
      const order = Object.keys(CHARTS);
      const after = [...this.grid.children].find((other) => order.indexOf(other.dataset.chart) > order.indexOf(name));
      this.grid.insertBefore(card, after ?? null);
    }
    return this.charts.get(name);
  }

  #drawPictures() {
    const names = this.run.pictures.map(({ name }) => name).join();
    if (this.pictures.dataset.names === names) return;
    this.pictures.dataset.names = names;
    this.pictures.replaceChildren(...this.run.pictures.map(({ name, title }) =>
      make("section", { class: "card" }, make("h2", {}, "Latest picture"), picture(this.address(name), title, { atOnce: true }))));
  }
}

/** A term that the run does not have stays zero, and a weight that is not steered says nothing. */
function worthDrawing(curve) {
  const steady = curve.values.every((value) => value === curve.values[0]);
  return curve.chart === "weights" ? !steady : !(steady && curve.values[0] === 0);
}

function grouped(list, name) {
  const groups = {};
  for (const entry of list) (groups[name(entry)] ??= []).push(entry);
  return groups;
}
