"""The words of contract 4: every message between client and worker, as a strict model.

Owns the header of each message and the bounds of its fields; `inference.protocol` turns headers and pixels
into bytes and back. Requests go from client to worker, replies back; `docs/protocol.md` is written from
these models. Knows no bytes, no sockets and no engine.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from inference.preprocess import Photometry
from inference.shared_file import ALIGNMENT, NAME_PATTERN

__all__ = [
    "Bye",
    "Delivery",
    "Dropped",
    "Enhanced",
    "ErrorCode",
    "ErrorReply",
    "Failed",
    "FailureCode",
    "Frame",
    "Hello",
    "Info",
    "ModelInfo",
    "Ping",
    "PixelType",
    "Progress",
    "Sequence64",
    "Session",
    "Share",
    "Shared",
    "SharedPlace",
    "StreamPhotometry",
    "Watch",
    "Watched",
]

PixelType = Literal["uint8", "uint16", "float32"]
Session = Annotated[str, Field(pattern=r"^[0-9A-Za-z_.\-]{1,64}$")]
Sequence64 = Annotated[int, Field(ge=0, lt=2**53)]
"""A frame's number in its session; below 2**53, so that any language's JSON keeps it."""
Side = Annotated[int, Field(ge=1, le=2**17)]
Name = Annotated[str, Field(max_length=200)]
Text = Annotated[str, Field(max_length=2000)]
MonotonicNs = Annotated[int, Field(ge=0, lt=2**63)]
"""Nanoseconds of the sender's own monotonic clock: only differences have a meaning."""


FileName = Annotated[str, Field(pattern=NAME_PATTERN)]
Bytes = Annotated[int, Field(ge=0, lt=2**53)]
Offset = Annotated[int, Field(ge=0, lt=2**53, multiple_of=ALIGNMENT)]


class Delivery(StrEnum):
    """How a frame may be treated when the worker cannot hold the rate."""

    RECORD = "record"
    """Every frame, in order, by back-pressure; never dropped."""
    PREVIEW = "preview"
    """The newest frame wins; what it supersedes is answered by Dropped."""


class FailureCode(StrEnum):
    """Why a well-formed frame was not enhanced."""

    OUT_OF_DOMAIN = "out_of_domain"
    NO_MODEL = "no_model"
    ENGINE_ERROR = "engine_error"
    SHUTTING_DOWN = "shutting_down"
    """Not the frame's fault: send it to the next worker."""
    DEADLINE = "deadline"
    """It still waited when its `deadline_ms` was over."""


class ErrorCode(StrEnum):
    """Why a message was not understood or not accepted."""

    WRONG_PART_COUNT = "wrong_part_count"
    HEADER_TOO_LARGE = "header_too_large"
    BAD_HEADER = "bad_header"
    UNSUPPORTED_VERSION = "unsupported_version"
    WRONG_DTYPE = "wrong_dtype"
    TOO_LARGE = "too_large"
    WRONG_SIZE = "wrong_size"
    NO_SUCH_MEMORY = "no_such_memory"
    """Pixels are said to stand where the worker sees none."""
    UNKNOWN_CLIENT = "unknown_client"
    """Say Hello first; a restarted worker knows nobody."""
    TOO_MANY_CLIENTS = "too_many_clients"
    OVER_CREDIT = "over_credit"


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    version: Literal[1] = 1


class StreamPhotometry(BaseModel):
    """The photometry that a model chose for the first frame of a stream; it holds for the whole stream."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    model_hash: Name
    background: float
    scale: float
    flux_gain: float = 1.0

    @classmethod
    def of(cls, photometry: Photometry, model_hash: str) -> "StreamPhotometry":
        """Write down a photometry with the model that it belongs to."""
        return cls(
            model_hash=model_hash,
            background=photometry.background,
            scale=photometry.scale,
            flux_gain=photometry.flux_gain,
        )

    def photometry(self) -> Photometry:
        """Return the same numbers as preprocessing takes them."""
        return Photometry(self.background, self.scale, self.flux_gain)


class Hello(_Header):
    """A client introduces itself; its earlier connections of the same session are forgotten."""

    kind: Literal["hello"] = "hello"
    session: Session


class Ping(_Header):
    """A client asks for a sign of life."""

    kind: Literal["ping"] = "ping"


class Bye(_Header):
    """A client leaves; what it still has waiting is not worked on."""

    kind: Literal["bye"] = "bye"


class Watch(_Header):
    """A client that looks on asks for a frame that it has not seen, whoever sent it: a channel's newest."""

    kind: Literal["watch"] = "watch"


