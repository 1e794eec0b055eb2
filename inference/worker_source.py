"""A running worker as a source of frames: whatever passes through it, the newest of each channel.

Owns the newest frame of each series and the worker's counters, as `inference.watcher` hears them. Earlier
frames are not here: whoever records them has them. Knows no page.
"""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from inference.messages import Enhanced, Watched
from inference.viewer.listeners import Listeners
from inference.viewer.shown_frame import Plane, ShownFrame
from inference.viewer.source import Series, SourceStatus, series_name
from inference.watcher import WatchedFrame, Watcher, WatcherState

__all__ = ["WorkerSource"]


class WorkerSource:
    """The frames of a worker's clients; a context manager. Thread-safe.

    Parameters
    ----------
    address
        Of the worker; without `keys` only loopback. It need not be there.
    keys
        The client's key folder, for a worker beyond this machine.

    Raises
    ------
    WrongInputError
        When the address or the keys cannot be used.
    """

    def __init__(self, address: str, keys: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._newest: dict[str, ShownFrame] = {}
        self._status = SourceStatus(
            live=True, state="worker lost", reason="nobody has answered yet", worker=address
        )
        self._listeners = Listeners()
        self._watcher = Watcher(address, self._take, self._become, keys)

    @property
    def title(self) -> str:
        """Name it for a person."""
        return f"worker at {self._watcher.address}"

    def series(self) -> tuple[Series, ...]:
        """Return the channels that have passed."""
        with self._lock:
            newest = dict(self._newest)
        return tuple(
            Series(name, frame.channel, None, frame.index + 1, kept=False) for name, frame in newest.items()
        )

    def newest(self, series: str) -> ShownFrame | None:
        """Return the frame of a channel that was answered last."""
        with self._lock:
            return self._newest.get(series)

    def at(self, series: str, index: int) -> ShownFrame:
        """Return a frame of a channel; raises IndexError for any but the newest."""
        frame = self.newest(series)
        if frame is None or frame.index != index:
            msg = f"frame {index} of '{series}' is not kept: a worker records nothing"
            raise IndexError(msg)
        return frame

    def status(self) -> SourceStatus:
        """Return the worker's counters."""
        with self._lock:
            return self._status

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Have a function called at each change."""
        return self._listeners.subscribe(changed)

    def close(self) -> None:
        """Look away."""
        self._watcher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- in the watcher's thread -------------------------------------------------------------------

    def _take(self, watched: WatchedFrame) -> None:
        name = series_name(watched.told.frame.channel, None)
        with self._lock:
            before = self._newest.get(name)
            self._newest[name] = _shown(watched, 0 if before is None else before.index + 1)
            self._status = _counted(self._status, watched.told)
        self._listeners.call()

    def _become(self, state: WatcherState) -> None:
        models = " and ".join(model.name for model in state.models) or None
        with self._lock:
            self._status = replace(
                self._status,
                state="running" if state.ready else "worker lost",
                reason=state.reason,
                model_name=models,
                model_hash=state.models[0].model_hash if len(state.models) == 1 else None,
            )
        self._listeners.call()


def _shown(watched: WatchedFrame, index: int) -> ShownFrame:
    frame, answer = watched.told.frame, watched.told.answer
    shown = ShownFrame(
        number=frame.sequence,
        index=index,
        session=frame.session,
        raw=Plane(watched.raw, frame.pixel_size_um),
        channel=frame.channel,
    )
    if not isinstance(answer, Enhanced) or watched.enhanced is None:
        return replace(shown, reason=f"failed: {getattr(answer, 'reason', 'no pixels came')}")
    return replace(
        shown,
        enhanced=Plane(watched.enhanced, answer.pixel_size_um),
        model_name=answer.model_name,
        model_hash=answer.model_hash,
        warnings=answer.warnings,
        out_of_domain=answer.out_of_domain,
        shows_raw=answer.shows_raw,
        latency_ms=(answer.finished_ns - answer.received_ns) / 1e6,
    )


def _counted(status: SourceStatus, told: Watched) -> SourceStatus:
    return replace(
        status,
        frames_in=told.received,
        enhanced=told.enhanced,
        dropped=told.dropped,
        failed=told.failed,
        waiting=told.waiting,
    )
