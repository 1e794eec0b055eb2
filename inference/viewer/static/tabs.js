/* The tabs: the image, and one for each panel that the server has.

   What a panel shows is the work of panels.js, which is loaded when the server first names a panel; without it the
   image is all there is. Until a person chose a tab, the first panel is open where there are no images. */

import { element } from "./words.js";

const IMAGE = "image";

export class Tabs {
  constructor() {
    this.list = [];
    this.panels = null;
    this.opened = IMAGE;
    this.isChosen = false;
    this.target = element("tabs");
    this.target.addEventListener("click", (event) => {
      if (event.target.dataset.tab) this.choose(event.target.dataset.tab);
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

  choose(name) {
    this.isChosen = true;
    this.open(name);
  }

  /* Open what there is to see, where nobody chose. */
  prefer(hasImages) {
    const name = hasImages ? IMAGE : (this.list[0]?.name ?? IMAGE);
    if (!this.isChosen && name !== this.opened) this.open(name);
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
    this.choose(tab.dataset.tab);
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
