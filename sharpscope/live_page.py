"""The page beside a running microscope: `sharpscope live --view`.

Owns that the page never costs the experiment: its place is taken before anything moves, and what goes wrong
with it later is told and let be. What it shows is `sharpscope.live_screen`'s business.
"""

import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from acquisition.live import LiveEnhancer
from acquisition.live_controller import LiveController
from configs.document import WrongInputError
from inference.viewer.access import Access
from inference.viewer.server import listening
from sharpscope.console import say
from sharpscope.live import Beside
from sharpscope.live_screen import LiveScreen
from sharpscope.view_command import announce
from sharpscope.viewing import Doorway, Shown, open_viewer

__all__ = ["page_beside"]

logger = logging.getLogger(__name__)


def page_beside(doorway: Doorway, title: str, *, browser: bool) -> Beside:
    """Return what shows a page beside the camera, from its beginning to its end.

    Its place is taken at once, before a microscope moves; where the port is taken another one is. What goes
    wrong with the page later costs the page alone.

    Parameters
    ----------
    doorway
        Where browsers find it.
    title
        Names it for a person.
    browser
        Open the page in the web browser.

    Raises
    ------
    WrongInputError
        The host or the token cannot be used.
    """
    door = _door(doorway)

    @contextmanager
    def beside(live: LiveEnhancer, controller: LiveController) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                shown = stack.enter_context(LiveScreen(live, title))
                what = Shown(shown.screen)
                server = stack.enter_context(open_viewer(doorway, what, controller, door))
            except Exception as error:  # the microscope has been prepared, and raw frames matter more
                logger.exception("the page cannot be shown")
                say(f"there is no page: {error}; everything else goes on")
            else:
                announce(server.url, browser=browser)
            yield

    return beside


def _door(doorway: Doorway) -> socket.socket:
    """Return a socket for the page; at a free port where the wanted one is taken."""
    Access.to(doorway.host, doorway.token)  # a wrong token is told now
    try:
        return listening(doorway.host, doorway.port)
    except WrongInputError as error:
        if doorway.port == 0:
            raise
        say(f"{error}: a free one is taken")
        return listening(doorway.host, 0)
