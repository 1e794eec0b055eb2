"""Pairs scans of the imperfect virtual wide-field stand and holds the registration against the known truth.

    python bench/registration.py [--json] [--write bench/results/registration.md] [--seeds 7 8] [--regions 4]

Each seed is another specimen, another stage and another pair of distortions, with every imperfection of
`bench/autofocus.py`; the drift runs by the stand's clock, which is the sum of all exposures. The scan is
focused, acquired and paired as by the command line.

The residual of a pixel of the high plane is a distance in the specimen, in pixels of the high image: from the
point at which the low camera's pixel truly looks (on the grid of the high image) to the point at which the
high camera truly looks where the pairing took its value from. Both follow from the stand's geometry for the
very exposures of the scan (stage error, backlash, drift, parcentric and chromatic shift, rotation, both
distortions), of one channel at a time, so that nothing is estimated from images. Where tiles are blended, it
is the root mean square over them, by their weights: two tiles that err to opposite sides do not cancel.

A pixel counts as specimen where the noise-free high image of its own channel, less the background, exceeds
`SPECIMEN_SHARE` of that image's 99.9th percentile. `without` is the global match alone.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from autofocus import IMPERFECTIONS, SENSOR
from output import bench_parser, publish

from acquisition.area import Area, HighTiles, RegionGrid
from acquisition.manifest import FieldRecord, ScanFolder
from acquisition.plan import Experiment, load_experiment
from acquisition.scan import run_scan
from acquisition.virtual import EndothelialCells, Frame, Sensor, Stand, load, stand_of
from training.pairing.build import pair_scan
from training.pairing.field_pairing import Crop, Findings, pair_field
from training.pairing.light import survey
from training.pairing.orientation import ALIGNED
from training.pairing.registration import Registration
from training.pairing.sampling import FloatArray
from training.pairing.scan_source import read_scan
from training.pairing.settings import PairingSettings

if TYPE_CHECKING:
    from collections.abc import Callable

RMS_BOUND_PX, HIGH_BOUND_PX = 0.08, 0.15
"""Of the residual on specimen pixels: root mean square, and 95th percentile."""
SPECIMEN_SHARE = 0.1
OBJECTIVES = {"low": "10X", "high": "20X"}
ELASTIC, WITHOUT = "elastic", "without"
SETTINGS = {ELASTIC: PairingSettings(), WITHOUT: PairingSettings(alignment="drift")}


class Witness:
    """Remembers every exposure of a stand: what the camera was asked, and when."""

    def __init__(self, stand: Stand) -> None:
        self.frames: list[tuple[Frame, float]] = []
        self._seen: Callable[[Frame, float], Any] = stand.expected_electrons
        setattr(stand, "expected_electrons", self._expected_electrons)  # noqa: B010 - it stands in the way

    def _expected_electrons(self, frame: Frame, exposure_ms: float) -> Any:  # noqa: ANN401 - the stand's
        self.frames.append((frame, exposure_ms))
        return self._seen(frame, exposure_ms)

    def frame_of(self, field: FieldRecord, channel: str, exposure_ms: float) -> Frame:
        """Return the exposure that a committed field holds: the last that fits it."""
        place = (field.stage_x_um, field.stage_y_um, field.focus_um)
        for frame, exposed_ms in reversed(self.frames):
            same = frame.objective == OBJECTIVES[field.state] and frame.channel == channel
            here = np.allclose((*frame.stage_xy_um, frame.focus_um), place, atol=0.01)
            if same and here and np.isclose(exposed_ms, exposure_ms):
                return frame
        raise LookupError(f"no exposure of {channel} fits {field.file}")


@dataclass(frozen=True)
class Residual:
    """One pair of one channel against the truth."""

    seed: int
    region: int
    channel: str
    left_px: dict[str, FloatArray]
    """(N,) residuals on the specimen's pixels, with the elastic step and without."""
    specimen_fraction: float


