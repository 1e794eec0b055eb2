// The page of a scan: progress, stage map, focus curve of a field, pictures. Draws what the panel says.

import { Chart } from "./curves.js";
import { colour, duration, figure, make, picture, say } from "./markup.js";
import { StageMap, STATUS_COLOURS } from "./stage_map.js";

const PICTURES_AT_ONCE = 48;
const TROUBLES_AT_MOST = 100;
const QUIET_FACTOR = 5; // times the longest field, without a line in the journal, before the page says so
const QUIET_AT_LEAST_S = 30;
const WORDS = { done: "done", flagged: "flagged", hole: "holes", planned: "to take" };
const METHODS = {
  searched: "searched",
  predicted: "not searched: the focus map knows the plane",
  hardware: "held by the hardware autofocus",
};

export class ScanView {
  /**
   * @param {HTMLElement} element to fill
   * @param {(name: string) => string} address of a picture
   */
  constructor(element, address) {
    this.address = address;
    this.scan = null;
    this.selected = null; // null: the latest autofocus
    this.heard = { now: Date.now(), at: performance.now() };
    this.channel = 0;
    this.pictures = new Map();
    this.pictureLimit = PICTURES_AT_ONCE;
    this.#progress();
    this.#map();
    this.#details();
    this.#gallery();
    element.append(
      this.progress,
      make("div", { class: "columns" }, this.mapCard, make("div", { class: "column" }, this.fieldCard, this.focusCard)),
      this.troubleCard,
      this.galleryCard,
    );
  }

  /** Show a panel's content. `nowMs` is the server's time, by which the age of the last line is told. */
  show(scan, nowMs) {
    this.scan = scan;
    this.heard = { now: nowMs, at: performance.now() };
    this.byKey = new Map(scan.fields.map((field) => [field.key, field]));
    if (this.selected !== null && !this.byKey.has(this.selected)) this.selected = null;
    this.#fillChannels();
    this.#drawProgress();
    this.#drawTrouble();
    this.#drawGallery();
    this.#drawSelected();
    this.tick();
  }

  /** Called each second: times go on though nothing new was heard. */
  tick() {
    if (this.scan === null) return;
    const { progress } = this.scan;
    say(this.headline, this.#sentence(progress));
  }

  #select(key) {
    this.selected = key;
    this.#drawSelected();
    this.#drawChosenPicture();
  }

