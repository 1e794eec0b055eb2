/* What must always stand with an image: RAW or ENHANCED, the model's name and hash, its warnings, its scale.

   No setting hides the label of the enhanced pane. It says NOT ENHANCED where the network gave no numbers; and where
   there is no enhanced image it says why, over an empty pane. */

import { ScaleBar } from "./scale_bar.js";
import { element, elapsed, lines, say, shortHash } from "./words.js";

const SHOWS_RAW = "The network gave no numbers: the raw frame is shown";

/* A frame that waits while nobody enhances says that. */
const waitingFor = (status) => (status?.live && status.state !== "running" ? `waiting, ${status.state}` : "waiting");

export class Labels {
  constructor() {
    this.bars = [new ScaleBar(element("scale-bar")), new ScaleBar(element("scale-bar-raw"))];
    this.warned = "";
  }

  /* Say what the active image is, and what goes with all that are shown. `status` names the model where the image has
     none yet. */
  show(image, images, status, composite) {
    element("empty").hidden = true;
    const channel = composite ? "composite" : (image.channel ?? "");
    const facts = [channel, `frame ${image.number}`, elapsed(image.elapsed_ms)].filter(Boolean);
    say(element("raw-facts"), facts.join(" · "));
    const isRaw = images.some(({ enhanced, shows_raw }) => enhanced && shows_raw);
    this.showModels(images, status, isRaw);
    this.showReasons(images, status);
    this.showWarnings(images, isRaw);
  }

  /* Name the models: one, or those of a composite's channels. */
  showModels(images, status, isRaw) {
    const label = element("label-enhanced");
    say(label.querySelector("b"), isRaw ? "NOT ENHANCED" : "ENHANCED");
    label.classList.toggle("false", isRaw);
    const named = images.filter(({ model_hash }) => model_hash);
    const models = new Map((named.length ? named : [status ?? {}]).map((each) => [each.model_hash, each.model_name]));
    say(element("model-name"), [...models.values()].filter(Boolean).join(" + "));
    say(element("model-hash"), [...models.keys()].map(shortHash).filter(Boolean).join(" + "));
    const hashes = [...models.keys()].filter(Boolean).join("\n");
    if (label.title !== hashes) label.title = hashes;
  }

  showReasons(images, status) {
    const without = images.filter(({ enhanced }) => !enhanced);
    const name = ({ channel }) => (images.length > 1 ? `${channel}: ` : "");
    const why = ({ reason }) => (reason === "waiting" ? waitingFor(status) : reason || "no reason was given");
    const told = without.map((image) => `${name(image)}No enhanced image of frame ${image.number}: ${why(image)}`);
    element("reason").hidden = told.length === 0;
    say(element("reason"), told.join("\n"));
  }

  showWarnings(images, isRaw) {
    const every = (field) => [...new Set(images.flatMap((image) => lines(image[field])))];
    const all = [
      ...(isRaw ? [["grave", SHOWS_RAW]] : []),
      ...every("out_of_domain").map((flag) => ["grave", `Out of the model's domain: ${flag}`]),
      ...every("warnings").map((warning) => ["mild", warning]),
    ];
    const key = JSON.stringify(all);
    if (key === this.warned) return;
    this.warned = key;
    element("warnings").replaceChildren(
      ...all.map(([kind, text]) => Object.assign(document.createElement("p"), { className: kind, textContent: text })),
    );
  }

  showScale(width, zoom, pixelSizeUm) {
    for (const bar of this.bars) bar.show(width, zoom, pixelSizeUm);
  }

  /* Say that there is no image yet, and why. */
  clear(why) {
    element("empty").hidden = false;
    say(element("empty"), why);
    element("reason").hidden = true;
    element("warnings").replaceChildren();
    this.warned = "";
    say(element("raw-facts"), "");
  }
}
