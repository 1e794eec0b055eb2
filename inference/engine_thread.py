"""The worker's engine thread: takes frames out of the waiting room, enhances them, posts the answers.

An engine may have several frames under way; answers keep the order in which they were begun. Owns the choice
of the model, the photometry of each stream (decided by its first frame) and the rule that a frame's failure
never ends the thread. Knows no sockets and no torch: engines are handed in, answers go to `post`.
"""

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from inference.engine_like import EngineLike, EnhancedLike, ModelLike
from inference.messages import Enhanced, Failed, FailureCode, Frame, StreamPhotometry
from inference.preprocess import Photometry
from inference.waiting import Job, WaitingRoom, late

__all__ = ["EngineThread", "NoModelError", "choose_engine"]

Image = np.ndarray[Any, np.dtype[Any]]
Answer = Callable[[Job, Enhanced | Failed, Image | None], None]

logger = logging.getLogger(__name__)
Model = TypeVar("Model", bound=ModelLike)

MOST_STREAMS = 1024
"""Streams whose photometry is remembered; the one unused for longest is forgotten first."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """A frame in an engine."""

    job: Job
    engine: EngineLike
    started_ns: int
    wait: Callable[[], EnhancedLike]
    most: int
    """Frames that may be under way from now on."""


class EngineThread(threading.Thread):
    """Works through the waiting room until it is closed.

    Parameters
    ----------
    engines
        The loaded models, at least one.
    room
        Where the frames wait.
    post
        Called in this thread with each job, its answer and, when enhanced, the image.
    """

    def __init__(self, engines: Sequence[EngineLike], room: WaitingRoom, post: Answer) -> None:
        # A daemon: an inference that never returns must not keep the interpreter from ending.
        super().__init__(name="sharpscope-engine", daemon=True)
        self._engines = tuple(engines)
        self._room = room
        self._post = post
        self._photometry: OrderedDict[tuple[object, ...], Photometry] = OrderedDict()
        self._busy_since: float | None = None

    def busy_s(self) -> float:
        """Return how long the engine has been at its present frame; 0 when it waits."""
        since = self._busy_since
        return 0.0 if since is None else max(0.0, time.monotonic() - since)

    def swap(self, old: EngineLike, new: EngineLike) -> tuple[EngineLike, ...]:
        """Let a model take another's place from the next frame on; returns the models of now.

        A frame that is under way is finished by the old one, and says so.
        """
        self._engines = tuple(new if engine is old else engine for engine in self._engines)
        return self._engines

    def run(self) -> None:
        """Work until the room is closed; what is under way then is still answered."""
        under_way: deque[_Begun] = deque()
        while True:
            job = self._room.take(wait=not under_way)
            if job is not None:
                self._busy_since = self._busy_since or time.monotonic()
                under_way.append(self._begin(job))
            if not under_way:
                return
            if job is None:
                self._post_oldest(under_way)
                continue
            while under_way and len(under_way) >= under_way[-1].most:
                self._post_oldest(under_way)

    def _post_oldest(self, under_way: "deque[_Begun]") -> None:
        """Wait for the frame that was begun first, and answer it."""
        oldest = under_way.popleft()
        header, image = self._answer(oldest)
        self._busy_since = time.monotonic() if under_way else None
        self._post(oldest.job, header, image)

    def _begin(self, job: Job) -> _Begun:
        """Begin with a frame; what goes wrong is told when it is waited for: answers keep their order."""
        frame, started_ns = job.frame, time.monotonic_ns()
        try:
            if job.deadline_ns is not None and started_ns > job.deadline_ns:
                raise DeadlineError
            engine = choose_engine(self._engines, frame)
            known = self._stream_photometry(frame, engine)
            wait = engine.begin(
                job.image,
                pixel_size_um=frame.pixel_size_um,
                numerical_aperture=frame.numerical_aperture,
                channel=frame.channel,
                allow_out_of_domain=frame.allow_out_of_domain,
                photometry=known,
                out=_room_for_answer(job, engine.factor),
            )
        except Exception as error:  # the next frame may be fine, whatever is wrong with this one
            return _Begun(job, self._engines[0], started_ns, _raising(error), most=1)
        # The first frame of a stream decides the light of the next: nothing is begun before it is known.
        return _Begun(job, engine, started_ns, wait, most=1 if known is None else engine.under_way)

    def _answer(self, begun: _Begun) -> tuple[Enhanced | Failed, Image | None]:
        frame = begun.job.frame
        try:
            return self._enhanced(begun)
        except Exception as error:  # as above
            reasons: tuple[str, ...] = getattr(error, "reasons", ())
            if reasons:
                return _failed(frame, FailureCode.OUT_OF_DOMAIN, str(error)), None
            if isinstance(error, NoModelError):
                return _failed(frame, FailureCode.NO_MODEL, str(error)), None
            if isinstance(error, DeadlineError):
                return late(begun.job), None
            known = {"session": frame.session, "sequence": frame.sequence}
            logger.exception("frame %s of session %s failed", frame.sequence, frame.session, extra=known)
            reason = f"{type(error).__name__}: {error}"
            return _failed(frame, FailureCode.ENGINE_ERROR, reason), None

    def _enhanced(self, begun: _Begun) -> tuple[Enhanced, Image]:
        frame, engine = begun.job.frame, begun.engine
        result = begun.wait()
        if not result.shows_raw:  # a light that was found from no numbers is none
            self._remember(frame, engine, result.photometry)
        image = np.ascontiguousarray(result.image, dtype=np.float32)  # (factor Y, factor X)
        in_shared = begun.job.answer is not None and np.may_share_memory(image, begun.job.answer)
        header = Enhanced(
            session=frame.session,
            sequence=frame.sequence,
            shape_yx=(image.shape[0], image.shape[1]),
            pixel_size_um=result.pixel_size_um,
            channel=frame.channel,
            delivery=frame.delivery,
            model_name=engine.name[:200],
            model_hash=engine.model_hash,
            out_of_domain=tuple(reason[:2000] for reason in result.out_of_domain),
            warnings=tuple(words[:2000] for words in result.warnings),
            shows_raw=result.shows_raw,
            photometry=StreamPhotometry.of(result.photometry, engine.model_hash),
            received_ns=begun.job.received_ns,
            started_ns=begun.started_ns,
            finished_ns=time.monotonic_ns(),
            in_shared=in_shared,
        )
        return header, image

    def _stream_photometry(self, frame: Frame, engine: EngineLike) -> Photometry | None:
        """Return the photometry of the frame's stream; None makes this frame the first."""
        given = frame.photometry
        if given is not None and given.model_hash == engine.model_hash:
            return given.photometry()
        return self._photometry.get(_stream_of(frame, engine))

    def _remember(self, frame: Frame, engine: EngineLike, photometry: Photometry) -> None:
        key = _stream_of(frame, engine)
        self._photometry[key] = photometry
        self._photometry.move_to_end(key)
        if len(self._photometry) > MOST_STREAMS:
            self._photometry.popitem(last=False)


