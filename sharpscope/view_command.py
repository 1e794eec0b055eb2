"""The command that shows: view.

Imports its room when it runs, so that `sharpscope --help` answers at once.
"""

import os
import sys
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpscope.command_group import Json, Keys, app
from sharpscope.console import emit, say

if TYPE_CHECKING:
    from sharpscope.viewing import Doorway

Host = Annotated[
    str, typer.Option(help="127.0.0.1 is for this machine alone; 0.0.0.0 for all who have the printed link.")
]
Port = Annotated[int, typer.Option(help="Of the page; 0 takes a free one.")]
TokenFile = Annotated[
    Path | None, typer.Option(help="A file with the token to ask for; beyond this machine one is made.")
]
Browser = Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the web browser.")]

STEP_S = 0.5


@app.command()
def view(
    target: Annotated[
        str,
        typer.Argument(
            help="A recording, scan folder, pair set, training run or demo folder, finished or being "
            "written; or the address of a running worker, tcp://127.0.0.1:5555."
        ),
    ],
    host: Host = "127.0.0.1",
    port: Port = 8765,
    token_file: TokenFile = None,
    browser: Browser = True,
    keys: Keys = None,
    json: Json = False,
) -> None:
    """Show frames raw and enhanced, scans, pairs and training in a web page, until Ctrl-C.

    Example: sharpscope view my-recording
    """
    from sharpscope.viewing import Doorway

    show_until_interrupted(
        target, Doorway.of(host, port, token_file), keys, browser=browser,
        on_ready=lambda url: emit({"url": url}, json),
    )  # fmt: skip


def show_until_interrupted(
    target: str,
    doorway: "Doorway | None" = None,
    keys: Path | None = None,
    *,
    browser: bool = True,
    on_ready: Callable[[str], None] = lambda _url: None,
) -> None:
    """Serve the page of a target until Ctrl-C.

    Parameters
    ----------
    doorway
        Where browsers find it; a free port of this machine where it is left out.
    browser
        Open it in the web browser.
    on_ready
        Called with the address.
    """
    from inference.signals import stopped_by_signals
    from sharpscope.viewing import Doorway, open_viewer, shown

    with shown(target, keys) as what, open_viewer(doorway or Doorway(port=0), what) as server:
        ended = threading.Event()
        with stopped_by_signals(ended.set):
            announce(server.url, browser=browser)
            on_ready(server.url)
            wait_for(ended)


def wait_for(ended: threading.Event) -> None:
    """Wait in steps: on Windows a wait without an end is not interrupted by Ctrl-C."""
    while not ended.wait(STEP_S):
        pass


def announce(url: str, *, browser: bool) -> None:
    """Say where the page is, and open it where there is a browser."""
    say(f"the page is at {url}")
    if browser and _has_a_screen():
        webbrowser.open(url)


def _has_a_screen() -> bool:
    """Say whether a browser would open in a window: in a bare terminal it would take the terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
