"""Which fields a scan folder will hold when it is whole, and where they lie, by its manifest alone.

Owns the reading of the plan that a manifest carries. Knows no journal: what became of the fields is
`acquisition.scan_chronicle`'s.
"""

from dataclasses import dataclass

from pydantic import ValidationError

from acquisition.manifest import FieldKey, ImagingState, Manifest
from acquisition.plan import Experiment
from acquisition.sequences import fields_of, paired_scan_sequences, state_of
from configs.document import WrongInputError

__all__ = ["PlannedFields", "frame_shape_of_plan", "outline_um", "planned_fields"]

Places = dict[FieldKey, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class PlannedFields:
    """The fields in the order in which they are taken, and their stage positions (um)."""

    places_um: Places
    unknown_because: str | None = None
    """Why the plan cannot be read, where it cannot."""


def planned_fields(manifest: Manifest, frame_shape_yx: tuple[int, int] | None) -> PlannedFields:
    """Return what the manifest's plan says.

    Parameters
    ----------
    frame_shape_yx
        Pixels of a field; None where none is known yet: the high tiles then lie where the low field does.
    """
    try:
        experiment = Experiment.model_validate(manifest.plan)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        return PlannedFields({}, f"the manifest's plan is of another version ('{where}')")
    states = {
        state: settings.model_copy(update={"pixel_size_um": manifest.objectives[state].pixel_size_um})
        for state, settings in experiment.states.items()
    }
    settled = experiment.model_copy(update={"states": states})
    try:
        sequences = paired_scan_sequences(settled, frame_shape_yx or (1, 1))
    except WrongInputError as error:
        return PlannedFields({}, str(error))
    places: Places = {}
    for sequence in sequences:
        state = state_of(sequence)
        for position, (region, tile) in zip(sequence.stage_positions, fields_of(sequence), strict=True):
            places[region, state, tile] = (position.x or 0.0, position.y or 0.0)
    return PlannedFields(places)


def frame_shape_of_plan(manifest: Manifest) -> tuple[int, int] | None:
    """Return the camera's pixels where the plan says them: of a virtual stand."""
    choice = manifest.plan.get("microscope")
    if not isinstance(choice, dict) or not choice.get("virtual"):
        return None
    shape = choice.get("camera_shape_yx")
    return (int(shape[0]), int(shape[1])) if isinstance(shape, list | tuple) and len(shape) == 2 else None


def outline_um(
    manifest: Manifest, state: ImagingState, frame_shape_yx: tuple[int, int]
) -> list[tuple[float, float]]:
    """Return the corners of a field around its stage position, (x, y) um, by the camera's affine."""
    xx, xy, _, yx, yy, _ = manifest.objectives[state].pixel_size_affine
    half_y, half_x = (side / 2 for side in frame_shape_yx)
    corners = ((-half_x, -half_y), (half_x, -half_y), (half_x, half_y), (-half_x, half_y))
    return [(xx * x + xy * y, yx * x + yy * y) for x, y in corners]
