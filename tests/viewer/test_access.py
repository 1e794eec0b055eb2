"""Who is let in: Host, Origin and token, of the page, the API and the WebSocket."""

import socket

import pytest
from websockets.exceptions import InvalidStatus

from configs.document import WrongInputError
from inference.viewer.access import Access, is_loopback
from inference.viewer.screen import Screen
from inference.viewer.server import ViewerServer

TOKEN = "a-token-that-was-given"
PATHS = ["/", "/index.html", "/api/panels", "/api/panels/scan", "/no/such/page"]


@pytest.fixture(scope="module")
def open_server():
    """A server on loopback, for all tests of this file."""
    with ViewerServer(Screen("a stand"), port=0) as server:
        yield server


@pytest.fixture(scope="module")
def guarded():
    """A server with a token, for all tests of this file."""
    with ViewerServer(Screen("a stand"), port=0, token=TOKEN) as server:
        yield server


# ---- Host -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:9000", "localhost", "LOCALHOST:1", "[::1]:8765", "localhost.:1"]
)
def test_a_server_on_loopback_knows_its_own_names_at_any_port(host):
    assert Access.to("127.0.0.1").knows_host(host)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.7", "0.0.0.0", "", "[::1",
     "a b", "127.0.0.1:80:80", "user@127.0.0.1", "169.254.1.1", "2130706433", "127.0.0.1/x"],
)  # fmt: skip
def test_a_server_on_loopback_knows_no_other_host(host):
    assert not Access.to("127.0.0.1").knows_host(host)


@pytest.mark.parametrize(
    ("host", "known"),
    [("10.0.0.7:8765", True), ("[fe80::1]", True), (socket.gethostname(), True), ("localhost:1", True),
     (f"{socket.gethostname()}.lab.example", True), ("evil.example", False),
     ("localhost.evil.example", False)],
)  # fmt: skip
def test_beyond_loopback_addresses_and_the_machines_name_are_known(host, known):
    assert Access.to("0.0.0.0").knows_host(host) is known


@pytest.mark.parametrize("path", PATHS)
def test_a_rebound_name_is_refused(open_server, ask, path):
    answer = ask(open_server, path, Host="evil.example:8765")

    assert answer.status == 403
    assert "Host" in answer.json["reason"]


def test_a_rebound_name_gets_no_websocket(open_server, browse):
    with pytest.raises(InvalidStatus, match="403"):
        browse(open_server, host="evil.example")


def test_two_hosts_are_refused(open_server):
    with socket.create_connection(("127.0.0.1", open_server.port)) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n")
        assert raw.recv(100).split()[1] in (b"400", b"403")


def test_no_host_is_refused(open_server):
    with socket.create_connection(("127.0.0.1", open_server.port)) as raw:
        raw.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert raw.recv(100).split()[1] in (b"400", b"403")


# ---- Origin -----------------------------------------------------------------------------------------

FOREIGN = [
    "http://evil.example",
    "null",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "https://evil.example",
    "",
    "file://",
]


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_page_gets_no_websocket(open_server, browse, origin):
    with pytest.raises(InvalidStatus, match="403"):
        browse(open_server, Origin=origin)


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_page_controls_nothing(open_server, ask, origin):
    answer = ask(open_server, "/api/control", "POST", '{"action": "stop"}', Origin=origin)

    assert answer.status == 403
    assert "Origin" in answer.json["reason"]


def test_a_foreign_page_with_the_token_is_refused_too(guarded, browse):
    with pytest.raises(InvalidStatus, match="403"):
        browse(guarded, Origin="http://evil.example", Authorization=f"Bearer {TOKEN}")


def test_the_page_itself_gets_a_websocket(open_server, browse):
    own = f"http://127.0.0.1:{open_server.port}"

    assert browse(open_server, Origin=own).hello["title"] == "a stand"


def test_no_other_site_may_frame_or_read_the_page(open_server, ask):
    for path in ("/", "/api/panels", "/no/such/page"):
        headers = ask(open_server, path).headers
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


# ---- token ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"},
     {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": "Bearer "}, {"Cookie": f"token={TOKEN}"},
     {"Cookie": ";;=;"}],
)  # fmt: skip
def test_without_the_right_token_nothing_is_seen(guarded, ask, path, headers):
    assert ask(guarded, path, **headers).status == 401


def test_a_wrong_cookie_is_refused(guarded, ask):
    assert ask(guarded, "/", Cookie=f"{guarded.access.cookie}=wrong").status == 401


@pytest.mark.parametrize(
    "query", ["token=wrong", "token=", "token", f"t={TOKEN}", "&" * 20, f"token={TOKEN}%00"]
)
def test_a_wrong_token_in_the_url_is_refused(guarded, ask, query):
    answer = ask(guarded, f"/?{query}")

    assert answer.status == 401
    assert "set-cookie" not in answer.headers


def test_the_token_in_the_url_opens_the_page_only(guarded, ask):
    assert ask(guarded, f"/api/panels?token={TOKEN}").status == 401
    assert ask(guarded, f"//evil.example?token={TOKEN}").status == 401


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Cookie": "a=b"}])
def test_without_the_right_token_there_is_no_websocket(guarded, browse, headers):
    with pytest.raises(InvalidStatus, match="403"):
        browse(guarded, **headers)


def test_without_the_right_token_nothing_is_controlled(guarded, ask):
    assert ask(guarded, "/api/control", "POST", '{"action": "stop"}').status == 401


def test_the_token_in_the_url_becomes_a_cookie_that_opens_everything(guarded, ask, browse):
    welcome = ask(guarded, f"/?token={TOKEN}")
    cookie = welcome.headers["set-cookie"]
    brought = cookie.split(";")[0]

    assert (welcome.status, welcome.headers["location"]) == (303, "/")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert ask(guarded, "/", Cookie=f'theme="a, b"; other={{"json": 1}}; {brought}').status == 200
    assert ask(guarded, "/api/panels", Cookie=brought).status == 200
    assert browse(guarded, Cookie=brought).hello["title"] == "a stand"


def test_a_script_brings_the_token_as_bearer(guarded, ask, browse):
    assert ask(guarded, "/api/panels", Authorization=f"Bearer {TOKEN}").status == 200
    assert browse(guarded, Authorization=f"Bearer {TOKEN}").hello["title"] == "a stand"


def test_two_servers_on_one_machine_have_different_cookies():
    assert Access.to("127.0.0.1", "a" * 16).cookie != Access.to("127.0.0.1", "b" * 16).cookie


def test_beyond_loopback_a_token_is_made(screen, serve, ask):
    server = serve(screen, host="0.0.0.0")
    token = server.url.partition("?token=")[2]

    assert len(token) >= 32
    assert ask(server, "/").status == 401
    assert ask(server, "/", Authorization=f"Bearer {token}").status == 200


def test_each_token_is_another():
    assert Access.to("0.0.0.0").token != Access.to("0.0.0.0").token


def test_the_token_is_not_in_what_python_prints():
    assert TOKEN not in repr(Access.to("0.0.0.0", TOKEN))


@pytest.mark.parametrize("token", ["", "short", "with a space in between", "ümlaut-ümlaut-ümlaut", "a" * 201])
def test_a_token_that_is_no_good_is_refused(token):
    with pytest.raises(WrongInputError, match="16 to 200"):
        Access.to("0.0.0.0", token)


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("10.0.0.7", False), ("microscope", False), ("", False)],
)  # fmt: skip
def test_what_is_loopback(host, own):
    assert is_loopback(host) is own
