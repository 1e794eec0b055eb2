"""Our registration beside three others, on the same virtual pairs, in one run.

    python bench/registration_peers.py [--json] [--write bench/results/registration-peers.md] [--seeds 7 8]

A camera of 1024 x 1024 px, the imperfections of `bench/autofocus.py`, and one high tile a region. Each method
is given one channel: the high tile, and as much of the low frame as lies under it, 512 x 512 px. The others
get their best chance: the low image upsampled, the high one blurred to its bandwidth, both on one scale,
started within a pixel of where the stage says; and several settings, of which the best counts.

The residual is that of `bench/registration.py`: how far apart the two cameras truly looked where a method
says that they show the same, in pixels of the high image, on the specimen. All methods run in turn on each
pair; what counts of the times is their ratio.
"""

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from autofocus import SENSOR
from output import bench_parser, publish
from registration import Witness, scanned, specimen_mask
from scipy import ndimage
from skimage.registration import optical_flow_ilk, phase_cross_correlation

from acquisition.manifest import ScanFolder
from acquisition.virtual import Frame, Stand
from inference.preprocess import upsample
from training.pairing.global_match import coarse_match
from training.pairing.mosaic import Mosaic, grid
from training.pairing.registration import Registration, register
from training.pairing.sampling import FloatArray, Image
from training.pairing.scan_source import read_scan

FACTOR, SIDE_LOW_PX = 2, 512
BORDER_PX = 16
"""Left out all around: what has moved out of the other image cannot be matched by anybody."""
OURS = "sharpscope"
ILK_RADII_PX = (7, 15, 31)
NANOPYX_BLOCKS = (3, 5, 8, 12)
Field = FloatArray
"""(2, Y, X): the tile shows at q + field(q) what the upsampled low crop shows at q."""


@dataclass(frozen=True)
class Pair:
    """One channel of one region, cut to what the tile shows."""

    name: str
    low: Image
    tile: Image
    first_low_px: tuple[int, int]
    frames: tuple[Frame, Frame]


def pairs_of(path: Path, witness: Witness) -> list[Pair]:
    """Cut every field of a scan to the part that its one tile shows."""
    scan, acquisition = ScanFolder.open(path), read_scan(path)
    pairs = []
    for view in acquisition.fields:
        frames = view.read()
        fields = {field.state: field for field in scan.fields() if field.region == view.region}
        first = np.rint(frames.corners_yx_px[0] / FACTOR).astype(int)
        window = tuple(slice(start, start + SIDE_LOW_PX) for start in first)
        for k, channel in enumerate(scan.manifest.channels):
            seen = [
                witness.frame_of(fields[state], channel.name, channel.exposure_ms[state])
                for state in ("low", "high")
            ]
            low, tile = frames.low[k][window], frames.tiles[0][k]
            pairs.append(
                Pair(
                    f"{view.name} {channel.name}",
                    low,
                    tile,
                    (int(first[0]), int(first[1])),
                    (seen[0], seen[1]),
                )
            )
    return pairs


def ours(pair: Pair) -> Registration:
    """Register as pairing does."""
    mosaic = Mosaic((pair.tile,), np.zeros((1, 2)))
    return register(pair.low, mosaic, FACTOR, coarse_match(pair.low[np.newaxis], [mosaic], FACTOR))


def field_of(registration: Registration) -> Field:
    """Return where ours took its values from, less the grid itself."""
    (sampling,) = registration.samplings
    field = np.full((2, FACTOR * SIDE_LOW_PX, FACTOR * SIDE_LOW_PX), np.nan, np.float32)
    rows, columns = sampling.window
    places = grid(sampling.positions_yx_px.shape[1:], (rows.start, columns.start))
    field[:, rows, columns] = sampling.positions_yx_px - places
    return field


def peers(low: FloatArray, high: FloatArray) -> dict[str, Callable[[], Field]]:
    """Return what the others do with images on one grid and one scale."""
    methods: dict[str, Callable[[], Field]] = {"phase_cross_correlation": lambda: _one_shift(low, high)}
    for radius in ILK_RADII_PX:
        methods[f"optical_flow_ilk, radius {radius}"] = lambda radius=radius: np.asarray(
            optical_flow_ilk(low, high, radius=radius), dtype=np.float32
        )
    for blocks in NANOPYX_BLOCKS if _has_nanopyx() else ():
        methods[f"NanoPyx, {blocks} x {blocks} blocks"] = lambda blocks=blocks: _nanopyx(low, high, blocks)
    return methods


def _one_shift(low: FloatArray, high: FloatArray) -> Field:
    shift, _, _ = phase_cross_correlation(low, high, upsample_factor=100)
    return np.broadcast_to(-np.asarray(shift, np.float32)[:, None, None], (2, *low.shape))


def _has_nanopyx() -> bool:
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            import nanopyx.core.analysis._le_channel_registration  # noqa: F401
    except ImportError:
        return False
    return True


