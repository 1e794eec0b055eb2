"""Scores a model on a pair set's test split, beside every other way to restore the low image.

Owns which fields are scored, the choice of truth (the noise-free image where the pair set has one, else the
acquired one; the result says which), and the figures of all fields. Fields that the model, or one it began
with, was trained on are refused. Draws nothing and writes nothing: `training.evaluation.report` does.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from os import cpu_count
from threading import Lock
from typing import Any, Literal

import numpy as np
import torch

from configs.document import WrongInputError
from inference.engine import Engine
from training.evaluation.field_view import FieldView, Measured, measure_image
from training.evaluation.figures import Figure, NotMeasured, mean_of
from training.evaluation.not_measurable import NotMeasurableError
from training.evaluation.restorations import METHODS, Method, Network, Restorations
from training.evaluation.second_acquisition import second_of
from training.pairing.pairs import PairRecord, PairSet

__all__ = [
    "Evaluation",
    "FieldEvaluation",
    "FieldImages",
    "Row",
    "evaluate",
    "evaluate_network",
    "images_of",
    "refuse_known",
    "test_records",
]

FloatImage = np.ndarray[Any, np.dtype[np.float32]]
Row = Method | Literal["truth"]
MOST_FIELDS_AT_ONCE = 4
"""A field of 1024 x 1024 px takes 0.4 GB while it is measured."""
NO_IMAGE = NotMeasured("there is no such image")
ITSELF = NotMeasured("it is the truth itself")


@dataclass(frozen=True, slots=True)
class FieldImages:
    """All images of one field, on the network's scale and the high pixel grid."""

    view: FieldView
    images: Mapping[Method, FloatImage]
    """(Y, X) each. `second` shows `second_window` alone."""
    second_window: tuple[slice, slice] | None
    why_no_second: str = ""
    """Where a set of second acquisitions is given and has none of this field."""


@dataclass(frozen=True, slots=True)
class FieldEvaluation:
    """One test field and what was measured of its images."""

    record: PairRecord
    measured: Mapping[Row, Measured]
    why_no_second: str = ""

    def figure(self, method: Row, column: str) -> Figure:
        """Return one figure, or why it cannot be had."""
        if method not in self.measured:
            return NO_IMAGE
        return self.measured[method].figures.get(column, ITSELF)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All test fields of one channel."""

    channel: str
    model_name: str
    model_hash: str
    truth: Literal["noise-free", "acquired"]
    fields: list[FieldEvaluation]
    restorations: Restorations
    pixel_size_um: float | None
    left_out: Mapping[str, str]
    """Why a test pair was not accepted into the set, by its file: what the gate left out."""

    @property
    def methods(self) -> list[Method]:
        """Those of which there is an image, in the order of a table."""
        return [m for m in METHODS if any(m in field.measured for field in self.fields)]

    def mean(self, method: Row, column: str) -> Figure:
        """Return a figure's mean over the fields where it could be measured."""
        return mean_of([field.figure(method, column) for field in self.fields])

    def ranked(self) -> list[FieldEvaluation]:
        """Return the fields from the best to the worst, by the model's SSIM; unmeasurable ones last."""

        def key(field: FieldEvaluation) -> float:
            ssim = field.figure("enhanced", "ssim")
            return np.inf if isinstance(ssim, NotMeasured) else -ssim

        return sorted(self.fields, key=key)


