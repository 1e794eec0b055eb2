"""Log lines as JSON: one object a line on standard error, for programs that collect logs.

Owns the keys: time, level, logger, message; worker, session and sequence where they are known; error, with
the traceback, where there is one. Knows no command.
"""

import json
import logging
import sys
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from inference.figures import Observed

__all__ = ["JsonLines", "WorkerName", "logs_are_json", "use_json_logs"]

_FACTS = ("worker", "session", "sequence")


class JsonLines(logging.Formatter):
    """One JSON object for each record."""

    def __init__(self) -> None:
        super().__init__()
        self.worker: str | None = None
        """The worker of this process, for records that do not name one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        facts = {name: getattr(record, name, None) for name in _FACTS}
        facts["worker"] = facts["worker"] or self.worker
        line |= {name: fact for name, fact in facts.items() if fact is not None}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class WorkerName:
    """An observer that tells the log which worker this is."""

    def begin(self, worker: "Observed") -> None:
        """Note its id."""
        for formatter in _formatters():
            formatter.worker = worker.figures().worker

    def turn(self) -> None:
        """Nothing."""


def use_json_logs() -> None:
    """Send all log records of this process, from INFO on, to standard error as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def _uncaught(
    kind: type[BaseException], error: BaseException, trace: "TracebackType | None", where: str = "the process"
) -> None:
    logging.getLogger("sharpscope").critical(
        "%s ends by %s", where, kind.__name__, exc_info=(kind, error, trace)
    )


def _uncaught_in_thread(thrown: threading.ExceptHookArgs) -> None:
    if thrown.exc_value is not None:
        where = f"thread {thrown.thread.name if thrown.thread else ''}"
        _uncaught(thrown.exc_type, thrown.exc_value, thrown.exc_traceback, where)


def logs_are_json() -> bool:
    """Return whether `use_json_logs` was called."""
    return bool(_formatters())


def _formatters() -> list[JsonLines]:
    return [h.formatter for h in logging.getLogger().handlers if isinstance(h.formatter, JsonLines)]