def _nanopyx(low: FloatArray, high: FloatArray, blocks: int) -> Field:
    from nanopyx.core.analysis._le_channel_registration import ChannelRegistrationEstimator

    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        masks = ChannelRegistrationEstimator(verbose=False).run(np.stack([low, high]), 0, 16, blocks, 0.3)
    along_x, along_y = np.split(np.asarray(masks)[1], 2, axis=1)  # (Y, X) each
    return -np.stack([along_y, along_x])


def one_scale(image: FloatArray) -> FloatArray:
    """Return an image less its median, over its 99.9th percentile."""
    above = image - np.median(image)
    return np.asarray(above / np.quantile(above, 0.999), dtype=np.float32)


def residual_px(stand: Stand, pair: Pair, field: Field, mask: np.ndarray) -> np.ndarray:
    """Return the distance of where low and high truly looked, in high pixels, on the specimen."""
    places = grid(field.shape[1:])
    rows, columns = (
        (np.arange(n) + 0.5) / FACTOR + first
        for n, first in zip(field.shape[1:], pair.first_low_px, strict=True)
    )
    low, high = pair.frames
    truly = stand._positions_um(low, rows[:, np.newaxis], columns)  # noqa: SLF001 - the truth itself
    taken = stand._positions_um(high, *(places + field + 0.5).astype(np.float64))  # noqa: SLF001
    pixel_um = stand.pixel_size_um("20X")
    distance = np.hypot(*((b - a) / pixel_um for a, b in zip(truly, taken, strict=True)))
    inner = mask.copy()
    inner[:BORDER_PX] = inner[-BORDER_PX:] = inner[:, :BORDER_PX] = inner[:, -BORDER_PX:] = False
    return np.asarray(distance[inner & np.isfinite(distance)])


def measure(seeds: list[int], regions: int) -> dict[str, dict[str, list[Any]]]:
    """Return residuals and seconds of every method on every pair."""
    found: dict[str, dict[str, list[Any]]] = defaultdict(lambda: {"residual_px": [], "s": []})
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            sensor = SENSOR.of_shape((FACTOR * SIDE_LOW_PX, FACTOR * SIDE_LOW_PX))
            stand, witness = scanned(seed, regions, Path(folder) / "scan", tiles=1, sensor=sensor)
            for pair in pairs_of(Path(folder) / "scan", witness):
                _measure(stand, pair, found)
    return found


def _measure(stand: Stand, pair: Pair, found: dict[str, dict[str, list[Any]]]) -> None:
    low, high = pair.frames
    whole = specimen_mask(stand, low, high.focus_um)
    window = tuple(slice(FACTOR * k, FACTOR * (k + SIDE_LOW_PX)) for k in pair.first_low_px)
    mask = whole[window]
    registration = ours(pair)
    fine = one_scale(upsample(pair.low.astype(np.float32), FACTOR))
    blurred = one_scale(ndimage.gaussian_filter(pair.tile.astype(np.float32), registration.blur_px))
    methods: dict[str, Callable[[], Any]] = {OURS: lambda: ours(pair), **peers(fine, blurred)}
    for name, method in methods.items():
        began = time.perf_counter()
        answer = method()
        found[name]["s"].append(time.perf_counter() - began)
        field = field_of(answer) if name == OURS else answer
        found[name]["residual_px"].append(residual_px(stand, pair, field, mask))


def rows(found: dict[str, dict[str, list[Any]]]) -> list[dict[str, Any]]:
    """Return the figures of each method."""
    own_s = float(np.median(found[OURS]["s"]))
    lines = []
    for name, figures in found.items():
        left = np.concatenate(figures["residual_px"])
        seconds = float(np.median(figures["s"]))
        lines.append(
            {
                "method": name,
                "pairs": len(figures["s"]),
                "rms_px": float(np.sqrt(np.mean(left**2))),
                "p95_px": float(np.quantile(left, 0.95)),
                "median_s": seconds,
                "times_ours": seconds / own_s,
            }
        )
    return lines


def table(lines: list[dict[str, Any]]) -> str:
    """Return the figures as a table in Markdown."""
    text = ["| method | pairs | RMS (px) | 95 % (px) | median (s) | time over ours |", "|---|" + "---|" * 5]
    text += [
        f"| {line['method']} | {line['pairs']} | {line['rms_px']:.3f} | {line['p95_px']:.3f} "
        f"| {line['median_s']:.2f} | {line['times_ours']:.2f} |"
        for line in lines
    ]
    return "\n".join(text)


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7, 8])
    parser.add_argument("--regions", type=int, default=2)
    arguments = parser.parse_args()
    lines = rows(measure(arguments.seeds, arguments.regions))
    text = f"{table(lines)}\n\n{os.cpu_count()} cores; one channel of 1024 x 1024 px a pair."
    if not _has_nanopyx():
        text += " NanoPyx is not installed: pip install 'sharpscope[analysis]'."
    publish(arguments, "Registration beside others, simulated", text, lines)


if __name__ == "__main__":
    main()
