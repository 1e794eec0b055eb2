/* What tests and curious people see of the page as `window.sharpscope`; nothing of the page uses it. */

export function inspectionOf(page, timings) {
  const window = (kind) => (({ black, white }) => ({ black, white }))(page.levels.of(page.channels.active, kind));
  return {
    get frames_drawn() {
      return page.drawn.count;
    },
    /* {number, index, age_ms_at_draw} of the frame that was drawn last. */
    get last() {
      return page.drawn.last;
    },
    /* How long the last draws took, in ms. */
    get draw_ms() {
      return [...page.drawn.ms.subarray(0, Math.min(page.drawn.count, timings))];
    },
    /* {black, white} in counts, of raw and of enhanced. */
    get levels() {
      return { raw: window("raw"), enhanced: window("enhanced") };
    },
    /* Screen px for a raw pixel, and the raw pixel in the middle of each pane. */
    get view() {
      const { zoom, x, y } = page.stage.view;
      return { zoom, x, y };
    },
    /* The colour [r, g, b, a] at a place of a canvas, "raw" or "enhanced", in its own (device) pixels. */
    pixel: (canvas, x, y) => [...page.stage[canvas].context.getImageData(x, y, 1, 1).data],
    /* Where a place of the sample, in raw pixels, lies in the canvases' own pixels. */
    place(x, y) {
      const { size, ratio, view } = page.stage;
      const { left, top } = view.origin(size, ratio);
      return { x: (left + x * view.zoom) * ratio, y: (top + y * view.zoom) * ratio };
    },
  };
}
