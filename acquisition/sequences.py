"""From an experiment to `useq.MDASequence`s: which field is visited when, in which imaging state.

Owns the order of a scan, the layout of the high tiles inside a region, and what a sequence's metadata says of
its fields. Knows no devices and no files: an experiment comes in, sequences go out.
"""

from collections.abc import Collection, Sequence
from pathlib import Path

import useq

from acquisition.area import Area, serpentine
from acquisition.manifest import ImagingState
from acquisition.plan import ChannelSettings, Experiment, TimeLapse
from configs.document import WrongInputError
from inference.journal import write_atomic

__all__ = [
    "FieldName",
    "fields_of",
    "paired_scan_sequences",
    "state_of",
    "take_of",
    "time_lapse_sequence",
    "with_fields",
    "write_sequences",
]

FieldName = tuple[int, int]
"""(region, tile) inside an imaging state."""

_METADATA = "sharpscope"


def paired_scan_sequences(
    experiment: Experiment,
    frame_shape_yx: tuple[int, int],
    parcentric_um: tuple[float, float] = (0.0, 0.0),
) -> list[useq.MDASequence]:
    """Return one sequence for each stretch between two turns of the objective, in the order of running.

    Every field is a stage position of its own with an absolute place, never a grid around one: so that each
    has its own autofocus.

    Parameters
    ----------
    frame_shape_yx
        Pixels of the camera, which decide how far apart the high tiles lie.
    parcentric_um
        Where the high objective's centre lies in the specimen, seen from the low one's; the high tiles are
        moved the other way, so that they show what the low field shows.

    Raises
    ------
    WrongInputError
        The experiment has no area, the high tiles would leave the low field, or a stage position lies outside
        the stage's window.
    """
    if experiment.area is None:
        raise WrongInputError("the experiment has no 'area' to scan; add one (regions or positions)")
    centres = experiment.area.centres_um()
    tiles = _tile_offsets_um(experiment, experiment.area, frame_shape_yx)
    off_x_um, off_y_um = parcentric_um
    offsets = {"low": [(0.0, 0.0)], "high": [(x_um - off_x_um, y_um - off_y_um) for x_um, y_um in tiles]}
    sequences = []
    for state, regions in _stretches(experiment.objective_change, len(centres)):
        positions, names = [], []
        for region in regions:
            for tile, (dx_um, dy_um) in enumerate(offsets[state]):
                x_um, y_um = centres[region]
                name = f"region{region:04d}_{state}_tile{tile:02d}"
                positions.append(useq.Position(x=x_um + dx_um, y=y_um + dy_um, name=name))
                names.append((region, tile))
        sequences.append(_sequence(experiment, state, positions, names))
    _check_travel(experiment, [position for sequence in sequences for position in sequence.stage_positions])
    return sequences


def _check_travel(experiment: Experiment, positions: list[useq.Position]) -> None:
    """Raise WrongInputError that names the first stage position outside the stage's window."""
    window = experiment.stage_window_um
    if window is None:
        return
    for position in positions:
        for axis, place, (low, high) in (("x", position.x, window.x_um), ("y", position.y, window.y_um)):
            if place is None or not low <= place <= high:
                msg = (
                    f"{position.name} lies at {axis} = {place} um, outside stage_window_um.{axis}_um "
                    f"({low:g} to {high:g}); move the area, or widen the window if the stage can go there"
                )
                raise WrongInputError(msg)


def time_lapse_sequence(experiment: Experiment) -> useq.MDASequence:
    """Return the time-lapse as a sequence.

    It moves nothing and focuses nothing, unless the experiment asks for it: then it has an autofocus at each
    visit, for the engine of `acquisition.focus_keeping`.

    Raises
    ------
    WrongInputError
        The experiment has no time_lapse, or a position lies outside the stage's window.
    """
    lapse = experiment.time_lapse
    if lapse is None:
        raise WrongInputError("the experiment has no 'time_lapse'; add one (frames, interval_s, channel)")
    sequence = useq.MDASequence(
        axis_order="tpc",
        channels=tuple(_useq_channel(experiment.channel(name), lapse.state) for name in lapse.channels),
        time_plan=useq.TIntervalLoops(interval=lapse.interval_s, loops=lapse.frames),
        metadata={_METADATA: {"state": lapse.state}},
    )
    if not lapse.focused:
        return sequence
    positions = [useq.Position(x=x_um, y=y_um, name=name) for name, (x_um, y_um) in _places(lapse)]
    _check_travel(experiment, positions)
    return sequence.replace(
        stage_positions=tuple(positions) or (useq.Position(),),
        autofocus_plan=useq.AxesBasedAF(axes=("t", "p")),
    )


