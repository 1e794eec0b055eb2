"""How a frame is handed in for enhancement, whether to one worker or to many.

Owns the surface that `inference.client.WorkerClient` and `inference.fleet.WorkerFleet` have in common, the
numbering of frames, and what is told of a frame that cannot be sent. Knows no sockets and no workers.
"""

import threading
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Literal, Self, cast

import numpy as np
from pydantic import ValidationError

from configs.document import WrongInputError
from inference.connection import ClientStatus
from inference.frame_memory import Held
from inference.ledger import Pending
from inference.messages import Delivery, Frame, PixelType, StreamPhotometry

__all__ = ["FrameIntake"]

Image = np.ndarray[Any, np.dtype[Any]]


class FrameIntake(ABC):
    """Takes frames for enhancement; each ends exactly once, as enhanced, dropped or failed. Thread-safe.

    Parameters
    ----------
    session
        Names the frames.
    """

    def __init__(self, session: str) -> None:
        self.session = session
        self._sequence_lock = threading.Lock()
        self._next_sequence = 0

    def submit(
        self,
        image: Image,
        *,
        sequence: int | None = None,
        delivery: Delivery | Literal["record", "preview"] = Delivery.RECORD,
        pixel_size_um: float | None = None,
        numerical_aperture: float | None = None,
        channel: str | None = None,
        allow_out_of_domain: bool = False,
        model: str | None = None,
        photometry: StreamPhotometry | None = None,
        captured_ns: int | None = None,
        deadline_ms: float | None = None,
        timeout_s: float | None = None,
        owned: bool = False,
    ) -> int:
        """Hand in a frame; the pixels are copied, unless they are given away.

        Parameters
        ----------
        image
            (Y, X) uint8, uint16 or float32.
        sequence
            The frame's number; counted up when not given.
        pixel_size_um, numerical_aperture, channel
            What is known of the frame; the model's guards compare it with the training's.
        delivery
            A record frame waits for room; a preview frame never does.
        model
            Name of the worker's model; without it the worker takes the one for the channel.
        photometry
            Of the stream, where it is known from before; else that of the stream's first answer is used.
        captured_ns
            When the frame was taken, by `time.monotonic_ns`; latency counts from there.
        deadline_ms
            How long it may wait in the worker for the engine; later it ends as failed. None is without limit.
        timeout_s
            How long a record frame waits for room; None waits on.
        owned
            The caller gives the image away and never changes it.

        Returns
        -------
        int
            The sequence number.

        Raises
        ------
        WorkerBusyError
            When there was no room in time. The frame was not submitted.
        WrongInputError
            When the frame cannot be sent (shape, dtype) or the client is closed. It was not submitted.
        """
        now_ns = time.monotonic_ns()
        try:
            frame = Frame(
                session=self.session,
                sequence=self._take_sequence(sequence),
                shape_yx=image.shape,
                dtype=cast("PixelType", image.dtype.name),  # checked by the model
                pixel_size_um=pixel_size_um,
                numerical_aperture=numerical_aperture,
                channel=channel,
                captured_ns=now_ns if captured_ns is None else captured_ns,
                sent_ns=now_ns,
                delivery=Delivery(delivery),
                allow_out_of_domain=allow_out_of_domain,
                model=model,
                photometry=photometry,
                deadline_ms=deadline_ms,
            )
        except ValidationError as error:
            raise WrongInputError(_unfit(image, error)) from error
        held = Held(np.ascontiguousarray(image)) if owned else self.hold(image)
        self.enter(Pending(frame, held), timeout_s)
        return frame.sequence

    def _take_sequence(self, given: int | None) -> int:
        with self._sequence_lock:
            sequence = self._next_sequence if given is None else given
            self._next_sequence = max(self._next_sequence, sequence + 1)
            return sequence

    def hold(self, image: Image) -> Held:
        """Return an own copy of a (Y, X) frame."""
        return Held(np.array(image, order="C", copy=True))

    @abstractmethod
    def enter(self, pending: Pending, timeout_s: float | None) -> None:
        """Take on a frame whose pixels nobody else changes; else as `submit`."""

    @abstractmethod
    def status(self) -> ClientStatus:
        """Return a snapshot."""

    @abstractmethod
    def wait_ready(self, timeout_s: float | None = None) -> bool:
        """Wait until a worker answers; false when none did in time."""

    @abstractmethod
    def drain(self, timeout_s: float | None = None) -> bool:
        """Wait until every frame has its answer; false when one has not in time."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection; what has no answer yet ends as failed."""

    def unanswered(self) -> tuple[int, ...]:
        """Return the sequence numbers of the frames that have no answer."""
        return self.status().unanswered

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _unfit(image: Image, error: ValidationError) -> str:
    """Say in one line why a frame cannot be sent."""
    if image.ndim != 2:
        return f"an image of shape (Y, X) is needed, got shape {image.shape}; send one plane at a time"
    first = error.errors(include_url=False)[0]
    if first["loc"] and first["loc"][0] == "dtype":
        return f"pixels of type {image.dtype} cannot be sent; set the camera to 8 or 16 bit, or use float32"
    return f"the frame cannot be sent: key '{first['loc'][-1]}': {first['msg']}; got {first['input']!r}"
