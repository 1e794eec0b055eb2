"""Contract 4, the wire: a strict JSON header and, where there are pixels, one raw buffer.

A message has one part (the header) or two (header, pixels). Pixels are (Y, X), row after row,
little-endian, of an allowed dtype. Parts, sizes, dtype and shape are checked before anything is allocated
or looked at; pixels are never copied here and never pickled. Pure functions: this module knows no
sockets, no engine and no files. The headers themselves stand in `inference.messages`.

A conversation: the client says Hello and gets Info, which grants a credit of unanswered record frames. It
sends frames; each is answered exactly once, by Enhanced, Failed or Dropped. Ping is answered by Progress.
What cannot be understood is answered by ErrorReply.
"""

import math
from collections.abc import Sequence
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
    StreamPhotometry,
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
    "StreamPhotometry",
    "WireLimits",
    "decode_reply",
    "decode_request",
    "encode",
]

Image = np.ndarray[Any, np.dtype[Any]]
Buffer = bytes | bytearray | memoryview
Header = TypeVar("Header")

Request = Hello | Ping | Bye | Frame
Reply = Info | Progress | Enhanced | Failed | Dropped | ErrorReply

MOST_PARTS = 2
_LITTLE_ENDIAN: dict[str, np.dtype[Any]] = {
    "uint8": np.dtype("u1"),
    "uint16": np.dtype("<u2"),
    "float32": np.dtype("<f4"),
}
_REQUEST: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="kind")])
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


def decode_request(parts: Sequence[Buffer], limits: WireLimits) -> tuple[Request, Image | None]:
    """Return a request and its pixels, (Y, X), as a read-only view of the buffer.

    Raises
    ------
    MessageError
        For whatever breaks the contract; nothing else is ever raised, whatever the bytes are.
    """
    header = _decode_header(parts, _REQUEST, limits)
    return header, _decode_pixels(header, parts, limits)


def decode_reply(parts: Sequence[Buffer], limits: WireLimits = REPLY_LIMITS) -> tuple[Reply, Image | None]:
    """Return a reply and its pixels, (Y, X) float32; raises MessageError as `decode_request` does."""
    header = _decode_header(parts, _REPLY, limits)
    return header, _decode_pixels(header, parts, limits)


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


def _decode_pixels(header: object, parts: Sequence[Buffer], limits: WireLimits) -> Image | None:
    if not isinstance(header, Frame | Enhanced):
        if len(parts) > 1:
            raise MessageError(ErrorCode.WRONG_PART_COUNT, "this kind of message has no pixels; send 1 part")
        return None
    dtype = _LITTLE_ENDIAN[header.dtype]
    expected = math.prod(header.shape_yx) * dtype.itemsize
    got = memoryview(parts[1]).nbytes if len(parts) > 1 else 0
    if max(expected, got) > limits.most_pixel_bytes:
        code = ErrorCode.TOO_LARGE
        msg = f"{max(expected, got)} bytes of pixels; at most {limits.most_pixel_bytes} are accepted"
    elif got != expected:
        code = ErrorCode.WRONG_SIZE
        msg = f"{got} bytes of pixels; shape {header.shape_yx} of {header.dtype} needs {expected}"
    else:
        pixels: Image = np.frombuffer(parts[1], dtype=dtype).reshape(header.shape_yx)  # (Y, X)
        return pixels
    raise MessageError(code, msg, header.session, header.sequence)