def _places(lapse: TimeLapse) -> list[tuple[str, tuple[float, float]]]:
    return [(position.name, position.xy_um) for position in lapse.positions]


def state_of(sequence: useq.MDASequence) -> ImagingState:
    """Return the imaging state that a sequence of this module runs in."""
    state: ImagingState = sequence.metadata[_METADATA]["state"]
    return state


def fields_of(sequence: useq.MDASequence) -> list[FieldName]:
    """Return (region, tile) of each stage position of a paired scan's sequence."""
    return [(region, tile) for region, tile in sequence.metadata[_METADATA]["fields"]]


def write_sequences(sequences: Sequence[useq.MDASequence], folder: Path) -> list[Path]:
    """Write sequences as YAML files, numbered in the order of running, for other programs that know useq.

    They hold the stage positions, channels and the autofocus plan; who runs them elsewhere must bring an
    engine that focuses, and turn the objective between two files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, sequence in enumerate(sequences):
        path = folder / f"{number:03d}_{state_of(sequence)}.yaml"
        write_atomic(path, sequence.yaml() or "")
        paths.append(path)
    return paths


def take_of(sequence: useq.MDASequence) -> int:
    """Return how often the fields of a sequence will have been taken with it."""
    return int(sequence.metadata[_METADATA]["take"])


def with_fields(
    sequence: useq.MDASequence, fields: Collection[FieldName], take: int = 1
) -> useq.MDASequence | None:
    """Return a paired scan's sequence with some of its fields only; None when none is among them."""
    places = zip(sequence.stage_positions, fields_of(sequence), strict=True)
    kept = [(position, name) for position, name in places if name in fields]
    if not kept:
        return None
    positions, names = zip(*kept, strict=True)
    metadata = {_METADATA: sequence.metadata[_METADATA] | {"fields": list(names), "take": take}}
    return sequence.replace(stage_positions=positions, metadata=metadata, autofocus_plan=_focus_everywhere())


def _sequence(
    experiment: Experiment, state: ImagingState, positions: list[useq.Position], names: list[FieldName]
) -> useq.MDASequence:
    return useq.MDASequence(
        axis_order="pc",
        stage_positions=tuple(positions),
        channels=tuple(_useq_channel(channel, state) for channel in experiment.channels),
        autofocus_plan=_focus_everywhere(),
        metadata={_METADATA: {"state": state, "fields": names, "take": 1}},
    )


def _focus_everywhere() -> useq.AxesBasedAF:
    """Return a plan of its own for each sequence.

    useq's remembers the last position that it saw, and asks for no autofocus there when it is run again.
    """
    return useq.AxesBasedAF(axes=("p",))


def _useq_channel(channel: ChannelSettings, state: ImagingState) -> useq.Channel:
    return useq.Channel(group=channel.group, config=channel.config, exposure=channel.exposure_ms[state])


def _stretches(objective_change: str, regions: int) -> list[tuple[ImagingState, list[int]]]:
    """Return which regions are imaged in which state between two turns; as few turns as possible."""
    if objective_change == "per_scan":
        return [("low", list(range(regions))), ("high", list(range(regions)))]
    stretches: list[tuple[ImagingState, list[int]]] = []
    for region in range(regions):
        order: tuple[ImagingState, ImagingState] = ("low", "high") if region % 2 == 0 else ("high", "low")
        stretches += [(state, [region]) for state in order]
    return stretches


def _tile_offsets_um(
    experiment: Experiment, area: Area, frame_shape_yx: tuple[int, int]
) -> list[tuple[float, float]]:
    """Return the high tiles' centres around the region's, and check that the low field covers them."""
    tiles = area.high_tiles
    low_um, high_um = (
        [length * experiment.states[state].pixel_um for length in frame_shape_yx] for state in ("low", "high")
    )
    step_y_um, step_x_um = ((1 - tiles.overlap) * side for side in high_um)
    mosaic_um = ((tiles.rows - 1) * step_y_um + high_um[0], (tiles.columns - 1) * step_x_um + high_um[1])
    if mosaic_um[0] > low_um[0] or mosaic_um[1] > low_um[1]:
        msg = (
            f"area.high_tiles: {tiles.rows} x {tiles.columns} tiles span {mosaic_um[0]:.0f} x "
            f"{mosaic_um[1]:.0f} um, more than the low field of {low_um[0]:.0f} x {low_um[1]:.0f} um; "
            "take fewer tiles or more overlap"
        )
        raise WrongInputError(msg)
    return serpentine(tiles.rows, tiles.columns, (step_x_um, step_y_um), (0.0, 0.0))