def experiment(regions: int, tiles: int = 2) -> Experiment:
    """Return the shipped experiment over this many regions of tiles x tiles high tiles each."""
    shipped = load_experiment("virtual_widefield")
    grid = RegionGrid(rows=1, columns=regions, spacing_um=340.0)
    high_tiles = HighTiles(rows=tiles, columns=tiles, overlap=0.1)
    return shipped.model_copy(update={"area": Area(regions=grid, high_tiles=high_tiles)})


def scanned(
    seed: int, regions: int, path: Path, tiles: int = 2, sensor: Sensor = SENSOR
) -> tuple[Stand, Witness]:
    """Scan a specimen into a folder; return the stand and what its camera was asked."""
    core = load("widefield", seed=seed, source=EndothelialCells(seed), sensor=sensor, **IMPERFECTIONS)
    stand = stand_of(core)
    witness = Witness(stand)
    run_scan(experiment(regions, tiles), core, path)
    return stand, witness


def specimen_mask(stand: Stand, low: Frame, high_focus_um: float) -> np.ndarray:
    """Return where the noise-free high image of a channel stands out of its background, on the low grid."""
    image = stand.high_image_on_low_grid(
        low.channel, low.stage_xy_um, high_focus_um, 100.0, time_s=low.time_s, upwards_xy=low.upwards_xy
    )
    seen = Frame(OBJECTIVES["high"], low.channel, low.stage_xy_um, high_focus_um)
    light = stand._light_per_fluorophore(seen, 100.0)  # noqa: SLF001 - the background has no other name
    density = stand.channels[low.channel].background_per_um2 * stand.pixel_size_um(OBJECTIVES["high"]) ** 2
    signal = image - stand.sensor.expected_counts(np.float32(density * light))
    return np.asarray(signal > SPECIMEN_SHARE * np.quantile(signal, 0.999))


def residual_px(
    stand: Stand, low: Frame, high: list[Frame], registration: Registration, crop: Crop
) -> FloatArray:
    """Return how far apart low and high look, in high pixels, (Y, X) of the crop."""
    factor = registration.high.shape[0] // stand.sensor.shape_yx[0]
    pixel_um = stand.pixel_size_um(OBJECTIVES["high"])
    total, weights = np.zeros(registration.high.shape), np.zeros(registration.high.shape)
    for sampling in registration.samplings:
        # Pixel k of an array covers k to k + 1 of its frame, so its centre lies at k + 1/2.
        fine = [(np.arange(span.start, span.stop) + 0.5) / factor for span in sampling.window]
        rows, columns = sampling.positions_yx_px.astype(np.float64) + 0.5
        truly = stand._positions_um(low, fine[0][:, np.newaxis], fine[1])  # noqa: SLF001 - the truth itself
        taken = stand._positions_um(high[sampling.number], rows, columns)  # noqa: SLF001
        squared = sum(((b - a) / pixel_um) ** 2 for a, b in zip(truly, taken, strict=True))
        weight = np.where(sampling.edge_px >= 0, sampling.edge_px + 0.5, 0)  # as tiles are blended
        total[sampling.window] += weight * squared
        weights[sampling.window] += weight
    mean = np.divide(total, weights, out=np.full_like(total, np.nan), where=weights > 0)
    return crop.of(np.sqrt(mean).astype(np.float32))


