"""Contract 4, the wire: a strict JSON header and, where there are pixels, one raw buffer.

A message has one part (the header) or two (header, pixels); pixels in shared memory are no part. Pixels are
(Y, X), row after row, little-endian, of an allowed dtype. Parts, sizes, dtype and shape are checked before
anything is allocated or looked at; pixels are never copied here and never pickled. Pure functions: this
module knows no sockets, no engine and no files. The headers themselves stand in `inference.messages`.

A conversation: the client says Hello and gets Info, which grants a credit of unanswered record frames. It
sends frames; each is answered exactly once, by Enhanced, Failed or Dropped. Ping is answered by Progress.
On one machine it may offer memory by Share, and put pixels there once Shared has accepted it. What cannot be
understood is answered by ErrorReply.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from inference.messages import (
    Bye,
    Delivery,
    Dropped,
    Enhanced,
    ErrorCode,
    ErrorReply,
    Failed,
    FailureCode,
    Frame,
    Hello,
    Info,
    ModelInfo,
    Ping,
    PixelType,
    Progress,
    Sequence64,
    Session,
    Share,
    Shared,
    StreamPhotometry,
    Watch,
    Watched,
)

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
    "MessageError",
    "ModelInfo",
    "Ping",
    "PixelType",
    "Progress",
    "Reply",
    "Request",
    "Share",
    "Shared",
    "SharedMemory",
    "StreamPhotometry",
    "Watch",
    "Watched",
    "WireLimits",
    "decode_reply",
    "decode_request",
    "decode_watched",
    "encode",
    "encode_watched",
]

Image = np.ndarray[Any, np.dtype[Any]]
Buffer = bytes | bytearray | memoryview
Header = TypeVar("Header")

Request = Hello | Ping | Bye | Share | Watch | Frame
Reply = Info | Progress | Shared | Enhanced | Failed | Dropped | ErrorReply
SharedMemory = Callable[[str, int, int], memoryview | None]
"""File, offset and bytes to that memory; None where it cannot be seen."""

MOST_PARTS = 2
_LITTLE_ENDIAN: dict[str, np.dtype[Any]] = {
    "uint8": np.dtype("u1"),
    "uint16": np.dtype("<u2"),
    "float32": np.dtype("<f4"),
}
_REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="kind")])
_WATCHER_REPLY: TypeAdapter[Reply | Watched] = TypeAdapter(
    Annotated[Reply | Watched, Field(discriminator="kind")]
)
_REPLY: TypeAdapter[Reply] = TypeAdapter(Annotated[Reply, Field(discriminator="kind")])


class _Sender(BaseModel):
    """The frame's id, read leniently out of a header that is otherwise wrong."""

    model_config = ConfigDict(extra="ignore", strict=True)

    session: Session
    sequence: Sequence64


class MessageError(ValueError):
    """A message breaks the contract. Carries what an ErrorReply needs."""

    def __init__(
        self, code: ErrorCode, message: str, session: str | None = None, sequence: int | None = None
    ) -> None:
        self.code = code
        self.session = session
        self.sequence = sequence
        super().__init__(message)

    def reply(self) -> ErrorReply:
        """Return the answer that tells the sender."""
        message = str(self)[:500]
        return ErrorReply(code=self.code, message=message, session=self.session, sequence=self.sequence)


@dataclass(frozen=True, slots=True)
class WireLimits:
    """The largest message that a receiver accepts."""

    most_header_bytes: int = 64 * 1024
    most_pixel_bytes: int = 256 * 1024 * 1024

    @property
    def most_part_bytes(self) -> int:
        """For the transport, which closes the connection beyond it: room for a typed answer below."""
        return 2 * max(self.most_header_bytes, self.most_pixel_bytes)


REPLY_LIMITS = WireLimits(most_pixel_bytes=2 * 1024**3)
"""What a client accepts: an enhanced frame has 8 times the bytes of a uint16 frame at factor 2."""


def encode(header: BaseModel, image: Image | None = None) -> list[Buffer]:
    """Return the parts of a message.

    Parameters
    ----------
    header
        One of this module's requests or replies.
    image
        (Y, X), of the header's shape and dtype; its memory must not change until the message is sent.
    """
    parts: list[Buffer] = [header.model_dump_json().encode()]
    if image is not None:
        little = np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("<"))
        parts.append(little.data.cast("B"))
    return parts


def no_memory(_file: str, _offset: int, _bytes: int) -> memoryview | None:
    """See no shared memory at all."""
    return None


def decode_request(
    parts: Sequence[Buffer], limits: WireLimits, memory: SharedMemory = no_memory
) -> tuple[Request, Image | None]:
    """Return a request and its pixels, (Y, X), as a read-only view of the buffer, or of shared memory.

    Parameters
    ----------
    memory
        What this client shares.

    Raises
    ------
    MessageError
        For whatever breaks the contract; nothing else is ever raised, whatever the bytes are.
    """
    header = _decode_header(parts, _REQUEST, limits)
    if not isinstance(header, Frame):
        _check_no_pixels(parts)
        return header, None
    if header.shared is None:
        return header, _decode_pixels(header, parts, limits)
    _check_no_pixels(parts)
    place, size = header.shared, _pixel_bytes(header)
    pixels = memory(place.file, place.offset, size) if size <= limits.most_pixel_bytes else None
    answer = memory(place.file, place.answer_offset, place.answer_bytes)
    if pixels is None or answer is None:
        msg = f"no {size} bytes of pixels, or no room for the answer, where the frame says"
        raise MessageError(ErrorCode.NO_SUCH_MEMORY, msg, header.session, header.sequence)
    return header, _image_of(header, pixels)


