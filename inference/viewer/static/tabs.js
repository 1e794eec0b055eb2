/* The tabs: the image, and one for each panel that the server has.

   What a panel shows is the work of panels.js, which is loaded when the server first names a panel; without it the
   image is all there is. */

import { element } from "./words.js";

const IMAGE = "image";

export class Tabs {
  constructor() {
    this.list = [];
    this.panels = null;
    this.target = element("tabs");
    this.target.addEventListener("click", (event) => {
      if (event.target.dataset.tab) this.open(event.target.dataset.tab);
    });
    this.target.addEventListener("keydown", (event) => this.onKey(event));
    element("tab-image").dataset.tab = IMAGE;
  }

  /* Take the server's list of panels [{name, title}]. */
  async take(list) {
    if (JSON.stringify(list) === JSON.stringify(this.list)) return;
    this.list = list;
    this.target.replaceChildren(element("tab-image"), ...list.map((panel) => this.tabOf(panel)));
    if (!this.panels && list.length) this.panels = await loadPanels(element("page-panels"));
    this.panels?.update(list);
    this.open(list.some(({ name }) => name === this.opened) ? this.opened : IMAGE);
  }

  tabOf({ name, title }) {
    const tab = Object.assign(document.createElement("button"), { id: `tab-${name}`, textContent: title });
    tab.dataset.tab = name;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", "page-panels");
    return tab;
  }

  open(name) {
    this.opened = name;
    for (const tab of this.target.children) {
      const isOpen = tab.dataset.tab === name;
      tab.setAttribute("aria-selected", String(isOpen));
      tab.tabIndex = isOpen ? 0 : -1;
    }
    element("page-image").hidden = name !== IMAGE;
    element("page-panels").hidden = name === IMAGE;
    this.panels?.open?.(name === IMAGE ? null : name);
  }

  onKey(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.stopPropagation();
    const tabs = [...this.target.children];
    const place = tabs.indexOf(document.activeElement) + step;
    const tab = tabs[(place + tabs.length) % tabs.length];
    tab.focus();
    this.open(tab.dataset.tab);
  }
}

async function loadPanels(container) {
  try {
    const { Panels } = await import("./panels.js");
    return new Panels(container);
  } catch (error) {
    container.textContent = `The panels could not be loaded: ${error.message}`;
    return null;
  }
}