class DeadlineError(TimeoutError):
    """A frame's deadline passed just as the engine took it."""


class NoModelError(ValueError):
    """No loaded model is meant for the frame. The message names those that are loaded."""


def choose_engine(engines: Sequence[Model], frame: Frame) -> Model:
    """Return the model that the frame names, or the one for its channel, or the only one.

    A single model is offered every frame: whether it fits is for its own guards to say.
    """
    loaded = ", ".join(f"'{engine.name}' ({engine.channel or 'any channel'})" for engine in engines)
    if frame.model is not None:
        for engine in engines:
            if frame.model in (engine.name, engine.model_hash):
                return engine
        msg = f"no model '{frame.model}' is loaded; loaded are {loaded}"
        raise NoModelError(msg)
    for channel in (frame.channel, None):
        for engine in engines:
            if engine.channel == channel:
                return engine
    if len(engines) == 1:
        return engines[0]
    msg = f"no model for channel '{frame.channel}' is loaded; loaded are {loaded}"
    raise NoModelError(msg)


def _room_for_answer(job: Job, factor: int) -> Image | None:
    """Return where the client wants the enhanced image put, (factor * Y, factor * X) float32, if it fits."""
    height, width = job.image.shape
    shape_yx = (factor * height, factor * width)
    if job.answer is None or job.answer.nbytes != 4 * shape_yx[0] * shape_yx[1]:
        return None
    return np.frombuffer(job.answer, dtype="<f4").reshape(shape_yx)


def _stream_of(frame: Frame, engine: EngineLike) -> tuple[object, ...]:
    return (frame.session, frame.channel, frame.pixel_size_um, engine.model_hash)


def _raising(error: Exception) -> Callable[[], EnhancedLike]:
    def wait() -> EnhancedLike:
        raise error

    return wait


def _failed(frame: Frame, code: FailureCode, reason: str) -> Failed:
    return Failed(session=frame.session, sequence=frame.sequence, code=code, reason=reason[:2000])
