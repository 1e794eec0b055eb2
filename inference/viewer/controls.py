"""What a person may do from the viewer's page: the Protocol of who does it.

A live controller has one; a finished recording has none. Knows no page.
"""

from typing import Protocol

__all__ = ["Controls"]


class Controls(Protocol):
    """Carries out what a person asks for. Called from any thread, one call at a time or several."""

    def actions(self) -> tuple[str, ...]:
        """Return what can be done now, of "pause", "resume", "stop", "snap" and "repoint"."""
        ...

    def do(self, action: str, **arguments: str) -> None:
        """Do it; may be slow, and is never called where that would matter.

        Parameters
        ----------
        arguments
            For "repoint": worker, the address of another worker.

        Raises
        ------
        WrongInputError
            When it cannot be done; the message is shown to the person.
        """
        ...
