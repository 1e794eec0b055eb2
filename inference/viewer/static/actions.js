/* The buttons that act on the acquisition: those of pause, resume, stop, snap and repoint that the server offers.

   Each asks the server and says what it answered. Stopping ends an experiment, so it is asked for twice. */

import { post } from "./connection.js";
import { element, say } from "./words.js";

const NAMES = ["snap", "pause", "resume", "stop", "repoint"];
const SURE_MS = 4000;

export class Actions {
  /* `notify` shows a line to the person. */
  constructor(notify) {
    this.notify = notify;
    this.sure = null;
    this.known = new Set();
    this.dialog = element("repoint-dialog");
    for (const name of ["snap", "pause", "resume"])
      element(name).addEventListener("click", () => this.act({ action: name }));
    element("stop").addEventListener("click", () => this.stop());
    element("repoint").addEventListener("click", () => this.dialog.showModal());
    this.dialog.addEventListener("close", () => this.repoint());
  }

  /* Take what can be done now. A button that was ever of use keeps its place, and pause and resume go together, so that
     nothing moves away under the mouse. */
  offer(names) {
    names.forEach((name) => this.known.add(name));
    if (this.known.has("pause")) this.known.add("resume");
    element("actions").hidden = this.known.size === 0;
    for (const name of NAMES) {
      element(name).hidden = !this.known.has(name);
      element(name).disabled = !names.includes(name);
    }
  }

  /* Another source: other buttons. */
  clear() {
    this.known.clear();
  }

  stop() {
    const button = element("stop");
    if (this.sure) this.act({ action: "stop" });
    else say(button, "Really stop?");
    clearTimeout(this.sure);
    const forget = () => {
      this.sure = null;
      say(button, "Stop");
    };
    this.sure = this.sure ? forget() : setTimeout(forget, SURE_MS);
  }

  repoint() {
    const worker = element("repoint-address").value.trim();
    if (this.dialog.returnValue === "go" && worker) this.act({ action: "repoint", worker });
    this.dialog.returnValue = "";
  }

  async act(request) {
    try {
      await post("api/control", request);
      this.notify("");
    } catch (error) {
      this.notify(`${request.action}: ${error.message}`);
    }
  }
}
