"""The panel of a training run, finished or running: its curves and its latest picture.

Owns the JSON of the curves and which picture has which name. Follows `history.jsonl`; one that was cut by a
roll-back is read again. Knows no network, and loads none. Satisfies `inference.viewer.panel.Panel`.
"""

import math
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import Any

from pydantic import BaseModel

from configs.document import read_json
from inference.journal_follower import JournalFollower
from training.run_history import GENERATOR_TERMS, series, shares, trend

__all__ = ["TrainingPanel"]

PLAN, HISTORY, PICTURE, MODEL = "training.json", "history.jsonl", "progress.png", "model.zip"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_POINTS = 2000
"""Of a curve that is drawn; a longer history is thinned evenly."""
ABSCISSAE = ("iteration", "seconds")
LABELS = {"discriminator": "discriminator", "validation": "validation loss"} | GENERATOR_TERMS


class RunPlan(BaseModel, frozen=True, extra="ignore"):
    """What the panel says of a TRAINING.yaml; `training.settings` owns the rest, and loads torch."""

    name: str
    channel: str
    iterations: int
    minutes: float | None = None
    validate_every: int | None = None


class TrainingPanel:
    """A run folder on the page; safe for several threads.

    Parameters
    ----------
    folder
        That `sharpscope train` wrote or is writing; raises WrongInputError when it is none.
    name
        In the URL, where a page has several of the kind.
    """

    def __init__(self, folder: Path, name: str = "training") -> None:
        self.name = name
        self._folder = folder
        remedy = "give the folder that 'sharpscope train' wrote"
        self._plan = read_json(folder / PLAN, RunPlan, what="a training run", remedy=remedy)
        called = folder.absolute().name
        self.title = "Training" if called == "run" else f"Training {called}"
        self._lock = RLock()
        self._journal = JournalFollower(folder / HISTORY)
        self._history: list[dict[str, float]] = []

    def version(self) -> str:
        """Return what changes with every line, every picture, and the model at the end."""
        with self._lock:
            self._follow()
            return f"{self._journal.mark}.{_stamp(self._folder / PICTURE)}.{_stamp(self._folder / MODEL)}"

    def content(self) -> dict[str, Any]:
        """Return the whole panel as JSON; `kind` is "training", each curve has its own x."""
        with self._lock:
            self._follow()
            history = self._history
            picture = self._picture_name()
            return {
                "kind": "training",
                "folder": self._folder.absolute().name,
                "name": self._plan.name,
                "channel": self._plan.channel,
                "budget": {"iterations": self._plan.iterations, "minutes": self._plan.minutes},
                "progress": _progress(history, self._plan),
                "finished": (self._folder / MODEL).exists(),
                "latest": _written(self._folder / HISTORY),
                "best": _best(history),
                "trend": trend(series(history, "validation")[1]).value,
                "shares": {GENERATOR_TERMS[name]: round(part, 4) for name, part in shares(history).items()},
                "curves": _curves(history),
                "pictures": []
                if picture is None
                else [{"name": picture, "title": "progress of a fixed field"}],
                "unreadable_lines": self._journal.unreadable,
            }

    def picture(self, name: str) -> bytes:
        """Return the run's latest progress picture as PNG; KeyError for any other name."""
        if name != self._picture_name():
            raise KeyError(name)
        try:
            picture = (self._folder / PICTURE).read_bytes()
        except OSError as error:
            raise KeyError(name) from error
        if not picture.startswith(PNG_SIGNATURE):
            raise KeyError(f"{name} is no PNG")
        return picture

    def _follow(self) -> None:
        news = self._journal.news()
        if news.from_start:
            self._history = []
        for line in news.lines:
            numbers = _numbers(line)
            if "iteration" in numbers:
                self._history.append(numbers)

    def _picture_name(self) -> str | None:
        stamp = _stamp(self._folder / PICTURE)
        return f"progress_{stamp}" if stamp else None


def _numbers(line: dict[str, Any]) -> dict[str, float]:
    """Return the finite numbers of a line: what else stands there cannot be drawn."""
    return {
        name: value
        for name, value in line.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def _stamp(path: Path) -> str:
    try:
        facts = path.stat()
    except OSError:
        return ""
    return f"{facts.st_mtime_ns:x}-{facts.st_size:x}"


def _written(path: Path) -> str | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
    except OSError:
        return None


def _progress(history: list[dict[str, float]], plan: RunPlan) -> dict[str, Any]:
    """Return how much of the budget is spent, and how long the rest takes at the pace so far."""
    last = history[-1] if history else {}
    iteration, seconds = last.get("iteration", 0), last.get("seconds", 0.0)
    spent = iteration / plan.iterations
    if plan.minutes:
        spent = max(spent, seconds / (60 * plan.minutes))
    spent = min(spent, 1.0)
    return {
        "iteration": iteration,
        "seconds": seconds,
        "spent": round(spent, 4),
        "left_s": round(seconds * (1 - spent) / spent, 1) if spent else None,
    }


def _best(history: list[dict[str, float]]) -> dict[str, float] | None:
    validated = [line for line in history if "validation" in line]
    if not validated:
        return None
    best = min(validated, key=lambda line: line["validation"])
    return {"iteration": best["iteration"], "validation": best["validation"]}


def _curves(history: list[dict[str, float]]) -> list[dict[str, Any]]:
    """Return every quantity of the lines as a curve, in the order in which they appeared."""
    names = list(dict.fromkeys(name for line in history for name in line))
    return [_curve(history, name) for name in names if name not in ABSCISSAE]


def _curve(history: list[dict[str, float]], name: str) -> dict[str, Any]:
    lines = [line for line in history if name in line]
    stride = -(-len(lines) // MOST_POINTS)
    lines = lines[(len(lines) - 1) % stride :: stride]  # the last one stays
    return {
        "name": name,
        "label": LABELS.get(name, name.replace("_", " ")),
        "chart": _chart(name),
        "iterations": [line["iteration"] for line in lines],
        "seconds": [line.get("seconds") for line in lines],
        "values": [line[name] for line in lines],
    }


def _chart(name: str) -> str:
    """Return on which axes a quantity is drawn: what has one unit lies together."""
    if name.endswith("_weight"):
        return "weights"
    if name in GENERATOR_TERMS:
        return "generator"
    if name in ("discriminator", "validation"):
        return name
    for measure in ("ssim", "psnr", "ncc"):
        if measure in name:
            return measure
    return "others"