def evaluate(
    engine: Engine,
    pair_set: PairSet,
    *,
    second: PairSet | None = None,
    search: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a model on every test pair of its channel.

    Parameters
    ----------
    second
        The same low files paired with a second acquisition of their high images.
    search
        Whether Lucy-Richardson's one setting is searched, which takes half a minute a field; else it is the
        paper's ten iterations.

    Raises
    ------
    WrongInputError
        There is no test pair of the model's channel, the model has another scale factor, or it was trained
        on one of the test fields.
    """
    records = test_records(pair_set, engine.channel, engine.factor)
    refuse_known(engine, pair_set, records)
    restorations = Restorations.of(pair_set.index, engine.channel)
    if search:
        restorations = restorations.searched(_Fields(pair_set, records))
    return evaluate_network(engine, pair_set, records, restorations, second=second, progress=progress)


def evaluate_network(
    network: Network,
    pair_set: PairSet,
    records: Sequence[PairRecord],
    restorations: Restorations,
    *,
    second: PairSet | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a network on these pairs, whatever they are; see `evaluate`."""
    shared, fields = _OneAtATime(network), []

    def evaluated(record: PairRecord) -> FieldEvaluation:
        images = images_of(shared, pair_set, record, restorations, second)
        return FieldEvaluation(record, _measured(images), images.why_no_second)

    cores = cpu_count() or 1
    at_once = min(cores, MOST_FIELDS_AT_ONCE, len(records))
    with _threads_each(max(1, cores // at_once)), ThreadPoolExecutor(at_once) as pool:
        for field in pool.map(evaluated, records):
            fields.append(field)
            if progress:
                progress(len(fields), len(records))
    channel = records[0].channel
    return Evaluation(
        channel=channel,
        model_name=network.name,
        model_hash=network.model_hash,
        truth="noise-free" if all(record.truth is not None for record in records) else "acquired",
        fields=fields,
        restorations=restorations,
        pixel_size_um=pair_set.index.optics.high_pixel_size_um,
        left_out=_left_out(pair_set, channel),
    )


def images_of(
    network: Network,
    pair_set: PairSet,
    record: PairRecord,
    restorations: Restorations,
    second: PairSet | None = None,
) -> FieldImages:
    """Return every image of a field; made anew, since those of a whole split would fill the memory."""
    low, acquired = pair_set.read(record)
    truth = _truth(pair_set, record, acquired)
    images = restorations.images(network, low, truth)
    other = None if record.truth is None else acquired
    if other is not None:
        images["acquired"] = other
    window, why = None, ""
    if second is not None:
        try:
            found = second_of(record, pair_set, second)
            images["second"], window = found.image, found.window
        except NotMeasurableError as error:
            why = str(error)
    view = FieldView.of(low, truth, pair_set.index.optics, record.channel, other)
    return FieldImages(view, images, window, why)


def test_records(pair_set: PairSet, channel: str, factor: int) -> list[PairRecord]:
    """Return the accepted test pairs of a channel; raises WrongInputError where there is none that fits."""
    index = pair_set.index
    if factor != index.factor:
        msg = f"the model enlarges {factor} times, the pairs of {pair_set.path} {index.factor} times"
        raise WrongInputError(msg)
    records = pair_set.select("test", channel)
    if not records:
        msg = f"{pair_set.path} has no test pair of channel '{channel}'; pair more regions"
        raise WrongInputError(msg)
    return records


class _Fields(Sequence[tuple[FloatImage, FloatImage]]):
    """(low, truth) of records, read when they are looked at."""

    def __init__(self, pair_set: PairSet, records: list[PairRecord]) -> None:
        self._pair_set, self._records = pair_set, records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - as Sequence has it
        record = self._records[index]
        low, acquired = self._pair_set.read(record)
        return low, _truth(self._pair_set, record, acquired)


def refuse_known(engine: Engine, pair_set: PairSet, records: Sequence[PairRecord]) -> None:
    """Raise WrongInputError where a model was trained on a field that it is to be scored on."""
    known = engine.package.trained_on
    seen = [record.file for record in records if known.intersection(record.sources.values())]
    if seen:
        named = ", ".join(seen[:3]) + (" ..." if len(seen) > 3 else "")
        msg = (
            f"{engine.name} was trained on {len(seen)} of the {len(records)} test field(s) of "
            f"{pair_set.path} ({named}), which would flatter it; evaluate it on fields that it never saw"
        )
        raise WrongInputError(msg)


def _truth(pair_set: PairSet, record: PairRecord, acquired: FloatImage) -> FloatImage:
    """Return the best known truth on the network's scale."""
    counts = pair_set.read_truth(record)
    if counts is None:
        return acquired
    return counts * np.float32(pair_set.index.normalisation[record.channel].high.scale)


def _measured(images: FieldImages) -> dict[Row, Measured]:
    """Measure every image of a field."""
    views = dict.fromkeys(images.images, images.view)
    if images.second_window is not None:
        views["second"] = images.view.within(images.second_window)
    found: dict[Row, Measured] = {
        name: measure_image(image, views[name]) for name, image in images.images.items()
    }
    return found | {"truth": measure_image(images.view.truth, images.view, is_truth=True)}


class _OneAtATime:
    """A network that several threads may ask."""

    def __init__(self, network: Network) -> None:
        self._network, self._lock = network, Lock()
        self.name, self.model_hash = network.name, network.model_hash
        self.factor, self.channel = network.factor, network.channel

    def run_network(self, prepared: FloatImage) -> FloatImage:
        """Return the output (Y, X) for an input (Y, X), both on the scale of 0 to 255."""
        with self._lock:
            return self._network.run_network(prepared)


@contextmanager
def _threads_each(count: int) -> Iterator[None]:
    """Let torch compute with so many threads: fields side by side use cores better than threads of one."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _left_out(pair_set: PairSet, channel: str) -> dict[str, str]:
    """Return why test pairs of a channel were not accepted, by file."""
    return {
        pair.file: pair.reason or ""
        for pair in pair_set.index.pairs
        if pair.split == "test" and pair.channel == channel and not pair.accepted
    }
