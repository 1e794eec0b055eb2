/* Which frame is shown: the newest, as it comes, or one of the recorded part. Where nothing is recorded, the newest can
   only be held.

   Asks for one index at a time: while a frame is under way the slider's newest place waits, so that scrubbing never
   queues. Plays at a speed, and where it reaches the newest frame of a running recording it follows that. */

import { element, elapsed, NOTHING, press, say } from "./words.js";

const PATIENCE_MS = 2000; // then a frame that does not come is asked for again

export class Timeline {
  /* `ask` is called with an index, or null for the newest. */
  constructor(ask) {
    this.ask = ask;
    this.slider = element("slider");
    this.clear();
    this.slider.addEventListener("input", () => this.goTo(this.slider.valueAsNumber));
    this.slider.addEventListener("pointerdown", () => (this.isHeld = true));
    for (const type of ["pointerup", "pointercancel", "change"])
      this.slider.addEventListener(type, () => this.release());
    element("live").addEventListener("click", () => this.follow());
    element("play").addEventListener("click", () => this.togglePlay());
    element("back").addEventListener("click", () => this.step(-1));
    element("forth").addEventListener("click", () => this.step(1));
    element("speed").addEventListener("change", () => this.timer && this.play());
  }

  clear() {
    this.stop();
    this.at = null;
    this.index = null; // of the frame that is shown
    this.length = 0;
    this.isLive = false; // whether the recording still grows
    this.isKept = true; // whether earlier frames can be asked for
    this.isHeld = false;
    this.asked = null; // {at, time} under way
    this.next = undefined; // the place to ask for after that
    this.draw();
  }

  /* Take the active series' length, whether more comes, and whether it is kept. */
  grow(length, isLive, isKept) {
    this.isLive = isLive;
    this.isKept = isKept;
    this.length = Math.max(length, 0);
    if (this.at !== null && this.isKept && this.length > 0) this.at = Math.min(this.at, this.last);
    this.draw();
  }

  /* Take the index of the frame that was drawn. */
  arrive(index, elapsedMs) {
    this.index = index;
    if (index !== null) this.length = Math.max(this.length, index + 1);
    this.elapsed = elapsedMs;
    this.asked = null;
    if (this.next !== undefined) this.send(this.next);
    this.draw();
  }

  get last() {
    return Math.max(this.length - 1, 0);
  }

  goTo(index) {
    if (this.length === 0 || !this.isKept) return;
    this.stopPlaying();
    this.seek(index);
  }

  seek(index) {
    this.at = Math.min(Math.max(index, 0), this.last);
    this.send(this.at);
    this.draw();
  }

  follow() {
    this.stopPlaying();
    this.at = null;
    this.asked = null;
    this.send(null);
    this.draw();
  }

  send(at) {
    const isWaiting = this.asked && performance.now() - this.asked.time < PATIENCE_MS;
    this.next = isWaiting ? at : undefined;
    if (isWaiting) return;
    this.asked = at === null ? null : { at, time: performance.now() };
    this.ask(at);
  }

  step(by) {
    this.goTo((this.at ?? this.index ?? this.last) + by);
  }

  /* Hold a live image; play a recorded one, or stop playing. */
  togglePlay() {
    if (this.timer) return this.stop();
    if (this.at === null && this.isLive) return this.hold();
    if (this.isKept) this.play();
    else this.follow();
  }

  hold() {
    this.at = this.index ?? this.last;
    if (this.isKept) this.send(this.at);
    else this.ask(this.at); // and nothing comes
    this.draw();
  }

  play() {
    this.stopPlaying();
    if (this.length < 2) return;
    if ((this.at ?? this.last) >= this.last && !this.isLive) this.seek(0);
    this.timer = setInterval(() => this.tick(), 1000 / Number(element("speed").value));
    this.draw();
  }

  tick() {
    if (this.asked) return; // the frame before is not there yet
    const at = this.at ?? this.last;
    if (at < this.last) this.seek(at + 1);
    else if (this.isLive) this.follow();
    else this.stop();
  }

  stopPlaying() {
    clearInterval(this.timer);
    this.timer = null;
  }

  stop() {
    this.stopPlaying();
    this.draw();
  }

  release() {
    this.isHeld = false;
    this.draw();
  }

  draw() {
    const { slider } = this;
    const max = String(this.last);
    if (!this.isHeld) {
      // Under a held thumb the scale must not move.
      if (slider.max !== max) slider.max = max;
      const value = String(this.at ?? this.index ?? this.last);
      if (slider.value !== value) slider.value = value;
    }
    slider.disabled = this.length < 2 || !this.isKept;
    for (const id of ["back", "forth"]) element(id).disabled = slider.disabled;
    press(element("live"), this.at === null);
    press(element("play"), Boolean(this.timer));
    say(element("play"), this.timer ? "Stop" : this.at === null && this.isLive ? "Hold" : "Play");
    say(element("place"), this.words());
  }

  words() {
    if (this.length === 0) return NOTHING;
    const index = this.at ?? this.index ?? this.last;
    const time = index === this.index ? elapsed(this.elapsed) : "";
    return `${index} of 0–${this.last}${time && ` · ${time}`}`;
  }
}
