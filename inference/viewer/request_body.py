"""The JSON body of a request: bounded, strict, or refused in one line. Knows no routes."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

__all__ = ["read_body"]

MOST_BYTES = 16_384

Model = TypeVar("Model", bound=BaseModel)


async def read_body(request: Request, model: type[Model], most_bytes: int = MOST_BYTES) -> Model:
    """Return the body as its model.

    Raises
    ------
    HTTPException
        413 when it is too long (no more of it is read), 400 when it does not fit.
    """
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > most_bytes:
                raise HTTPException(413, f"the body is longer than {most_bytes} bytes")
    except ClientDisconnect as error:
        raise HTTPException(400, "the body is not complete") from error
    try:
        return model.model_validate_json(bytes(body), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise HTTPException(400, f"not understood: {where}: {first['msg']}") from error
