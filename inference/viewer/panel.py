"""A tab of the viewer's page beside the image: a scan, a pair set, a training run.

Only the Protocol: what knows scan folders, pair sets and runs stands in other rooms and is handed in.
"""

from typing import Any, Protocol

__all__ = ["Panel"]


class Panel(Protocol):
    """What a tab shows. Called from any thread; may be slow (disk)."""

    @property
    def name(self) -> str:
        """Name it in the URL: letters, digits, "-" and "_"."""
        ...

    @property
    def title(self) -> str:
        """Name it for a person."""
        ...

    def version(self) -> str:
        """Return a text that changes when the content or a picture does; cheap."""
        ...

    def content(self) -> dict[str, Any]:
        """Return what to show, as JSON with a key "kind" by which the page knows how."""
        ...

    def picture(self, name: str) -> bytes:
        """Return a picture as PNG; raises KeyError when unknown.

        Parameters
        ----------
        name
            As the content gave it. It comes from outside: it is looked up in a table, never joined to a path.
        """
        ...
