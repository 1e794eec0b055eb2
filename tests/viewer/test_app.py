"""The routes: page, control, panels, and what nobody gets."""

import json
import socket
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from configs.document import WrongInputError
from inference.viewer.screen import Screen
from inference.viewer.server import ViewerServer

PNG = b"\x89PNG\r\n\x1a\n"


class Dials:
    """Controls that note what was done."""

    def __init__(self) -> None:
        self.done: list[tuple[str, dict[str, str]]] = []
        self.problem: Exception | None = None

    def actions(self) -> tuple[str, ...]:
        return ("pause", "snap", "repoint")

    def do(self, action: str, **arguments: str) -> None:
        if self.problem is not None:
            raise self.problem
        self.done.append((action, arguments))


class Table:
    """A panel with pictures in a table."""

    name = "scan"
    title = "Scan"

    def __init__(self) -> None:
        self.fields = 1
        self.pictures = {"focus": PNG, "pairs/0.png": PNG}
        self.asked: list[str] = []

    def version(self) -> str:
        return f'v "{self.fields}" µ'

    def content(self) -> dict[str, Any]:
        return {"kind": "scan", "fields": self.fields}

    def picture(self, name: str) -> bytes:
        self.asked.append(name)
        return self.pictures[name]


@pytest.fixture(scope="module")
def served():
    """A server with everything, for all tests of this file."""
    dials, table = Dials(), Table()
    with ViewerServer(Screen("a stand"), dials, [table], port=0) as server:
        yield server, dials, table


@pytest.fixture
def server(served):
    return served[0]


@pytest.fixture
def dials(served) -> Dials:
    served[1].__init__()
    return served[1]


@pytest.fixture
def table(served) -> Table:
    served[2].__init__()
    return served[2]


# ---- page -------------------------------------------------------------------------------------------


def test_the_page_comes_with_the_package(server, ask):
    answer = ask(server, "/")

    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.body.startswith(b"<!doctype html>")
    assert ask(server, "/index.html").body == answer.body


def test_a_file_that_the_browser_has_is_not_sent_again(server, ask):
    tag = ask(server, "/").headers["etag"]

    assert ask(server, "/", If_None_Match=tag).status == 304


ESCAPES = [
    "/../server.py", "/../../pyproject.toml", "/%2e%2e/server.py", "/%2e%2e%2fserver.py", "/..%2fserver.py",
    "/static/../../server.py", "//etc/passwd", "/%2fetc%2fpasswd", "/..%5cserver.py", "/%5c..%5cserver.py",
    "/C:/Windows/win.ini", "/index.html/../../server.py", "/%252e%252e/server.py", "/.%00./server.py",
    "/index.html%00.js", "/....//server.py", "/./index.html", "/api/../../server.py", "/__init__.py",
    "/api/panels/..%2f..%2fserver.py", "/api/panels/scan/pictures/../../../server.py",
    "/api/panels/scan/pictures/%2e%2e%2f%2e%2e%2fserver.py", "/api/panels/scan/pictures/%2fetc%2fpasswd",
    "/api/panels/scan/pictures/..%5c..%5cserver.py", "/api/panels/scan/pictures/",
    "/api/panels/%2e%2e/pictures/focus", "http://127.0.0.1/../server.py",
]  # fmt: skip


def get_raw(port: int, path: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: raw.recv(65536), b""))


def test_no_path_leads_out_of_the_table(server):
    for path in ESCAPES:
        answer = get_raw(server.port, path)
        assert answer.split()[1] == b"404", (path, answer[:200])


# ---- control ----------------------------------------------------------------------------------------


def post(ask, server, body):
    return ask(server, "/api/control", "POST", body if isinstance(body, str | bytes) else json.dumps(body))


def test_what_a_person_may_do_is_in_the_hello(server, browse):
    hello = browse(server).hello

    assert hello["actions"] == ["pause", "snap", "repoint"]
    assert hello["panels"] == [{"name": "scan", "title": "Scan"}]