class Share(_Header):
    """A client on the same machine offers memory for pixels, instead of the socket; answered by Shared."""

    kind: Literal["share"] = "share"
    file: FileName
    bytes: Annotated[int, Field(gt=0, lt=2**53)]


class SharedPlace(BaseModel):
    """Where the pixels of a frame stand in shared memory, and where those of its answer may be put."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    file: FileName
    offset: Offset
    answer_offset: Offset
    answer_bytes: Bytes
    """0 where there is no room for the answer: it goes over the socket."""


class Frame(_Header):
    """A raw frame to be enhanced; the pixels follow, or stand in shared memory."""

    kind: Literal["frame"] = "frame"
    session: Session
    sequence: Sequence64
    shape_yx: tuple[Side, Side]
    dtype: PixelType
    pixel_size_um: Annotated[float, Field(gt=0)] | None = None
    numerical_aperture: Annotated[float, Field(gt=0, lt=2)] | None = None
    channel: Name | None = None
    captured_ns: MonotonicNs
    sent_ns: MonotonicNs
    delivery: Delivery
    allow_out_of_domain: bool = False
    model: Name | None = None
    """Name of a loaded model; without it the worker takes the one for the channel."""
    photometry: StreamPhotometry | None = None
    """That of the stream so far, where the client knows it (a restarted worker does not)."""
    shared: SharedPlace | None = None
    """In a file of which the worker has said that it sees it. Nobody writes there before the answer."""
    deadline_ms: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """From the worker's reception of the frame: one that still waits then is answered as failed."""


class ModelInfo(BaseModel):
    """A model that the worker has loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Name
    model_hash: Name
    factor: Annotated[int, Field(ge=1, le=64)]
    channel: Name | None


class Progress(_Header):
    """A sign of life, with how long the engine has been at its present frame."""

    kind: Literal["progress"] = "progress"
    worker: Session
    """Drawn anew by each start of a worker, so that a restart is noticed."""
    answered: int
    waiting: int
    busy_s: float


class Info(_Header):
    """The answer to Hello: who the worker is and what it grants."""

    kind: Literal["info"] = "info"
    worker: Session
    models: tuple[ModelInfo, ...]
    record_credit: Annotated[int, Field(ge=1)]
    """Record frames that the client may have unanswered."""
    most_pixel_bytes: int
    busy_s: float


class Shared(_Header):
    """Whether the worker sees the memory that a client offered."""

    kind: Literal["shared"] = "shared"
    file: FileName
    accepted: bool
    reason: Text


class Enhanced(_Header):
    """An enhanced frame; the pixels follow, in the raw frame's counts, unless they were put in the memory."""

    kind: Literal["enhanced"] = "enhanced"
    session: Session
    sequence: Sequence64
    """With the session: the id of the raw frame."""
    shape_yx: tuple[Side, Side]
    dtype: Literal["float32"] = "float32"
    pixel_size_um: float | None
    channel: Name | None
    delivery: Delivery
    model_name: Name
    model_hash: Name
    out_of_domain: tuple[Text, ...]
    """Flags: why the model should not have been applied; empty inside its domain."""
    warnings: tuple[Text, ...] = ()
    """Flags: what no training frame was like, and where the image does not explain its frame."""
    shows_raw: bool = False
    """The network computed no numbers: the pixels are the raw frame, enlarged, and not enhanced."""
    photometry: StreamPhotometry
    received_ns: MonotonicNs
    started_ns: MonotonicNs
    finished_ns: MonotonicNs
    in_shared: bool = False
    """Whether the pixels stand where the frame said that they may be put; else they follow."""

    @property
    def flagged(self) -> bool:
        """Whether a person who looks at the image must be told something."""
        return bool(self.out_of_domain or self.warnings or self.shows_raw)


class Failed(_Header):
    """A frame that was not enhanced, and why."""

    kind: Literal["failed"] = "failed"
    session: Session
    sequence: Sequence64
    code: FailureCode
    reason: Text


class Dropped(_Header):
    """A preview frame that a newer one superseded."""

    kind: Literal["dropped"] = "dropped"
    session: Session
    sequence: Sequence64
    superseded_by: Sequence64


class ErrorReply(_Header):
    """A message that was not understood or not accepted; names the frame where that could be read."""

    kind: Literal["error"] = "error"
    code: ErrorCode
    message: Text
    session: Session | None = None
    sequence: Sequence64 | None = None


class Watched(_Header):
    """A frame of somebody's with its answer, for a client that looks on; both images follow as one part."""

    kind: Literal["watched"] = "watched"
    frame: Frame
    answer: Enhanced | Failed
    received: int
    """Counters of the worker since its start: frames, and how they ended."""
    enhanced: int
    failed: int
    dropped: int
    waiting: int
