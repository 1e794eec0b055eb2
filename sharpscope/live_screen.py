"""Live enhancement as a source of the viewer: the newest frames from memory, earlier ones from the recording.

Owns the way from the signals of `acquisition.live` to `inference.viewer.screen`, and the words for the state
of the whole. Knows no page. What is done here is done in the listeners' thread and takes no time: a page
never slows the camera.
"""

from collections import Counter
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from acquisition.live import LiveEnhancer, LiveFrame, LiveState
from acquisition.worker_routes import Routes
from inference.client import ClientState
from inference.viewer.recording_source import RecordingSource
from inference.viewer.screen import Screen
from inference.viewer.shown_frame import Plane
from inference.viewer.source import SourceStatus, series_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from psygnal import SignalInstance


__all__ = ["LiveScreen"]

Image = np.ndarray[Any, np.dtype[Any]]

PLACES_KEPT = 256
"""Of frames whose pixels are still to come; the eye gets the newest only."""


class LiveScreen:
    """Follows a `LiveEnhancer` while the context is open.

    Parameters
    ----------
    live
        What is followed.
    title
        Names it for a person.
    """

    def __init__(self, live: LiveEnhancer, title: str) -> None:
        self._live = live
        self._lengths: Counter[str] = Counter()
        self._places: dict[int, int] = {}
        self._models: tuple[str, str] | None = None
        with ExitStack() as undo:
            past = None if live.recording is None else undo.enter_context(RecordingSource(live.recording))
            self.screen = Screen(title, session=live.session, status=self._status, past=past)
            self._undo = undo.pop_all()
        self._connections: list[tuple[SignalInstance, Callable[..., None]]] = [
            (live.recorded, self._place),
            (live.raw, self._raw),
            (live.enhanced, self._enhanced),
            (live.dropped, lambda frame, reason: self.screen.ended(frame.number, f"dropped: {reason}")),
            (live.failed, lambda frame, reason: self.screen.ended(frame.number, f"failed: {reason}")),
            (live.state, lambda *_: self.screen.changed()),
            (live.turned, lambda *_: self.screen.changed()),
        ]
        for signal, slot in self._connections:
            signal.connect(slot)

    def close(self) -> None:
        """Look away."""
        for signal, slot in self._connections:
            signal.disconnect(slot, missing_ok=True)
        self._undo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- in the listeners' thread ------------------------------------------------------------------

    def _place(self, frame: LiveFrame) -> None:
        """Count a frame's place in its series: every frame is recorded, not every one is looked at."""
        name = series_name(frame.facts.channel, frame.facts.position)
        self._places[frame.number] = self._lengths[name]
        self._lengths[name] += 1
        if len(self._places) > PLACES_KEPT:
            del self._places[next(iter(self._places))]

    def _raw(self, image: Image, frame: LiveFrame) -> None:
        self.screen.raw(
            frame.number,
            frame.facts.channel,
            frame.facts.position,
            Plane(image, frame.facts.pixel_size_um),
            elapsed_ms=frame.facts.elapsed_ms,
            full_scale=frame.facts.full_scale,
            captured_ns=frame.captured_ns,
            index=self._places.pop(frame.number, None),
        )

    def _enhanced(self, image: Image, frame: LiveFrame) -> None:
        result = frame.result
        assert result is not None  # an enhanced frame has one
        self._models = (result.model_name, result.model_hash)
        self.screen.enhanced(
            frame.number,
            Plane(image, result.pixel_size_um),
            model_name=result.model_name,
            model_hash=result.model_hash,
            latency_ms=result.latency_ms,
            warnings=result.warnings,
            out_of_domain=result.out_of_domain,
            shows_raw=result.shows_raw,
        )

    # ---- for any thread ----------------------------------------------------------------------------

    def _status(self) -> SourceStatus:
        status = self._live.status()
        name, model_hash = self._models or (None, None)
        away = status.state is LiveState.RUNNING and status.worker is not ClientState.READY
        return SourceStatus(
            live=status.state is not LiveState.CLOSED,
            state=f"worker {status.worker}" if away else str(status.state),
            reason=status.camera_reason
            or (status.worker_reason if status.worker is not ClientState.READY else ""),
            frames_in=status.frames_in,
            recorded=status.recorded,
            enhanced=status.enhanced,
            dropped=status.dropped,
            failed=status.failed,
            waiting=status.waiting,
            missed=status.missed,
            latency_ms_p50=status.latency_ms_p50,
            latency_ms_p99=status.latency_ms_p99,
            camera_fps=status.camera_fps,
            model_name=name,
            model_hash=model_hash,
            worker=_in_words(self._live.workers()),
        )


def _in_words(workers: Routes) -> str:
    """Return the addresses of the workers, each behind its channel where channels have their own."""
    return ", ".join(
        " and ".join(addresses) if channel is None else f"{channel}: {' and '.join(addresses)}"
        for channel, addresses in workers.items()
    )
