"""What a browser may say over the viewer's WebSocket: strict JSON, checked here.

Knows no sockets. Text comes in, a frozen model goes out, or one line that says what is wrong.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field, StringConstraints, TypeAdapter, ValidationError

__all__ = ["MOST_BYTES", "Ack", "Show", "WrongMessageError", "parse"]

MOST_BYTES = 4096
"""Of a message; the server closes the connection of a browser that sends more."""
MOST_SERIES = 16
MOST_INDEX = 2**31 - 1

Name = Annotated[str, StringConstraints(max_length=200)]


class WrongMessageError(ValueError):
    """A browser's message is none; the text says in one line what is wrong with it."""


class Show(BaseModel, frozen=True, extra="forbid", strict=True):
    """What to show from now on."""

    type: Literal["show"]
    series: Annotated[tuple[Name, ...], Field(max_length=MOST_SERIES)]
    """Their names; one that does not exist yet may come."""
    at: Annotated[int, Field(ge=0, le=MOST_INDEX)] | None = None
    """The index of a frame; None follows the newest."""


class Ack(BaseModel, frozen=True, extra="forbid", strict=True):
    """A view was drawn; the next may come."""

    type: Literal["ack"]
    id: int


_MESSAGE: TypeAdapter[Show | Ack] = TypeAdapter(Annotated[Show | Ack, Field(discriminator="type")])


def parse(text: str | None) -> Show | Ack:
    """Return what a browser said.

    Parameters
    ----------
    text
        None where it sent something that is no text.

    Raises
    ------
    WrongMessageError
        When it is nothing a browser may say.
    """
    if text is None:
        msg = "a browser sends text, not bytes"
        raise WrongMessageError(msg)
    try:
        return _MESSAGE.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the message"
        msg = f"not understood: {where}: {first['msg']}"
        raise WrongMessageError(msg[:300]) from error
