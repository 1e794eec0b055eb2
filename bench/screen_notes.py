"""When what happened to a frame on its way from the camera to a page.

Owns the clocks: capture, answer, disk, packing and the server's word that a page drew a frame are on this
process' monotonic clock; the page's own times are differences on its clock. Knows no table.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from acquisition import live
from acquisition.live_status import LiveFrame
from inference.recording import Recorder
from inference.viewer import viewing
from inference.viewer.subscription import Subscription, View

__all__ = ["PAGE_NOTES", "TIMES", "Notes", "noting", "times_of"]

WARM_UP_FRAMES = 10

TIMES = {
    "over_engine": "**capture to drawn, as the server hears, over the engine's time**",
    "page_over_engine": "the same, as the page says",
    "drawn": "capture to drawn",
    "engine": "in the engine",
    "answered": "capture to the worker's answer",
    "told": "capture to the enhanced image on the disk",
    "packed": "capture to the view packed",
    "refresh": "from drawn to the browser's next refresh",
}


PAGE_NOTES = """
window.drawNotes = [];
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) {
  send.call(this, data);
  if (!data.includes('"ack"')) return;
  const drawn = performance.now();
  queueMicrotask(() => {
    const note = { number: sharpscope.last?.number, age_ms: sharpscope.last?.age_ms_at_draw };
    window.drawNotes.push(note);
    requestAnimationFrame(() => (note.refresh_ms = performance.now() - drawn));
  });
};
"""
"""Notes each frame that was drawn, and when the browser was ready to draw the next."""


@dataclass
class Frame:
    """When what happened to an enhanced frame; ms after its capture."""

    captured_ns: int
    engine_ms: float
    answered_ms: float
    told_ms: float


@dataclass
class Notes:
    """What happened in one stretch."""

    frames: dict[int, Frame] = field(default_factory=dict)
    packed_ns: dict[tuple[int, int], int] = field(default_factory=dict)
    """By viewer and frame."""
    drawn_ns: dict[tuple[int, int], int] = field(default_factory=dict)
    skipped: dict[int, int] = field(default_factory=dict)
    put_ms: list[float] = field(default_factory=list)
    stored_ms: list[float] = field(default_factory=list)

    def enhanced(self, _image: np.ndarray, frame: LiveFrame) -> None:
        """Note an enhanced frame; a listener of `LiveEnhancer`."""
        assert frame.result is not None
        told_ms = (time.monotonic_ns() - frame.captured_ns) / 1e6
        result = frame.result
        self.frames[frame.number] = Frame(frame.captured_ns, result.engine_ms, result.latency_ms, told_ms)


class NotingSubscription(Subscription):
    """Notes when an enhanced frame was packed, and when the server heard that it was drawn."""

    notes: ClassVar[Notes]

    def found(self, view: View) -> str | None:
        """As in `Subscription`."""
        self._under_way = view.keys if view.message is not None else ()
        for _, _, number, _, enhanced, *_ in self._under_way:
            if enhanced:
                self.notes.packed_ns.setdefault((id(self), int(str(number))), time.monotonic_ns())
        return super().found(view)

    def acknowledge(self, view_id: int) -> None:
        """As in `Subscription`."""
        super().acknowledge(view_id)
        for _, _, number, _, enhanced, *_ in self._under_way:
            if enhanced:
                self.notes.drawn_ns.setdefault((id(self), int(str(number))), time.monotonic_ns())
        self.notes.skipped[id(self)] = self.skipped


class NotingRecorder(Recorder):
    """Notes how long the camera was held up, and how long until a frame was on the disk."""

    notes: ClassVar[Notes]

    def put(self, image: Any, facts: Any, done: Any, *, owned: bool = False) -> int:  # noqa: ANN401 - as Recorder
        """As in `Recorder`."""
        notes, began_ns = self.notes, time.monotonic_ns()

        def stored(number: int, reason: str | None) -> None:
            notes.stored_ms.append((time.monotonic_ns() - began_ns) / 1e6)
            done(number, reason)

        number = super().put(image, facts, stored, owned=owned)
        notes.put_ms.append((time.monotonic_ns() - began_ns) / 1e6)
        return number


@contextmanager
def noting() -> Iterator[Notes]:
    """Have recorder and viewer note what they do."""
    notes = NotingSubscription.notes = NotingRecorder.notes = Notes()
    viewing.Subscription, live.Recorder = NotingSubscription, NotingRecorder
    try:
        yield notes
    finally:
        viewing.Subscription, live.Recorder = Subscription, Recorder


def times_of(notes: Notes, said: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Return the times of what was drawn, from the capture on; of the frames after the warming up."""
    times: dict[str, list[float]] = {name: [] for name in TIMES}
    for (viewer, number), drawn_ns in notes.drawn_ns.items():
        if number < WARM_UP_FRAMES:
            continue
        frame = notes.frames[number]
        drawn_ms = (drawn_ns - frame.captured_ns) / 1e6
        times["drawn"].append(drawn_ms)
        times["over_engine"].append(drawn_ms - frame.engine_ms)
        times["engine"].append(frame.engine_ms)
        times["answered"].append(frame.answered_ms)
        times["told"].append(frame.told_ms)
        times["packed"].append((notes.packed_ns[viewer, number] - frame.captured_ns) / 1e6)
    for note in said:
        frame_said = notes.frames.get(note["number"] or 0)
        if frame_said is None or note["number"] < WARM_UP_FRAMES:
            continue
        times["page_over_engine"].append(note["age_ms"] - frame_said.engine_ms)
        if "refresh_ms" in note:
            times["refresh"].append(note["refresh_ms"])
    return times
