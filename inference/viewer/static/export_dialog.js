/* Files of what is shown: a snapshot at once, a movie or TIFF of a range through a dialog.

   The server makes the file, from the recording's own pixels and with ENHANCED and the model's hash burnt into pictures;
   the page asks and hands it to the browser's downloads. */

import { post } from "./connection.js";
import { element, say } from "./words.js";

const KEEP_MS = 60000; // a download has begun by then

export class ExportDialog {
  /* `shown` returns what is shown: {series, index, number, length, names, look}, the look being a function of a series. */
  constructor(shown, notify) {
    this.shown = shown;
    this.notify = notify;
    this.dialog = element("export-dialog");
    element("snapshot").addEventListener("click", () => this.snapshot());
    element("movie").addEventListener("click", () => this.open());
    element("export-format").addEventListener("change", () => this.fitFormat());
    element("export-start").addEventListener("click", (event) => this.start(event));
  }

  async snapshot() {
    const { series, index, look } = this.shown();
    if (series === null) return this.notify("There is no frame to take yet");
    await this.request({ format: "png", series, first: index, last: index, look: look(series) }, this.notify);
  }

  open() {
    const { series, length, index, number, names, look } = this.shown();
    if (series === null) return this.notify("There is no frame to export yet");
    element("export-series").replaceChildren(...names.map((name) => new Option(name, name)));
    element("export-series").value = series;
    element("export-first").value = "0";
    element("export-last").value = String(Math.max(length - 1, index ?? 0));
    element("export-show").value = look(series).show;
    say(element("export-indices"), indicesInWords(series, index, number));
    say(element("export-state"), "");
    this.fitFormat();
    this.dialog.showModal();
  }

  /* A TIFF is of one kind and has no other look, and a PNG one frame. */
  fitFormat() {
    const format = element("export-format").value;
    const isTiff = format === "ome-tiff";
    for (const id of ["export-scale-bar", "export-time-stamp"]) element(id).disabled = isTiff;
    const show = element("export-show");
    show.querySelector("[value=side_by_side]").disabled = isTiff;
    if (isTiff && show.value === "side_by_side") show.value = "raw";
    element("export-last").disabled = format === "png";
    element("export-fps").disabled = format !== "mp4";
    const { index } = this.shown();
    if (format === "png" && index !== null) element("export-first").value = String(index);
  }

  async start(event) {
    event.preventDefault();
    if (!this.dialog.querySelector("form").reportValidity()) return;
    element("export-start").disabled = true;
    await this.request(this.chosen(), (words) => say(element("export-state"), words));
    element("export-start").disabled = false;
  }

  chosen() {
    const format = element("export-format").value;
    const first = element("export-first").valueAsNumber;
    const last = format === "png" ? first : element("export-last").valueAsNumber;
    const request = { format, series: element("export-series").value, first, last };
    const show = element("export-show").value;
    if (format === "ome-tiff") return { ...request, look: { show } };
    request.look = {
      ...this.shown().look(request.series),
      show,
      scale_bar: element("export-scale-bar").checked,
      time_stamp: element("export-time-stamp").checked,
    };
    if (format === "mp4") request.fps = element("export-fps").valueAsNumber;
    return request;
  }

  async request(request, tell) {
    tell("Writing…");
    try {
      const answer = await post("api/export", request);
      const name = fileName(answer, request);
      download(await answer.blob(), name);
      tell(`Written: ${name}`);
    } catch (error) {
      tell(`Not written: ${error.message}`);
    }
  }
}

/* An index counts in the series; the number that pictures and file names carry counts in the whole recording. */
function indicesInWords(series, index, number) {
  const words = `Indices count in ${series} alone, from 0`;
  return index === null ? `${words}.` : `${words}: shown is index ${index}, frame ${number}.`;
}

function fileName(answer, { format, series, first }) {
  const said = /filename="?([^";]+)"?/.exec(answer.headers.get("Content-Disposition") ?? "");
  const ending = { png: "png", mp4: "mp4", "ome-tiff": "ome.tif" }[format];
  return said?.[1] ?? `${series}_${first ?? "newest"}.${ending}`.replace(/[^\w.-]+/g, "_");
}

function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), KEEP_MS);
}
