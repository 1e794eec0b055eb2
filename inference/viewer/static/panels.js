/* The panels beside the image: scan progress, pairs, training. */

export class Panels {
  constructor(container) {
    this.container = container;
  }

  update(list) {
    this.container.textContent = list.map(({ title }) => title).join(", ");
  }
}
