/* Which key does what: as in Fiji where Fiji has a key for it, else as in napari, else the word's first letter. */

import { element } from "./words.js";

const ZOOM_STEP = 1.25;

const clicks = (id) => () => !element(id).disabled && element(id).click();

/* Return the bindings of a page for Keyboard: {keys, shown, does, act}. */
export function keysOf(page) {
  const { stage, timeline, channels, levelsPanel } = page;
  return [
    { keys: ["+", "="], shown: "+", does: "zoom in", act: () => stage.zoomBy(ZOOM_STEP) },
    { keys: ["-"], shown: "-", does: "zoom out", act: () => stage.zoomBy(1 / ZOOM_STEP) },
    { keys: ["f"], shown: "f", does: "the whole frame", act: () => stage.fit() },
    { keys: ["1"], shown: "1", does: "one screen pixel for one raw pixel", act: () => stage.zoomTo(1) },
    { keys: [",", "<", "ArrowLeft"], shown: ", or ←", does: "one frame back", act: () => timeline.step(-1) },
    { keys: [".", ">", "ArrowRight"], shown: ". or →", does: "one frame on", act: () => timeline.step(1) },
    { keys: ["Home"], shown: "Home", does: "first frame", act: () => timeline.goTo(0) },
    { keys: ["End"], shown: "End", does: "follow the newest frame", act: () => timeline.follow() },
    { keys: [" "], shown: "space", does: "play or stop; hold the live image", act: () => timeline.togglePlay() },
    { keys: ["a"], shown: "a", does: "automatic contrast", act: () => page.auto() },
    { keys: ["A"], shown: "shift a", does: "automatic contrast at every frame", act: () => levelsPanel.toggleAlways() },
    { keys: ["h"], shown: "h", does: "histogram logarithmic or not", act: () => levelsPanel.toggleLog() },
    { keys: ["d"], shown: "d", does: "side by side", act: () => stage.choose("side") },
    { keys: ["s"], shown: "s", does: "swipe", act: () => stage.choose("swipe", true) },
    { keys: ["b"], shown: "b", does: "blink", act: () => stage.choose("blink", true) },
    { keys: ["r"], shown: "r", does: "raw only", act: () => stage.choose("raw", true) },
    { keys: ["e"], shown: "e", does: "enhanced only", act: () => stage.choose("enhanced", true) },
    { keys: ["c"], shown: "c", does: "composite of the channels", act: () => channels.compose(!channels.composite) },
    { keys: ["m"], shown: "m", does: "mark saturated pixels", act: clicks("mask") },
    { keys: ["?"], shown: "?", does: "this list", act: () => {} },
  ];
}
