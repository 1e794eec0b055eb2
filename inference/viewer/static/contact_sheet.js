// The page of a pair set: each pair as low, high and difference, with its figures, and why others were left out.

import { figure, make, picture, say } from "./markup.js";

const PAIRS_AT_ONCE = 24;
const FIGURES = [
  ["residual_px", "residual", "px"],
  ["ncc_after", "NCC", ""],
  ["ncc_before", "before", ""],
  ["deformation_rms_px", "deformed", "px"],
  ["snr_low", "SNR low", ""],
  ["snr_high", "SNR high", ""],
];
const ORDERS = {
  region: (pair) => pair.number,
  worst: (pair) => -(pair.residual_px ?? Infinity),
  best: (pair) => pair.residual_px ?? Infinity,
};
const DETAILS = [["detail_low", "low"], ["detail_high", "high"], ["detail_overlay", "low green, high magenta"],
  ["detail_difference", "difference"]];

export class ContactSheet {
  constructor(element, address) {
    this.address = address;
    this.set = null;
    this.limit = PAIRS_AT_ONCE;
    this.opened = null;
    this.counts = make("table");
    this.reasons = make("ul", { class: "trouble" });
    this.facts = make("p", { class: "quiet" });
    this.filters = {
      channel: this.#choice("Channel"),
      split: this.#choice("Split"),
      verdict: this.#choice("Verdict", [["", "accepted and left out"], ["accepted", "accepted"], ["left out", "left out"]]),
      order: this.#choice("Order", [["region", "by region"], ["worst", "worst first"], ["best", "best first"]]),
    };
    this.number = make("output", { class: "quiet" });
    this.cards = make("div", { class: "pairs" });
    this.more = make("button", { type: "button" }, "Show more");
    this.more.addEventListener("click", () => {
      this.limit += PAIRS_AT_ONCE;
      this.#draw();
    });
    const tables = make("div", { class: "row top" }, make("div", { class: "scroll" }, this.counts), this.reasons);
    element.append(
      make("section", { class: "card", "aria-label": "Counts" }, make("h2", {}, "Pairs"), this.facts, tables),
      make("section", { class: "card", "aria-label": "Contact sheet" },
        make("div", { class: "row" }, make("h2", {}, "Contact sheet"), ...Object.values(this.filters), this.number),
        make("p", { class: "quiet" }, "Low and high by one grey window. Difference: high minus low, orange where " +
          "high is brighter, blue where low is. Click a pair for a detail, pixel for pixel."),
        this.cards, this.more),
    );
  }

  show(set) {
    const anew = this.set === null || this.set.pairs[0]?.pictures !== set.pairs[0]?.pictures;
    this.set = set;
    const size = set.pixel_size_um === null ? "" : ` · ${figure(set.pixel_size_um)} µm a pixel`;
    say(this.facts, `${set.folder} · factor ${set.factor}${size} · ${set.alignment} alignment`);
    this.#fill(this.filters.channel, "all channels", set.channels);
    this.#fill(this.filters.split, "all splits", set.splits);
    this.#drawCounts();
    if (anew) this.#draw();
  }

  tick() {}

  #choice(name, options = []) {
    const select = make("select", { "aria-label": name }, ...options.map(([value, text]) => make("option", { value }, text)));
    select.addEventListener("change", () => {
      this.limit = PAIRS_AT_ONCE;
      this.#draw();
    });
    return select;
  }

  #fill(select, all, names) {
    if (select.options.length === names.length + 1) return;
    select.replaceChildren(make("option", { value: "" }, all), ...names.map((name) => make("option", { value: name }, name)));
  }

  #drawCounts() {
    const columns = ["channel", ...this.set.splits, "accepted", "left out"];
    const rows = this.set.counts.map((row) => [row.channel, ...this.set.splits.map((split) => row[split]), row.accepted, row.left_out]);
    const body = make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, String(cell))))));
    const head = make("thead", {}, make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, name))));
    this.counts.replaceChildren(head, body);
    this.reasons.replaceChildren(...this.set.left_out_because.map(({ reason, pairs }) =>
      make("li", { class: "flagged" }, make("b", {}, `${pairs} ×`), make("span", {}, reason))));
  }

  #chosen() {
    const { channel, split, verdict, order } = this.filters;
    const chosen = this.set.pairs.filter((pair) =>
      (!channel.value || pair.channel === channel.value) && (!split.value || pair.split === split.value) &&
      (!verdict.value || pair.accepted === (verdict.value === "accepted")));
    return chosen.sort((a, b) => ORDERS[order.value](a) - ORDERS[order.value](b) || a.number - b.number);
  }

  #draw() {
    const chosen = this.#chosen();
    say(this.number, `${chosen.length} of ${this.set.pairs.length} pairs`);
    this.cards.replaceChildren(...chosen.slice(0, this.limit).map((pair) => this.#card(pair)));
    this.more.hidden = chosen.length <= this.limit;
  }

  #card(pair) {
    const strip = make("div", { class: "strip" });
    for (const kind of ["low", "high", "difference"]) {
      strip.append(picture(this.address(`${pair.pictures}_${kind}`), kind));
    }
    const figures = FIGURES.filter(([name]) => pair[name] !== null)
      .map(([name, words, unit]) => make("span", {}, `${words} `, make("b", {}, figure(pair[name]) + (unit && ` ${unit}`))));
    const says = [pair.reason, ...pair.notes].filter(Boolean).map((text) => make("p", { class: "says" }, text));
    const card = make("article", { class: `pair ${pair.accepted ? "accepted" : "left-out"}`, "data-number": pair.number },
      make("header", {}, make("h3", {}, `region ${pair.region}, ${pair.channel}`), make("span", { class: "chip" }, pair.split),
        make("span", { class: `chip ${pair.accepted ? "done" : "hole"}` }, pair.accepted ? "accepted" : "left out")),
      ...says, strip, make("p", { class: "figures" }, ...figures));
    const open = make("button", { type: "button", class: "open", "aria-expanded": "false" }, "Detail 1:1");
    open.addEventListener("click", () => this.#toggle(card, open, pair));
    strip.addEventListener("click", () => this.#toggle(card, open, pair));
    card.append(open);
    return card;
  }

  #toggle(card, open, pair) {
    const there = card.querySelector(".detail");
    open.setAttribute("aria-expanded", String(there === null));
    card.classList.toggle("opened", there === null);
    if (there !== null) return there.remove();
    const detail = make("div", { class: "strip detail" });
    for (const [kind, words] of DETAILS) detail.append(picture(this.address(`${pair.pictures}_${kind}`), words));
    open.before(detail);
  }
}
