"""Puts the frames of a field together, judges the field and commits it when the last channel is there.

Owns what becomes of everything that the engine gives: a field, a hole, a line of the journal. It writes in
the engine's thread: acquisition waits for the disk, and a disk that refuses ends the run. Knows no devices.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from acquisition.focus_score import gradient_energy
from acquisition.manifest import (
    BeginRecord,
    ExtraLightRecord,
    FieldQuality,
    FocusRecord,
    HoleRecord,
    ImagingState,
    ScanFolder,
    ShiftToLow,
)
from acquisition.plan import Experiment
from acquisition.quality import HighInLow, complaints, has_structure, measure, middle, shift_to_low
from acquisition.retries import Retry
from acquisition.sequences import FieldName, fields_of, state_of, take_of

if TYPE_CHECKING:
    from useq import MDASequence

    from acquisition.autofocus import FocusFailedError
    from acquisition.focusing import FoundPlane

__all__ = ["FieldAssembly"]

CountImage = np.ndarray[Any, np.dtype[np.uint16]]
Progress = Callable[[int, int], None]


class FieldAssembly:
    """The engine's receiver.

    Parameters
    ----------
    experiment
        With settled pixel sizes.
    planned
        Fields of the whole scan, for the progress.
    largest_count
        Count of a saturated pixel.
    geometry
        How the two states' pixels lie to each other.
    """

    def __init__(
        self,
        folder: ScanFolder,
        experiment: Experiment,
        planned: int,
        largest_count: int,
        geometry: HighInLow,
        progress: Progress | None = None,
    ) -> None:
        self._folder = folder
        self._experiment = experiment
        self._channels = [channel.name for channel in experiment.channels]
        self._planned = planned
        self._largest_count = largest_count
        self._geometry = geometry
        self._progress = progress
        self._committed = {(f.region, f.state, f.tile): f for f in folder.fields()}
        self._settled_keys = set(self._committed)
        self._takes = {
            (line.region, line.state, line.tile): line.take
            for line in folder.lines()
            if isinstance(line, BeginRecord)
        }
        self._state: ImagingState = "low"
        self._take = 1
        self._names: list[FieldName] = []
        self._frames: dict[int, dict[int, CountImage]] = {}
        self._planes: dict[int, FoundPlane] = {}
        self._settled: set[int] = set()
        self._low: tuple[str, CountImage] | None = None

    def to_take(self, sequence: "MDASequence", take: int) -> set[FieldName]:
        """Return the fields of a sequence to be taken for the `take`-th time: holes, and what is flagged.

        A field that was begun as often in an earlier part of the scan is left as it is.
        """
        state = state_of(sequence)
        chosen = set()
        for region, tile in fields_of(sequence):
            field = self._committed.get((region, state, tile))
            again = field is not None and field.flags and self._takes.get((region, state, tile), 1) < take
            if field is None or again:
                chosen.add((region, tile))
        return chosen

    def begin(self, sequence: "MDASequence") -> None:
        """Expect the fields of this sequence."""
        self._state, self._take = state_of(sequence), take_of(sequence)
        self._names = fields_of(sequence)
        for kept in (self._frames, self._planes, self._settled):
            kept.clear()

    def account(self) -> None:
        """Make a hole of every field that was neither committed nor given up."""
        for position in range(len(self._names)):
            if position not in self._settled:
                received = len(self._frames.get(position, {}))
                self.hole(position, f"only {received} of {len(self._channels)} channels arrived")

    # ---- what the engine gives -----------------------------------------------------------------------

    def begun(self, position: int) -> None:
        """Enter in the journal that light will fall."""
        region, tile = self._names[position]
        self._takes[region, self._state, tile] = self._take
        self._folder.log(BeginRecord(region=region, state=self._state, tile=tile, take=self._take))

    def focused(
        self, position: int, plane: "FoundPlane", stage_xy_um: tuple[float, float], light_ms: float
    ) -> None:
        """Enter a focus curve in the journal."""
        region, tile = self._names[position]
        self._planes[position] = plane
        self._folder.log(
            FocusRecord.model_validate(
                {
                    "region": region,
                    "state": self._state,
                    "tile": tile,
                    "succeeded": True,
                    "focus_um": plane.focus_um,
                    "curve": list(plane.curve),
                    "method": plane.method,
                    "found_um": plane.found.focus_um if plane.found is not None else None,
                    "error_um": plane.error_um or None,
                    "expected_um": plane.expected.focus_um,
                    "expected_uncertainty_um": plane.expected.uncertainty_um,
                    "stage_x_um": stage_xy_um[0],
                    "stage_y_um": stage_xy_um[1],
                    "light_ms": light_ms,
                }
            )
        )

    def focus_failed(self, position: int, failure: "FocusFailedError", light_ms: float) -> None:
        """Enter a failed focus in the journal, with its curve."""
        region, tile = self._names[position]
        self._folder.log(
            FocusRecord(
                region=region,
                state=self._state,
                tile=tile,
                succeeded=False,
                focus_um=None,
                reason=failure.reason,
                curve=list(failure.curve),
                light_ms=light_ms,
            )
        )

    def frame(
        self,
        position: int,
        channel: int,
        image: CountImage,
        stage_xy_um: tuple[float, float],
        focus_um: float,
    ) -> None:
        """Keep a frame in its channel's place; commit the field with its last."""
        frames = self._frames.setdefault(position, {})
        frames[channel] = image
        if len(frames) < len(self._channels):
            return
        field = np.stack([frames[index] for index in range(len(self._channels))])  # (C, Y, X)
        del self._frames[position]
        self._commit(position, field, stage_xy_um, focus_um)
        self._settle(position)

    def hole(self, position: int, reason: str) -> None:
        """Enter a hole in the journal."""
        region, tile = self._names[position]
        received = self._frames.pop(position, {})
        light_ms = sum(self._experiment.channels[channel].exposure_ms[self._state] for channel in received)
        self._folder.log(
            HoleRecord(region=region, state=self._state, tile=tile, reason=reason, light_ms=light_ms)
        )
        self._settle(position)

    def retried(self, position: int | None, retry: Retry) -> None:
        """Enter what was done twice in the journal, with its light."""
        region, tile = self._names[position] if position is not None else (None, None)
        self._folder.log(
            ExtraLightRecord(
                region=region,
                state=self._state,
                tile=tile,
                device=retry.device,
                reason=retry.reason,
                light_ms=retry.light_ms,
            )
        )

    # ---- committing ----------------------------------------------------------------------------------

    def _commit(
        self, position: int, field: CountImage, stage_xy_um: tuple[float, float], focus_um: float
    ) -> None:
        """Write a field with what is held against it; a second take that is no better is not written."""
        region, tile = self._names[position]
        key = (region, self._state, tile)
        quality = self._judge(position, field, stage_xy_um)
        flags = complaints(quality, self._experiment.quality, self._channels)
        before = self._committed.get(key)
        if before is not None and len(flags) >= len(before.flags):
            self.retried(position, Retry("field", "taken again, and no better", self._field_light_ms()))
            return
        self._committed[key] = self._folder.commit_field(
            field,
            region=region,
            state=self._state,
            tile=tile,
            stage_xy_um=stage_xy_um,
            focus_um=focus_um,
            take=self._take,
            quality=quality,
            flags=flags,
        )
        if self._state == "low":
            self._register_earlier(region)

    def _register_earlier(self, region: int) -> None:
        """Look for the high fields of a region that were taken before its low one."""
        channel = self._channels.index(self._experiment.focus.channel)
        for key, high in list(self._committed.items()):
            quality = high.quality
            if key[:2] != (region, "high") or quality is None or quality.registration is not None:
                continue
            image, place = self._folder.read_field(high)[channel], (high.stage_x_um, high.stage_y_um)
            found = self._place_in_low(region, image, place, channel)
            if found is not None:
                judged = quality.model_copy(update={"registration": found})
                flags = complaints(judged, self._experiment.quality, self._channels)
                self._committed[key] = high.model_copy(update={"quality": judged, "flags": flags})
                self._folder.log(self._committed[key])

    def _field_light_ms(self) -> float:
        return sum(channel.exposure_ms[self._state] for channel in self._experiment.channels)

    def _judge(self, position: int, field: CountImage, stage_xy_um: tuple[float, float]) -> FieldQuality:
        focus_channel = self._channels.index(self._experiment.focus.channel)
        image = field[focus_channel]
        return measure(
            field,
            self._largest_count,
            has_structure(image),
            self._sharpness_ratio(self._planes.get(position), image),
            None
            if self._state == "low"
            else self._place_in_low(self._names[position][0], image, stage_xy_um, focus_channel),
        )

    def _sharpness_ratio(self, plane: "FoundPlane | None", image: CountImage) -> float | None:
        """Return how sharp the field is compared with the focus exposure of its plane."""
        if plane is None or plane.found is None:
            return None
        window = tuple(middle(side, self._experiment.focus.roi_px) for side in image.shape)
        energy = gradient_energy(image[window], plane.found.smoothing_px).energy
        exposure_ms = self._experiment.channel(self._experiment.focus.channel).exposure_ms[self._state]
        longer = exposure_ms / plane.exposure_ms
        return energy / (longer**2 * plane.found.best_energy)

    def _place_in_low(
        self, region: int, image: CountImage, stage_xy_um: tuple[float, float], channel: int
    ) -> ShiftToLow | None:
        """Compare a high field with the low one of its region, where that one is there already."""
        low = self._committed.get((region, "low", 0))
        if low is None:
            return None
        if self._low is None or self._low[0] != low.file:
            self._low = (low.file, self._folder.read_field(low)[channel])
        offset = (stage_xy_um[0] - low.stage_x_um, stage_xy_um[1] - low.stage_y_um)
        return shift_to_low(self._low[1], image, offset, self._geometry)

    def _settle(self, position: int) -> None:
        region, tile = self._names[position]
        self._settled.add(position)
        self._settled_keys.add((region, self._state, tile))
        if self._progress is not None:
            self._progress(len(self._settled_keys), self._planned)
