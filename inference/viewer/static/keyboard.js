/* The keys, as in Fiji and napari, and the overlay that lists them.

   Keys typed into a field, or meant for the button or slider that has the focus, are left to it. */

import { element } from "./words.js";

const MOUSE = [
  ["wheel", "zoom about the cursor"],
  ["drag", "move"],
  ["double click", "the whole frame"],
];

export class Keyboard {
  /* `bindings` is a list of {keys, shown, does, act}; keys as in KeyboardEvent.key. */
  constructor(bindings) {
    this.acts = new Map(bindings.flatMap(({ keys, act }) => keys.map((key) => [key, act])));
    this.dialog = element("help-dialog");
    this.list([...MOUSE, ...bindings.map(({ shown, does }) => [shown, does])]);
    element("help").addEventListener("click", () => this.dialog.showModal());
    document.addEventListener("keydown", (event) => this.onKey(event));
    // A clicked button would keep the focus, or get it back from a dialog, and space would press it once more.
    document.addEventListener("click", (event) => event.detail && event.target.closest?.("button")?.blur(), true);
  }

  list(rows) {
    const added = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
    element("help-keys").replaceChildren(...rows.flatMap(([keys, does]) => [added("dt", keys), added("dd", does)]));
  }

  onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === "?" && !isTyping(event.target)) return this.toggleHelp();
    if (document.querySelector("dialog[open]") || element("page-image").hidden) return;
    if (isTyping(event.target)) return ["Escape", "Enter"].includes(event.key) && event.target.blur();
    if ([" ", "Enter"].includes(event.key) && event.target.closest?.("button")) return;
    if (event.target.type === "range" && /^(Arrow|Home|End|Page)/.test(event.key) && event.key !== "End") return;
    const act = this.acts.get(event.key);
    if (!act) return;
    event.preventDefault();
    act();
  }

  toggleHelp() {
    if (this.dialog.open) this.dialog.close();
    else if (!document.querySelector("dialog[open]")) this.dialog.showModal();
  }
}

function isTyping(target) {
  return Boolean(target.closest?.("select, textarea, input:not([type=range]):not([type=checkbox]):not([type=radio])"));
}
