/* Which series are shown, and in which colours: one in grey, or the channels of a position one over the other.

   Knows series by name, channel, position and length, as the server lists them; pixels are for the painter. */

import { GREY } from "./levels.js";
import { element, press } from "./words.js";

const MOST = 16; // series that the server shows at once
const COLOURS = [
  [/dapi|hoechst|bfp|405/i, "#4060ff"],
  [/fitc|gfp|488|alexa ?488/i, "#00ff00"],
  [/tritc|texas|rfp|mcherry|561|594|cy3/i, "#ff2020"],
  [/cy5|640|647|far ?red/i, "#ff00ff"],
];

/* Return the colour "#rrggbb" that a channel of this name is usually given. */
export function usualColour(channel) {
  return COLOURS.find(([pattern]) => pattern.test(channel ?? ""))?.[1] ?? "#ffffff";
}

function parts(colour) {
  return [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));
}

export class Channels {
  /* `changed` is called when other series are wanted; `recoloured` when the same are to be painted anew. */
  constructor(changed, recoloured) {
    this.changed = changed;
    this.recoloured = recoloured;
    this.clear();
    element("composite").addEventListener("click", () => this.compose(!this.composite));
    element("position").addEventListener("change", (event) => this.goTo(event.target.value));
    element("channels").addEventListener("change", (event) => this.onChange(event.target));
  }

  clear() {
    this.series = [];
    this.active = null;
    this.composite = false;
    this.colours = new Map();
    this.hidden = new Set();
    this.listed = "";
  }

  /* Take the server's list; returns whether the series wanted are others now. */
  take(series) {
    this.series = series;
    const before = this.wanted().join();
    if (!this.of(this.active)) this.active = series[0]?.name ?? null;
    for (const { name, channel } of series)
      if (!this.colours.has(name)) this.colours.set(name, usualColour(channel ?? name));
    const key = JSON.stringify(series.map(({ name }) => name));
    if (key !== this.listed) this.list();
    this.listed = key;
    return this.wanted().join() !== before;
  }

  of(name) {
    return this.series.find((series) => series.name === name);
  }

  /* Return the series of the active one's position. */
  beside() {
    const position = this.of(this.active)?.position ?? null;
    return this.series.filter((series) => (series.position ?? null) === position);
  }

  /* Return the names of the series to ask for. */
  wanted() {
    if (this.active === null) return [];
    if (!this.composite) return [this.active];
    const shown = this.beside().filter(({ name }) => !this.hidden.has(name));
    return shown.length ? shown.map(({ name }) => name).slice(0, MOST) : [this.active];
  }

  colourOf(name) {
    return this.composite ? parts(this.colourInWords(name)) : GREY;
  }

  colourInWords(name) {
    return this.composite ? (this.colours.get(name) ?? "#ffffff") : "grey";
  }

  compose(on) {
    this.composite = on && this.beside().length > 1;
    this.list();
    this.changed();
  }

  goTo(position) {
    const channel = this.of(this.active)?.channel;
    const there = this.series.filter((series) => (series.position ?? "") === position);
    this.active = (there.find((series) => series.channel === channel) ?? there[0])?.name ?? this.active;
    this.list();
    this.changed();
  }

  onChange(input) {
    const { name } = input.closest("[data-name]").dataset;
    if (input.type === "color") {
      this.colours.set(name, input.value);
      return this.recoloured();
    }
    if (input.type === "radio") this.active = name;
    else if (input.checked) this.hidden.delete(name);
    else this.hidden.add(name);
    this.changed();
  }

  list() {
    const positions = [...new Set(this.series.map((series) => series.position ?? ""))];
    element("position-row").hidden = positions.length < 2;
    element("position").replaceChildren(...positions.map((position) => new Option(position || "one", position)));
    element("position").value = this.of(this.active)?.position ?? "";
    element("channels").replaceChildren(...this.beside().map((series) => this.row(series)));
    element("composite").disabled = this.beside().length < 2;
    press(element("composite"), this.composite);
  }

  row({ name, channel }) {
    const words = channel ?? name;
    const row = Object.assign(document.createElement("div"), { className: "channel" });
    row.dataset.name = name;
    const input = (facts) => Object.assign(document.createElement("input"), facts);
    const label = document.createElement("label");
    label.append(input({ type: "radio", name: "active", checked: name === this.active }), words);
    row.append(label);
    if (!this.composite) return row;
    const seen = input({ type: "checkbox", checked: !this.hidden.has(name), title: "Shown in the composite" });
    seen.setAttribute("aria-label", `Show ${words}`);
    const colour = input({ type: "color", value: this.colours.get(name), title: "Colour in the composite" });
    colour.setAttribute("aria-label", `Colour of ${words}`);
    row.append(seen, colour);
    return row;
  }
}
