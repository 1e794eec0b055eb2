// The panels beside the image: scan, pairs, training. One section each; the page's tabs say which is shown.
//
//   const panels = new Panels(container);
//   panels.update([{name: "scan", title: "Scan"}, ...]);   // of the hello message; again whenever it changes
//   panels.open("scan");                                   // its tab was chosen; null: none of them
//
// A panel is asked for each second, and only while it is seen: another tab, a hidden container or a window in
// the background cost nothing. If-None-Match keeps what did not change from being sent again.

import { ContactSheet } from "./contact_sheet.js";
import { make, say } from "./markup.js";
import { ScanView } from "./scan_view.js";
import { TrainingView } from "./training_view.js";

const VIEWS = { scan: ScanView, pairs: ContactSheet, training: TrainingView };
const POLL_MS = 1000;
const PATIENCE_MS = 20_000; // a long journal is read once, on a machine that has other work

export class Panels {
  /** @param {HTMLElement} container */
  constructor(container) {
    this.container = container;
    this.panels = new Map();
    this.shown = null;
    addStyle();
    setInterval(() => this.#poll(), POLL_MS);
    document.addEventListener("visibilitychange", () => this.#poll());
  }

  /** Have a section for each panel of the list, and for no other. */
  update(list) {
    const names = new Set(list.map(({ name }) => name));
    for (const [name, panel] of this.panels) {
      if (names.has(name)) continue;
      panel.section.remove();
      this.panels.delete(name);
    }
    for (const { name, title } of list) {
      if (!this.panels.has(name)) this.panels.set(name, new PolledPanel(name, title));
      this.container.append(this.panels.get(name).section);
    }
    this.open(names.has(this.shown) ? this.shown : (list[0]?.name ?? null));
  }

  /** Show one panel and hide the others; the container itself is the page's. */
  open(name) {
    this.shown = name;
    for (const [other, panel] of this.panels) panel.section.hidden = other !== name;
    this.#poll();
  }

  #poll() {
    const panel = this.panels.get(this.shown);
    if (panel && !document.hidden && panel.section.checkVisibility()) panel.poll();
  }
}

/** One panel: asks the server what it shows, and has it drawn. */
class PolledPanel {
  constructor(name, title) {
    this.address = new URL(`api/panels/${encodeURIComponent(name)}`, document.baseURI).href;
    this.trouble = make("p", { class: "trouble-line", role: "alert", hidden: true });
    this.reading = make("p", { class: "quiet" }, "Reading the folder…");
    this.body = make("div", { class: "panel-body" }, this.reading);
    this.section = make("section", { class: "panel", id: `panel-${name}`, "aria-label": title, hidden: true },
      this.trouble, this.body);
    this.etag = null;
    this.view = null;
    this.asking = false;
  }

  async poll() {
    if (this.asking) return;
    this.asking = true;
    try {
      await this.#ask();
      this.trouble.hidden = true;
    } catch (error) {
      this.trouble.hidden = false;
      say(this.trouble, `This cannot be read now (${error.message}); what is shown may be old. Trying again.`);
    } finally {
      this.asking = false;
    }
    this.view?.tick();
  }

  async #ask() {
    const headers = this.etag === null ? {} : { "If-None-Match": this.etag };
    const options = { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) };
    const response = await fetch(this.address, options);
    if (response.status === 304) {
      await response.text(); // of no length; a body that nobody takes counts as given up
      return;
    }
    if (!response.ok) throw new Error(`the server says ${response.status}`);
    const content = await response.json();
    const now = Date.parse(response.headers.get("Date") ?? "");
    this.view ??= this.#made(content.kind);
    this.reading.remove();
    this.view.show(content, Number.isNaN(now) ? Date.now() : now);
    this.etag = response.headers.get("ETag");
    this.section.dataset.version = this.etag ?? "";
  }

  #made(kind) {
    if (!Object.hasOwn(VIEWS, kind)) throw new Error(`this page knows no panel of the kind '${kind}'`);
    return new VIEWS[kind](this.body, (picture) => `${this.address}/pictures/${encodeURIComponent(picture)}`);
  }
}

function addStyle() {
  const href = new URL("panels.css", import.meta.url).href;
  const there = [...document.styleSheets].some((sheet) => sheet.href === href);
  if (!there) document.head.append(make("link", { rel: "stylesheet", href }));
}
