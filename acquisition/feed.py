"""From recorded frames to the workers and back: the part of live enhancement that may be slow.

Owns which lane a frame takes (`acquisition.feed_lane`: one for all channels, or one for each that has workers
of its own), the thread in which listeners are called, and that what comes back is on the disk before it is
told. `offer` never waits, so the camera never waits for a worker or a listener. Knows no microscope.
"""

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from acquisition.feed_lane import FeedLane, FeedRules
from acquisition.listener_thread import ListenerThread
from acquisition.live_status import LiveFrame
from acquisition.worker_routes import Routes
from configs.document import WrongInputError
from inference.client import ClientState, DroppedFrame, EnhancedFrame, FailedFrame, FrameId, Outcome
from inference.recording import Recorder, UnenhancedLine

__all__ = ["Feed"]

Image = np.ndarray[Any, np.dtype[Any]]
Settled = Callable[[LiveFrame, Outcome], None]


class Feed:
    """The workers of a session with what stands before and behind them.

    Parameters
    ----------
    routes
        Addresses of the workers of each channel; nobody need be there.
    rules
        How frames are sent.
    session
        Of the frames.
    recorder
        Where raw frames are read back from and enhanced ones are written to.
    settled
        Called once for each frame with how it ended, in the listeners' thread; it may be slow.
    state
        Called with the state of the connections, in the same thread.
    """

    def __init__(
        self,
        routes: Routes,
        rules: FeedRules,
        *,
        session: str,
        recorder: Recorder | None,
        settled: Settled,
        state: Callable[[ClientState, str], None],
    ) -> None:
        self._rules = rules
        self._session = session
        self._recorder = recorder
        self._settled = settled
        self._state = state
        self._states: dict[str | None, tuple[ClientState, str]] = {}  # the listeners' thread's alone
        self._changed = threading.Condition()  # guards the next four
        self._frames: dict[int, tuple[LiveFrame, FeedLane | None]] = {}
        self._lanes: dict[str | None, FeedLane] = {}
        self._paused = False
        self._closed = False
        self._listeners = ListenerThread()
        for channel, workers in routes.items():
            self._lanes[channel] = self._lane(channel, workers)

    def _lane(self, channel: str | None, workers: tuple[str, ...]) -> FeedLane:
        # Two connections of one name would push each other out of a worker's door.
        name = self._session if channel is None else f"{self._session[:48]}.{len(self._lanes)}"
        return FeedLane(
            workers,
            self._rules,
            session=self._session,
            connection=name,
            fetch=None if self._recorder is None else self._recorder.read,
            ended=self._post_outcome,
            state=lambda state, why: self._listeners.post(partial(self._tell_state, channel, state, why)),
        )

    # ---- for any thread; none of these waits -------------------------------------------------------

    def offer(self, frame: LiveFrame, image: Image) -> None:
        """Give a frame to its workers in its turn; the image is not changed any more by anybody."""
        with self._changed:
            lane = self._lanes.get(None) or self._lanes.get(frame.facts.channel)
            self._frames[frame.number] = (frame, lane)
        if lane is not None:
            lane.offer(frame, image)
            return
        reason = f"no worker is named for the channel '{frame.facts.channel}'"
        self._post_outcome(FailedFrame(FrameId(self._session, frame.number), reason), False)

    def refuse(self, frame: LiveFrame, reason: str) -> None:
        """Let a frame end as failed that is not to be offered."""
        with self._changed:
            self._frames[frame.number] = (frame, None)
        outcome = FailedFrame(FrameId(self._session, frame.number), reason)
        self._listeners.post(lambda: self._end(outcome, None, held_place=False))

    def post(self, news: Callable[[], None]) -> None:
        """Have something told in the listeners' thread, in its turn."""
        self._listeners.post(news)

    def show(self, frame: LiveFrame, show: Callable[[], None]) -> None:
        """Have a picture told, unless a newer one of its channel and position comes before its turn does."""
        self._listeners.post_newest((frame.facts.channel, frame.facts.position), show)

    def pause(self, paused: bool) -> None:
        """Send nothing more, or go on."""
        with self._changed:
            self._paused = paused
            for lane in self._lanes.values():
                lane.pause(paused)

    def status(self) -> tuple[ClientState, str]:
        """Return the state of the connections, and why it is so."""
        with self._changed:
            now = {channel: lane.status() for channel, lane in self._lanes.items()}
        return _joint({channel: (status.state, status.reason) for channel, status in now.items()})

    def progresses(self) -> bool:
        """Return whether a lane with frames on their way has a worker that answers."""
        with self._changed:
            lanes = {lane for _, lane in self._frames.values() if lane is not None}
        return any(lane.status().state is ClientState.READY for lane in lanes)

    def workers(self) -> Routes:
        """Return the addresses by channel, as they are now."""
        with self._changed:
            return {channel: lane.workers() for channel, lane in self._lanes.items()}

    # ---- these may wait ----------------------------------------------------------------------------

    def repoint(self, routes: Routes) -> None:
        """Send to other workers from now on; what the old ones have not answered goes to the new ones.

        Parameters
        ----------
        routes
            Of all channels, or of some that have workers of their own; the others keep theirs.

        Raises
        ------
        WrongInputError
            When a channel is named and enhancement began with one choice for all.
        """
        with self._changed:
            lanes = dict(self._lanes)
            if self._closed:
                raise WrongInputError("live enhancement is closed; start another one")
        if None in lanes and None not in routes:
            msg = "all channels share their workers here; give an address without a channel, or start anew"
            raise WrongInputError(msg)
        for channel, workers in routes.items():
            if channel is not None and channel not in lanes:
                with self._changed:
                    if not self._closed:
                        self._lanes[channel] = self._lane(channel, workers)
                        self._lanes[channel].pause(self._paused)
                continue
            for lane in lanes.values() if channel is None else [lanes[channel]]:
                lane.repoint(workers)

    def wait_ready(self, timeout_s: float | None = None) -> bool:
        """Wait until a worker of every lane answers; false when one did not in time, of all together."""
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        ready = [
            lane.wait_ready(None if until_s is None else max(0.0, until_s - time.monotonic()))
            for lane in self._all_lanes()
        ]
        return all(ready)

    def close(self) -> None:
        """Let every frame end: what the workers have not answered fails. Returns when all were told."""
        with self._changed:
            self._closed = True  # from now on there is no other lane
        for lane in self._all_lanes():
            lane.close()
        with self._changed:
            self._changed.wait_for(lambda: not self._frames)
        self._listeners.finish()

    def _all_lanes(self) -> tuple[FeedLane, ...]:
        with self._changed:
            return tuple(self._lanes.values())

    # ---- the listeners' thread ---------------------------------------------------------------------

    def _post_outcome(self, outcome: Outcome, held_place: bool) -> None:
        self._listeners.post(lambda: self._arrived(outcome, held_place=held_place))

    def _tell_state(self, channel: str | None, state: ClientState, reason: str) -> None:
        self._states[channel] = (state, reason)
        self._state(*_joint(self._states))

    def _arrived(self, outcome: Outcome, *, held_place: bool) -> None:
        """Bring an outcome to the disk, then tell it."""
        tell = partial(self._end, outcome, held_place=held_place)

        def written(_frame: int, reason: str | None) -> None:
            self._listeners.post(lambda: tell(reason))

        number = outcome.source.sequence
        match outcome:
            case EnhancedFrame() if self._recorder is not None:
                self._recorder.put_enhanced(outcome, written)
            case DroppedFrame() if self._recorder is not None:
                reason = f"superseded by frame {outcome.superseded_by}"
                line = UnenhancedLine(frame=number, outcome="dropped", reason=reason)
                self._recorder.put_unenhanced(line, written)
            case FailedFrame(code=code) if self._recorder is not None and code is not None:
                line = UnenhancedLine(frame=number, outcome="failed", reason=outcome.reason)
                self._recorder.put_unenhanced(line, written)
            case _:  # without an answer the journal says enough: it names no enhanced image
                tell(None)

    def _end(self, outcome: Outcome, reason: str | None, *, held_place: bool) -> None:
        with self._changed:
            frame, lane = self._frames[outcome.source.sequence]
        if reason is not None and isinstance(outcome, EnhancedFrame):
            outcome = FailedFrame(outcome.source, f"enhanced, but not recorded: {reason}")
        try:
            self._settled(frame, outcome)
        finally:
            if held_place and lane is not None:
                lane.release()
            with self._changed:
                del self._frames[frame.number]
                self._changed.notify_all()


_WORST_FIRST = (ClientState.LOST, ClientState.CONNECTING, ClientState.CLOSED, ClientState.READY)


def _joint(states: Mapping[str | None, tuple[ClientState, str]]) -> tuple[ClientState, str]:
    """Return the state of several connections together: the worst, with the reasons of all."""
    if None in states:
        return states[None]
    worst = min((state for state, _ in states.values()), key=_WORST_FIRST.index)
    return worst, "; ".join(f"{channel}: {reason}" for channel, (_, reason) in states.items())
