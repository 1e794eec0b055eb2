"""Who may see the viewer: the Host, the Origin and the token of every request and every WebSocket.

On loopback no token is needed; beyond it there is always one. A foreign page in the user's own browser is
kept out in both cases: a name that was rebound to this machine by its Host, a script of another site by its
Origin. The token comes once in the URL and then in a cookie, or as `Authorization: Bearer`. Knows no frames.
"""

import hashlib
import ipaddress
import re
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Self
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from configs.document import WrongInputError

__all__ = ["Access", "AccessGate", "is_loopback"]

TOKEN_BYTES = 24
_TOKEN = re.compile(r"[0-9A-Za-z_.~\-]{16,200}")
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z_.\-]+)(?::[0-9]{1,5})?")


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine's own, for itself alone."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


@dataclass(frozen=True, slots=True)
class Access:
    """What a browser must bring."""

    loopback: bool
    """Whether only this machine can reach the server."""
    token: str | None = field(repr=False)
    names: tuple[str, ...] = ()
    """Of the machine, besides localhost and its addresses; with any domain after them."""

    @classmethod
    def to(cls, host: str, token: str | None = None) -> Self:
        """Return what it takes to see a server on a host; beyond loopback a token is made when none is given.

        Raises
        ------
        WrongInputError
            When the token is too short, or would not stand in a URL.
        """
        if token is not None and not _TOKEN.fullmatch(token):
            msg = "the viewer's token must be 16 to 200 of the characters A-Z a-z 0-9 _ . ~ -; "
            raise WrongInputError(msg + "leave it out and one is made")
        loopback = is_loopback(host)
        if token is None and not loopback:
            token = secrets.token_urlsafe(TOKEN_BYTES)
        names = () if loopback else (socket.gethostname().lower(), host.lower())
        return cls(loopback, token, names)

    @property
    def cookie(self) -> str:
        """Name the cookie; each token has its own, for cookies do not tell ports apart."""
        return f"sharpscope_{hashlib.sha256((self.token or '').encode()).hexdigest()[:8]}"

    def knows_host(self, host: str) -> bool:
        """Say whether a Host header names this machine.

        A name that somebody else owns may be rebound to it; an address may not. The port is not looked at: it
        differs at the near end of a tunnel.
        """
        parts = _HOST.fullmatch(host)
        if parts is None:
            return False
        name = parts["name"].strip("[]").lower().removesuffix(".")
        address = _address(name)
        if address is not None:
            return address.is_loopback or not self.loopback
        return name == "localhost" or any(name == own or name.startswith(f"{own}.") for own in self.names)

    def fits(self, token: str) -> bool:
        """Compare a token, in a time that does not tell how much of it is right."""
        return self.token is not None and secrets.compare_digest(token.encode(), self.token.encode())


class AccessGate:
    """The application behind the checks."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        answer = self._answer(scope)
        if answer is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":  # before it was accepted: the handshake fails with 403
            await send({"type": "websocket.close", "code": 1008})
        else:
            await answer(scope, receive, send)

    def _answer(self, scope: Scope) -> Response | None:
        """Return what is answered in the application's place; None lets the request through."""
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._access.knows_host(hosts[0]):
            return _refused(403, "this Host is not served here; use the address that the server printed")
        if not _is_own(origins, hosts[0]):
            return _refused(403, "requests of other sites (Origin) are refused")
        if self._access.token is None or self._has_token(headers):
            return None
        if scope["type"] == "http" and scope["path"] == "/" and self._is_invited(scope):
            return self._welcome()
        return _refused(401, "a token is needed: open the URL that the server printed", bearer=True)

    def _has_token(self, headers: Headers) -> bool:
        brought = [self._from_cookies(headers), _from_bearer(headers)]
        return any(self._access.fits(token) for token in brought if token is not None)

    def _from_cookies(self, headers: Headers) -> str | None:
        return cookie_parser("; ".join(headers.getlist("cookie"))).get(self._access.cookie)

    def _is_invited(self, scope: Scope) -> bool:
        """Say whether the token stands in the URL."""
        try:
            query = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=8)
        except ValueError:  # more fields
            return False
        return any(self._access.fits(token) for token in query.get("token", []))

    def _welcome(self) -> Response:
        """Put the token into a cookie and out of the URL.

        Lax, not Strict: a link in a mail must work, and the other sites' requests that it lets through only
        open the page.
        """
        answer = RedirectResponse(
            "/", 303, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        )
        answer.set_cookie(
            self._access.cookie, self._access.token or "", httponly=True, samesite="lax", path="/"
        )
        return answer


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_own(origins: Sequence[str], host: str) -> bool:
    """Say whether a request comes from the page itself, or from no page at all."""
    return not origins or (len(origins) == 1 and origins[0].lower() in _origins(host.lower()))


def _origins(host: str) -> tuple[str, str]:
    return f"http://{host}", f"https://{host}"  # https: behind somebody's proxy


def _from_bearer(headers: Headers) -> str | None:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _refused(status: Literal[401, 403], reason: str, *, bearer: bool = False) -> Response:
    headers = {"Cache-Control": "no-store"} | ({"WWW-Authenticate": "Bearer"} if bearer else {})
    return JSONResponse({"reason": reason}, status, headers=headers)