def measure(seed: int, stand: Stand, witness: Witness, path: Path) -> list[Residual]:
    """Pair a scan and return the residuals of the pairs that were accepted."""
    pairs = pair_scan(path, path / "pairs").index.pairs
    accepted = {(pair.region, pair.channel) for pair in pairs if pair.accepted}
    for pair in pairs:
        if not pair.accepted:
            print(f"seed {seed}, {pair.file} is left out: {pair.reason}")
    scan, acquisition = ScanFolder.open(path), read_scan(path)
    lights = survey(acquisition, PairingSettings())
    orientation = acquisition.orientation or ALIGNED
    findings = Findings(tuple(lights[channel] for channel in acquisition.channels), orientation)
    residuals = []
    for view in acquisition.fields:
        frames = view.read()
        # Pairing again gives the same pairs to the bit, and here the sampling with them.
        paired = {
            name: pair_field(frames, acquisition.factor, settings, findings)
            for name, settings in SETTINGS.items()
        }
        fields = sorted(
            (f for f in scan.fields() if f.region == view.region), key=lambda f: (f.state, f.tile)
        )
        (low_field,) = [f for f in fields if f.state == "low"]
        tiles = [f for f in fields if f.state == "high"]
        for k, record in enumerate(scan.manifest.channels):
            pair, rigid = paired[ELASTIC][k], paired[WITHOUT][k]
            if (view.region, record.name) not in accepted or isinstance(pair, str) or isinstance(rigid, str):
                continue
            low = witness.frame_of(low_field, record.name, record.exposure_ms["low"])
            high = [witness.frame_of(tile, record.name, record.exposure_ms["high"]) for tile in tiles]
            mask = pair.crop.of(specimen_mask(stand, low, high[0].focus_um))
            left = {
                name: residual_px(stand, low, high, registration, pair.crop)[mask]
                for name, registration in (
                    (ELASTIC, pair.registration),
                    (WITHOUT, rigid.registration),
                )
            }
            residuals.append(Residual(seed, view.region, record.name, left, float(mask.mean())))
    return residuals


def figures(residuals: list[Residual]) -> dict[str, float]:
    """Return root mean square and 95th percentile over all specimen pixels, elastic and without."""
    found = {}
    for name in (ELASTIC, WITHOUT):
        left = np.concatenate([residual.left_px[name] for residual in residuals])
        left = left[np.isfinite(left)]
        found[f"{name}_rms_px"] = float(np.sqrt(np.mean(left**2)))
        found[f"{name}_p95_px"] = float(np.quantile(left, 0.95))
    return found


def rows(residuals: list[Residual]) -> list[dict[str, Any]]:
    """Return the figures of each seed and channel, then of each channel over all seeds."""
    seeds = sorted({residual.seed for residual in residuals})
    channels = list(dict.fromkeys(residual.channel for residual in residuals))
    groups = [(str(seed), [seed], channel) for seed in seeds for channel in channels]
    groups += [("all", seeds, channel) for channel in channels] if len(seeds) > 1 else []
    lines = []
    for name, chosen, channel in groups:
        these = [r for r in residuals if r.seed in chosen and r.channel == channel]
        if not these:
            continue
        left = figures(these)
        lines.append(
            {
                "seed": name,
                "channel": channel,
                "pairs": len(these),
                "specimen": float(np.mean([r.specimen_fraction for r in these])),
                **left,
                "holds": left["elastic_rms_px"] <= RMS_BOUND_PX and left["elastic_p95_px"] <= HIGH_BOUND_PX,
            }
        )
    return lines


def table(lines: list[dict[str, Any]]) -> str:
    """Return the figures as a table in Markdown."""
    head = "| seed | channel | pairs | specimen (%) | RMS (px) | 95 % (px) | without: RMS | 95 % | holds |"
    text = [head, "|---|" + "---|" * 8]
    for line in lines:
        text.append(
            f"| {line['seed']} | {line['channel']} | {line['pairs']} | {100 * line['specimen']:.0f} "
            f"| {line['elastic_rms_px']:.3f} | {line['elastic_p95_px']:.3f} "
            f"| {line['without_rms_px']:.3f} | {line['without_p95_px']:.3f} "
            f"| {'yes' if line['holds'] else 'no'} |"
        )
    return "\n".join(text)


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8])
    parser.add_argument("--regions", type=int, default=4)
    arguments = parser.parse_args()
    residuals: list[Residual] = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "scan"
            residuals += measure(seed, *scanned(seed, arguments.regions, path), path)
    lines = rows(residuals)
    bounds = f"Bounds with the elastic step: RMS {RMS_BOUND_PX} px, 95th percentile {HIGH_BOUND_PX} px."
    text = f"{table(lines)}\n\n{bounds}"
    publish(arguments, "Registration against the known truth, simulated", text, lines)


if __name__ == "__main__":
    main()