def decode_reply(parts: Sequence[Buffer], limits: WireLimits = REPLY_LIMITS) -> tuple[Reply, Image | None]:
    """Return a reply and its pixels, (Y, X) float32; raises MessageError as `decode_request` does.

    Of an answer in shared memory there are none: the client knows where it offered to put them.
    """
    header = _decode_header(parts, _REPLY, limits)
    if isinstance(header, Enhanced) and not header.in_shared:
        return header, _decode_pixels(header, parts, limits)
    _check_no_pixels(parts)
    return header, None


def encode_watched(header: Watched, raw: Image, enhanced: Image | None) -> list[Buffer]:
    """Return the parts of what is shown to one who looks on: a copy, so that the images' memory may change.

    The enhanced image stands first in the pixels, so that its numbers of four bytes do not lie across words.
    """
    images = [raw] if enhanced is None else [enhanced, raw]
    little = [np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("<")) for image in images]
    return [header.model_dump_json().encode(), b"".join(image.data.cast("B") for image in little)]


def decode_watched(
    parts: Sequence[Buffer], limits: WireLimits = REPLY_LIMITS
) -> tuple[Reply | Watched, Image | None, Image | None]:
    """Return what a client that looks on has been sent: of Watched the raw and the enhanced image too.

    Raises
    ------
    MessageError
        As `decode_request` does.
    """
    header = _decode_header(parts, _WATCHER_REPLY, limits)
    if not isinstance(header, Watched):
        _check_no_pixels(parts)
        return header, None, None
    answer = header.answer if isinstance(header.answer, Enhanced) else None
    room = 0 if answer is None else _pixel_bytes(answer)
    expected = room + _pixel_bytes(header.frame)
    pixels = memoryview(parts[1]) if len(parts) > 1 else memoryview(b"")
    if pixels.nbytes != expected:
        msg = f"{pixels.nbytes} bytes of pixels; the two images need {expected}"
        raise MessageError(ErrorCode.WRONG_SIZE, msg, header.frame.session, header.frame.sequence)
    enhanced = None if answer is None else _image_of(answer, pixels[:room])
    return header, _image_of(header.frame, pixels[room:]), enhanced


def _decode_header(parts: Sequence[Buffer], adapter: TypeAdapter[Header], limits: WireLimits) -> Header:
    if not 1 <= len(parts) <= MOST_PARTS:
        msg = f"the message has {len(parts)} parts; send 1 (header) or 2 (header, pixels)"
        raise MessageError(ErrorCode.WRONG_PART_COUNT, msg)
    size = memoryview(parts[0]).nbytes
    if size > limits.most_header_bytes:
        msg = f"the header has {size} bytes; at most {limits.most_header_bytes} are read"
        raise MessageError(ErrorCode.HEADER_TOO_LARGE, msg)
    raw = bytes(parts[0])
    try:
        return adapter.validate_json(raw)
    except ValidationError as error:
        raise _header_error(raw, error) from error


def _header_error(raw: bytes, error: ValidationError) -> MessageError:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    key = str(first["loc"][-1]) if first["loc"] else ""
    code = {"version": ErrorCode.UNSUPPORTED_VERSION, "dtype": ErrorCode.WRONG_DTYPE}.get(
        key, ErrorCode.BAD_HEADER
    )
    where = f"key '{key}' of the header" if key else "the header"
    try:
        sender = _Sender.model_validate_json(raw)
    except ValidationError:
        return MessageError(code, f"{where}: {first['msg']}")
    return MessageError(code, f"{where}: {first['msg']}", sender.session, sender.sequence)


def _check_no_pixels(parts: Sequence[Buffer]) -> None:
    if len(parts) > 1:
        raise MessageError(ErrorCode.WRONG_PART_COUNT, "this kind of message has no pixels; send 1 part")


def _pixel_bytes(header: Frame | Enhanced) -> int:
    return math.prod(header.shape_yx) * _LITTLE_ENDIAN[header.dtype].itemsize


def _image_of(header: Frame | Enhanced, pixels: Buffer) -> Image:
    """Return a read-only view, (Y, X)."""
    image: Image = np.frombuffer(pixels, dtype=_LITTLE_ENDIAN[header.dtype]).reshape(header.shape_yx)
    image.flags.writeable = False
    return image


def _decode_pixels(header: Frame | Enhanced, parts: Sequence[Buffer], limits: WireLimits) -> Image:
    expected = _pixel_bytes(header)
    got = memoryview(parts[1]).nbytes if len(parts) > 1 else 0
    if max(expected, got) > limits.most_pixel_bytes:
        code = ErrorCode.TOO_LARGE
        msg = f"{max(expected, got)} bytes of pixels; at most {limits.most_pixel_bytes} are accepted"
    elif got != expected:
        code = ErrorCode.WRONG_SIZE
        msg = f"{got} bytes of pixels; shape {header.shape_yx} of {header.dtype} needs {expected}"
    else:
        return _image_of(header, parts[1])
    raise MessageError(code, msg, header.session, header.sequence)