  /** Choose a field from further down the page, and show what is said of it. */
  #reveal(key) {
    this.#select(key);
    this.fieldCard.scrollIntoView({ block: "nearest", behavior: "smooth" });
  }

  // ---- progress --------------------------------------------------------------------------------------

  #progress() {
    this.headline = make("p", { class: "headline", role: "status" });
    this.bar = make("div", { class: "bar", "aria-hidden": "true" });
    this.facts = make("p", { class: "quiet" });
    this.progress = make("section", { class: "card", "aria-label": "Progress" }, this.headline, this.bar, this.facts);
  }

  #sentence(progress) {
    const parts = [`${progress.done} of ${progress.planned ?? "?"} fields`];
    if (progress.flagged) parts.push(`${progress.flagged} flagged`);
    if (progress.holes) parts.push(`${progress.holes} ${progress.holes === 1 ? "hole" : "holes"}`);
    if (progress.latest === null) return `${parts.join(", ")} · nothing was taken yet`;
    const quiet = Math.max(0, (this.#now() - Date.parse(progress.latest)) / 1000);
    const all = progress.planned !== null && progress.left === 0 && this.scan.next === null;
    if (all) return `${parts.join(", ")} · finished in ${duration(span(progress))}`;
    const limit = Math.max(QUIET_AT_LEAST_S, QUIET_FACTOR * (progress.longest_field_s ?? 0));
    if (quiet > limit) return `${parts.join(", ")} · nothing new for ${duration(quiet)}: paused, or ended early`;
    const left = progress.left_s === null ? null : Math.max(0, progress.left_s - quiet);
    const said = left === null ? "" : ` · about ${duration(left)} left`;
    return `${parts.join(", ")}${said} · last line ${duration(quiet)} ago`;
  }

  #now() {
    return this.heard.now + performance.now() - this.heard.at;
  }

  #drawProgress() {
    const { progress, fields } = this.scan;
    const total = Math.max(progress.planned ?? 0, fields.length, 1);
    const parts = {
      done: progress.done - progress.flagged,
      flagged: progress.flagged,
      hole: progress.holes,
    };
    this.bar.replaceChildren(...Object.entries(parts).map(([status, count]) => {
      const part = make("i", { class: status });
      part.style.width = `${(100 * count) / total}%`;
      return part;
    }));
    const { low, high } = this.scan.objectives;
    const facts = [this.scan.microscope, `low ${low}, high ${high}`, this.scan.channels.join(", ")];
    if (progress.started) facts.push(`begun ${new Date(progress.started).toLocaleString()}`);
    if (progress.plan_unknown_because) facts.push(`plan unknown: ${progress.plan_unknown_because}`);
    if (progress.unreadable_lines) facts.push(`${progress.unreadable_lines} lines of the journal cannot be read`);
    say(this.facts, facts.join(" · "));
    for (const [status, count] of Object.entries({ ...parts, planned: progress.left })) {
      say(this.counts[status], String(count));
    }
  }

  // ---- map -------------------------------------------------------------------------------------------

  #map() {
    const canvas = make("canvas", {
      class: "stage-map", tabindex: "0", role: "img",
      "aria-label": "Stage map; arrow keys choose a field",
    });
    this.map = new StageMap(canvas, (key) => this.#select(key));
    const states = make("select", { "aria-label": "Fields shown" },
      make("option", { value: "low high" }, "low and high fields"),
      make("option", { value: "low" }, "low fields"),
      make("option", { value: "high" }, "high fields"));
    states.addEventListener("change", () => this.map.showStates(states.value.split(" ")));
    this.counts = {};
    const key = make("ul", { class: "key" });
    for (const [status, word] of Object.entries(WORDS)) {
      const swatch = make("i");
      swatch.style.background = colour(STATUS_COLOURS[status]);
      this.counts[status] = make("output");
      key.append(make("li", {}, swatch, this.counts[status], ` ${word}`));
    }
    const next = make("i", { class: "next" });
    key.append(make("li", {}, next, "now or next"));
    this.mapCard = make("section", { class: "card map-card", "aria-label": "Stage map" },
      make("div", { class: "row" }, make("h2", {}, "Stage map"), states,
        make("span", { class: "quiet hint" }, "click: choose · wheel: zoom · drag: move · double click: whole")),
      canvas, key);
  }

  // ---- the chosen field ------------------------------------------------------------------------------

  #details() {
    this.fieldTitle = make("h2");
    this.release = make("button", { type: "button", hidden: true }, "Latest autofocus");
    this.release.addEventListener("click", () => this.#select(null));
    this.fieldFacts = make("dl", { class: "facts" });
    this.fieldSays = make("ul", { class: "says" });
    this.large = make("div", { class: "pictures" });
    this.fieldCard = make("section", { class: "card", "aria-label": "Chosen field" },
      make("div", { class: "row" }, this.fieldTitle, this.release), this.fieldSays, this.fieldFacts, this.large);
    this.chart = new Chart({ name: "Focus curve", xLabel: "focus drive (µm)", yLabel: "score / best score" });
    this.focusSays = make("p", { class: "quiet" });
    this.focusCard = make("section", { class: "card focus-card", "aria-label": "Focus curve" },
      make("h2", {}, "Focus"), this.chart.element, this.focusSays);
  }

  #drawSelected() {
    const key = this.selected ?? this.scan.latest_focus;
    const field = this.byKey.get(key) ?? null;
    this.map.show(this.scan, this.selected);
    this.release.hidden = this.selected === null;
    say(this.fieldTitle, field === null ? "No field yet" : `${this.selected ? "" : "Latest autofocus: "}${named(field)}`);
    this.fieldCard.dataset.key = field?.key ?? "";
    this.fieldCard.dataset.status = field?.status ?? "";
    facts(this.fieldFacts, field === null ? [] : fieldFacts(field));
    const says = field === null ? [] : [...(field.flags ?? []), ...(field.reason ? [field.reason] : [])];
    this.fieldSays.className = `says ${field?.status ?? ""}`;
    this.fieldSays.replaceChildren(...says.map((text) => make("li", {}, text)));
    this.#drawLarge(field);
    this.#drawFocus(field?.focus ?? null);
  }

  #drawLarge(field) {
    const names = field?.pictures ?? [];
    if (this.large.dataset.names === names.join()) return;
    this.large.dataset.names = names.join();
    this.large.replaceChildren(...names.map((name, channel) =>
      picture(this.address(`${name}_large`), this.scan.channels[channel], { atOnce: true })));
  }

  #drawFocus(focus) {
    if (focus === null) {
      this.chart.draw({ curves: [] });
      say(this.focusSays, "");
      return;
    }
    const [accent, good, warn] = [colour("blue"), colour("good"), colour("warn")];
    const marks = [];
    if (focus.plane_um !== null) marks.push({ x: focus.plane_um, label: "plane (µm)", colour: good });
    if (focus.expected_um !== null) {
      marks.push({ x: focus.expected_um, label: "expected by the focus map (µm)", colour: warn, dashed: true });
    }
    const [from, to] = [Math.min(...focus.positions_um), Math.max(...focus.positions_um)];
    const inside = focus.positions_um.length > 0;
    const band = focus.expected_um !== null && focus.uncertainty_um !== null && inside
      ? [{ from: Math.max(from, focus.expected_um - focus.uncertainty_um),
           to: Math.min(to, focus.expected_um + focus.uncertainty_um), colour: warn }] : [];
    const best = Math.max(...focus.scores, 1e-12);
    const scores = focus.scores.map((score) => score / best);
    const curve = { label: "best score", said: best, colour: accent, x: focus.positions_um, y: scores };
    this.chart.draw({ curves: inside ? [curve] : [], marks: inside ? marks : [], bands: band, yFromZero: true });
    const parts = [focus.succeeded ? METHODS[focus.method] : `failed: ${focus.reason}`];
    if (focus.plane_um !== null) parts.push(`plane ${focus.plane_um.toFixed(2)} µm`);
    if (focus.expected_um !== null) {
      parts.push(`expected ${focus.expected_um.toFixed(2)} ± ${(focus.uncertainty_um ?? 0).toFixed(2)} µm`);
    }
    if (focus.light_ms) parts.push(`light ${figure(focus.light_ms)} ms`);
    say(this.focusSays, parts.join(" · "));
    this.chart.element.hidden = !inside;
  }

  // ---- what is not well ------------------------------------------------------------------------------

  #drawTrouble() {
    const troubled = this.scan.fields.filter((field) => field.status === "hole" || field.status === "flagged");
    this.troubleCard.hidden = troubled.length === 0;
    const rest = troubled.length - TROUBLES_AT_MOST;
    say(this.troubleRest, rest > 0 ? `and ${rest} more; the map shows them` : "");
    this.troubleList.replaceChildren(...troubled.slice(0, TROUBLES_AT_MOST).map((field) => {
      const button = make("button", { type: "button", "data-key": field.key }, named(field));
      button.addEventListener("click", () => this.#reveal(field.key));
      const words = field.status === "hole" ? field.reason : field.flags.join("; ");
      return make("li", { class: field.status }, make("b", {}, field.status), button, make("span", {}, words));
    }));
  }

  // ---- pictures --------------------------------------------------------------------------------------

  #gallery() {
    this.troubleList = make("ul", { class: "trouble" });
    this.troubleRest = make("p", { class: "quiet" });
    this.troubleCard = make("section", { class: "card", "aria-label": "Holes and flags", hidden: true },
      make("h2", {}, "Holes and flags"), this.troubleList, this.troubleRest);
    this.channels = make("select", { "aria-label": "Channel of the pictures" });
    this.channels.addEventListener("change", () => {
      this.channel = Number(this.channels.value);
      this.#drawGallery();
    });
    this.more = make("button", { type: "button" }, "Show more");
    this.more.addEventListener("click", () => {
      this.pictureLimit += PICTURES_AT_ONCE;
      this.#drawGallery();
    });
    this.grid = make("div", { class: "grid" });
    this.galleryCard = make("section", { class: "card", "aria-label": "Fields" },
      make("div", { class: "row" }, make("h2", {}, "Fields, the latest first"), this.channels), this.grid, this.more);
  }

  #fillChannels() {
    const names = this.scan.channels;
    if (this.channels.options.length === names.length) return;
    this.channels.replaceChildren(...names.map((name, index) => make("option", { value: index }, name)));
  }

  /** Put the latest pictures into the grid; one that is there already is kept. */
  #drawGallery() {
    const taken = this.scan.fields.filter((field) => field.pictures);
    taken.sort((a, b) => (a.time < b.time ? 1 : -1));
    const shown = new Map(taken.slice(0, this.pictureLimit).map((field) => [field.pictures[this.channel], field]));
    for (const [name, tile] of this.pictures) {
      if (shown.has(name)) continue;
      tile.remove();
      this.pictures.delete(name);
    }
    for (const [name, field] of shown) {
      const tile = this.pictures.get(name) ?? this.#tile(name, field);
      tile.className = `tile ${field.status}`;
      tile.title = [named(field), ...field.flags].join("\n");
      this.pictures.set(name, tile);
    }
    const order = [...shown.keys()].map((name) => this.pictures.get(name));
    order.forEach((tile, index) => {
      if (this.grid.children[index] !== tile) this.grid.insertBefore(tile, this.grid.children[index] ?? null);
    });
    this.more.hidden = taken.length <= this.pictureLimit;
    this.#drawChosenPicture();
  }

  #tile(name, field) {
    const tile = make("button", { type: "button", "data-key": field.key });
    tile.append(picture(this.address(`${name}_small`), named(field).replace("tile ", "")));
    tile.addEventListener("click", () => this.#reveal(field.key));
    return tile;
  }

  #drawChosenPicture() {
    for (const tile of this.grid.children) {
      tile.setAttribute("aria-pressed", String(tile.dataset.key === this.selected));
    }
  }
}

function span(progress) {
  return (Date.parse(progress.latest) - Date.parse(progress.started)) / 1000;
}

function named(field) {
  return `region ${field.region}, ${field.state}${field.state === "high" || field.tile ? ` tile ${field.tile}` : ""}`;
}

function fieldFacts(field) {
  const micrometres = (value) => `${value.toFixed(1)} µm`;
  const found = [["state", field.status]];
  if (field.x_um !== null) found.push(["stage", `${micrometres(field.x_um)}, ${micrometres(field.y_um)}`]);
  if (field.focus_um !== undefined) found.push(["focus", `${field.focus_um.toFixed(2)} µm`]);
  if (field.take > 1) found.push(["take", String(field.take)]);
  if (field.sharpness != null) found.push(["sharpness", field.sharpness.toFixed(2)]);
  if (field.correlation != null) found.push(["in the low field", `correlation ${field.correlation.toFixed(2)}`]);
  if (field.saturated) found.push(["saturated", `${figure(100 * field.saturated, 2)} %`]);
  if (field.time) found.push(["taken", new Date(field.time).toLocaleTimeString()]);
  return found;
}

function facts(list, pairs) {
  list.replaceChildren(...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}