def test_an_action_is_done(server, ask, dials):
    assert post(ask, server, {"action": "pause"}).status == 200
    assert post(ask, server, {"action": "repoint", "worker": "tcp://127.0.0.1:5556"}).status == 200
    assert dials.done == [("pause", {}), ("repoint", {"worker": "tcp://127.0.0.1:5556"})]


def test_an_action_that_cannot_be_done_now_says_so(server, ask, dials):
    answer = post(ask, server, {"action": "stop"})

    assert (answer.status, dials.done) == (409, [])
    assert "'stop'" in answer.json["reason"]


def test_an_action_that_goes_wrong_says_why(server, ask, dials):
    dials.problem = WrongInputError("'x' is not an address of the form tcp://127.0.0.1:5555")
    answer = post(ask, server, {"action": "repoint", "worker": "x"})

    assert answer.status == 409
    assert answer.json["reason"].startswith("'x' is not an address")


def test_a_mistake_inside_is_an_answer_too(server, ask, dials):
    dials.problem = RuntimeError("secret words")
    answer = post(ask, server, {"action": "pause"})

    assert answer.status == 500
    assert b"secret" not in answer.body


def test_a_recording_that_is_looked_back_at_has_nothing_to_control(album, serve, ask):
    assert post(ask, serve(album), {"action": "pause"}).status == 409


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", '"pause"', b"\xff\xfe", {"action": "explode"}, {"action": "pause", "force": True},
     {"action": 1}, {"action": "repoint"}, {"action": "pause", "worker": "tcp://127.0.0.1:1"}, "[" * 10_000],
    ids=lambda body: str(body)[:30],
)  # fmt: skip
def test_a_wrong_body_is_refused_in_one_line(server, ask, dials, body):
    answer = post(ask, server, body)

    assert (answer.status, dials.done) == (400, [])
    assert "\n" not in answer.json["reason"]


def test_a_body_that_is_too_long_is_refused(server, ask, dials):
    answer = post(ask, server, " " * 20_000 + '{"action": "pause"}')

    assert (answer.status, dials.done) == (413, [])


def test_a_body_without_an_end_is_refused_before_it_ends(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(b"POST /api/control HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        raw.sendall(b"5000\r\n" + b" " * 0x5000 + b"\r\n")  # and no last chunk

        assert raw.recv(100).split()[1] == b"413"


def test_looking_changes_nothing(server, ask, dials):
    assert ask(server, "/api/control").status == 404
    assert dials.done == []


# ---- panels -----------------------------------------------------------------------------------------


def test_a_panel_is_sent_again_when_its_version_changed(server, ask, table):
    first = ask(server, "/api/panels/scan")
    same = ask(server, "/api/panels/scan", If_None_Match=first.headers["etag"])
    table.fields = 2
    changed = ask(server, "/api/panels/scan", If_None_Match=first.headers["etag"])

    assert (first.status, same.status, changed.status) == (200, 304, 200)
    assert (first.json["fields"], same.body, changed.json["fields"]) == (1, b"", 2)


def test_a_picture_is_looked_up_in_the_panels_table(server, ask, table):
    answer = ask(server, "/api/panels/scan/pictures/focus")

    assert (answer.status, answer.body, answer.headers["content-type"]) == (200, PNG, "image/png")
    assert ask(server, "/api/panels/scan/pictures/pairs/0.png").status == 200
    assert ask(server, "/api/panels/scan/pictures/pairs%2F0.png").status == 200
    assert ask(server, "/api/panels/scan/pictures/other").status == 404
    assert table.asked == ["focus", "pairs/0.png", "pairs/0.png", "other"]


def test_the_panels_are_listed(server, ask):
    assert ask(server, "/api/panels").json == {"panels": [{"name": "scan", "title": "Scan"}]}
    assert ask(server, "/api/panels/none").status == 404


# ---- routes of others -------------------------------------------------------------------------------


def test_routes_of_others_stand_behind_the_same_checks(screen, serve, ask):
    async def export(_request):
        return PlainTextResponse("a file")

    server = serve(screen, token="a-token-that-was-given", routes=[Route("/api/export", export)])

    assert ask(server, "/api/export").status == 401
    assert ask(server, "/api/export", Authorization="Bearer a-token-that-was-given").body == b"a file"
