"""What stands in a recording's two text files: `recording.json` and the lines of `journal.jsonl`.

Owns the words of a recording; the layout is told in `inference.recording`. Knows no pixels and no files.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field, TypeAdapter

from inference.messages import StreamPhotometry

__all__ = [
    "EndLine",
    "EnhancedLine",
    "FrameFacts",
    "FrameLine",
    "JournalLine",
    "LostLine",
    "RecordingHeader",
    "StreamLine",
    "UnenhancedLine",
    "parse_line",
]


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """What is known of a frame besides its pixels; None is unknown."""

    channel: str | None = None
    pixel_size_um: float | None = None
    numerical_aperture: float | None = None
    camera: str | None = None
    time: datetime | None = None
    """Wall clock."""
    elapsed_ms: float | None = None
    """Since the start of the acquisition, by the camera or the acquisition engine."""
    exposure_ms: float | None = None
    full_scale: int | None = None
    """Counts at which the camera saturates, 2**bits - 1."""
    stage_x_um: float | None = None
    stage_y_um: float | None = None
    focus_um: float | None = None
    event_index: dict[str, int] | None = None
    """The useq event's index, for example {"t": 3, "p": 0, "c": 1}."""
    position_name: str | None = None
    camera_frame: int | None = None
    """The frame's number in the camera's sequence, from 0: where one is left out, a frame is missing."""

    @property
    def position(self) -> str | None:
        """What people call the stage position: its name, else its number in the sequence."""
        if self.position_name is not None or self.event_index is None or "p" not in self.event_index:
            return self.position_name
        return f"p{self.event_index['p']}"


class RecordingHeader(BaseModel, frozen=True, extra="forbid"):
    """The content of recording.json: what is known before the first frame."""

    format: Literal["sharpscope-recording"] = "sharpscope-recording"
    version: Literal[1, 2] = 2
    """Recorders of version 1 did not tell that they were closed."""
    session: str
    """With a frame's number: its id on the wire and everywhere."""
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    software: dict[str, str] = {}


class StreamLine(BaseModel, frozen=True, extra="forbid"):
    """A stream begins: one OME-Zarr image with the axes t, y, x."""

    kind: Literal["stream"] = "stream"
    stream: str
    """Its folder in the recording, with forward slashes."""
    role: Literal["raw", "enhanced"]
    shape_yx: tuple[int, int]
    dtype: str
    channel: str | None = None
    camera: str | None = None
    pixel_size_um: float | None = None
    source: str | None = None
    """The raw stream that an enhanced one belongs to; both have the same index for the same frame."""
    model_name: str | None = None
    model_hash: str | None = None


class FrameLine(BaseModel, frozen=True, extra="forbid"):
    """A raw frame is stored."""

    kind: Literal["frame"] = "frame"
    frame: int
    stream: str
    index: int
    """Along the stream's time axis."""
    facts: FrameFacts


class EnhancedLine(BaseModel, frozen=True, extra="forbid"):
    """The enhanced image of a frame is stored."""

    kind: Literal["enhanced"] = "enhanced"
    session: str
    frame: int
    """With the session: the id of the raw frame."""
    stream: str
    index: int
    model_name: str
    model_hash: str
    out_of_domain: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    shows_raw: bool = False
    """The network computed no numbers: the stored image is the raw frame, enlarged, and not enhanced."""
    photometry: StreamPhotometry


class UnenhancedLine(BaseModel, frozen=True, extra="forbid"):
    """A frame was not enhanced, and why; a later EnhancedLine of the same frame overrules it."""

    kind: Literal["unenhanced"] = "unenhanced"
    frame: int
    outcome: Literal["dropped", "failed"]
    reason: str


class LostLine(BaseModel, frozen=True, extra="forbid"):
    """A raw frame could not be stored, and why."""

    kind: Literal["lost"] = "lost"
    frame: int
    reason: str


class EndLine(BaseModel, frozen=True, extra="forbid"):
    """The recorder was closed: nobody was killed. Lines of a resumed recording may follow."""

    kind: Literal["end"] = "end"


JournalLine = StreamLine | FrameLine | EnhancedLine | UnenhancedLine | LostLine | EndLine
_LINE: TypeAdapter[JournalLine] = TypeAdapter(Annotated[JournalLine, Field(discriminator="kind")])


def parse_line(line: dict[str, object]) -> JournalLine:
    """Turn a journal line into its model; raises pydantic's ValidationError when it is none."""
    return _LINE.validate_python(line)
