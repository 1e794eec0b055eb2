"""Fuses simulated focus stacks whose sharp image is known: ours beside five others, in one run.

    python bench/extended_depth.py [--json] [--write bench/results/extended-depth.md]

METHOD's stack: 34 planes, 0.3 um apart, at 20x/0.75, here 384 x 384 px. The truth's 99.9th percentile is 1000
or 100 electrons over a background of 20, with Poisson noise and 2 electrons of read noise. Filaments through
9 um, microtubules and nuclei come from the virtual microscope's renderer; their truth is the same specimen
seen by a lens that knows no defocus. The hills are one textured surface, blurred by a Gaussian that widens
with the distance from a plane. The fusion's constants were chosen on the specimens `chosen on`; the specimens
`new` were drawn from other seeds.

PSNR and the unfitted slope are METHOD's (`training/evaluation/metrics.py`). The best plane is picked by the
truth itself, which no microscope has. Forster's complex wavelets stand here twice: as the tests know them
(`tests/pairing/test_extended_depth.py`: six taps, votes of 3 x 3), and with the rules of the authors' plugin
at its highest quality (14 taps, the largest of three bands that disagree, votes of 5 x 5 in the three finest
levels); both with five levels. The plugin itself is not run, and the times are those of numpy.
"""

import importlib.util
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from output import bench_parser, publish
from scipy import fft, ndimage

from acquisition.virtual.cells import CHROMATIN, MICROTUBULES, EndothelialCells
from acquisition.virtual.optics import WideField
from acquisition.virtual.rendering import Renderer, View
from acquisition.virtual.specimen import DrawnSpecimen
from training.evaluation.metrics import psnr_db, score
from training.pairing.extended_depth import extended_depth_of_field
from training.pairing.sampling import FloatArray, Image

TESTS = Path(__file__).parents[1] / "tests" / "pairing" / "test_extended_depth.py"
SIDE_PX, PIXEL_UM, NUMERICAL_APERTURE, EMISSION_NM = 384, 0.325, 0.75, 522.0
DRAWN_UM = 0.1625
"""Side of the grid on which the renderer draws a specimen."""
PEAKS_ELECTRONS = (1000, 100)
CHOSEN_ON, NEW = "chosen on", "new"
SEEDS = {CHOSEN_ON: (1, 3, 0), NEW: (11, 13, 10)}
"""Of filaments, cells and hills."""
BEST_PLANE, OURS = "best plane", "ours"
Scene = tuple[Image, Image]
"""Noise-free: a stack (Z, Y, X) and its truth (Y, X)."""


def _tests() -> ModuleType:
    """Return the module of tests, which holds the thick filaments, the camera and the other fusions."""
    spec = importlib.util.spec_from_file_location(TESTS.stem, TESTS)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(TESTS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


peers = _tests()


def symmetric_daubechies(vanishing: int) -> Image:
    """Return the symmetric complex filter of 2 * vanishing taps, orthonormal (Lina & Mayrand 1995).

    Of Daubechies' polynomial in y = (2 - z - 1 / z) / 4 one root of each conjugate pair is taken, each with
    both of its z, which are each other's inverse: so the taps are symmetric, and complex.
    """
    roots = np.roots([math.comb(vanishing - 1 + k, k) for k in reversed(range(vanishing))])
    taps = np.poly1d([1.0, 1.0]) ** vanishing
    for root in roots[roots.imag > 0]:
        taps = taps * np.poly1d([1, 4 * root - 2, 1])
    return np.asarray(taps.coeffs * math.sqrt(2) / taps.coeffs.sum())


LOW_PASS = symmetric_daubechies(7)
HIGH_PASS = np.conj(LOW_PASS[::-1]) * (-1.0) ** np.arange(LOW_PASS.size)
WAVELET_LEVELS, CHECKED_LEVELS, VOTES_PX = 5, 3, 5


def split(x: Image, taps: Image, axis: int) -> Image:
    """Return every second value of the periodic correlation with conjugate taps."""
    response = _along(np.conj(fft.fft(taps, x.shape[axis])), axis)
    return np.asarray(
        fft.ifft(fft.fft(x, axis=axis) * response, axis=axis).take(range(0, x.shape[axis], 2), axis)
    )


def joined(low: Image, high: Image, axis: int) -> Image:
    """Return (Y, X) what two halves were split from."""
    whole: Any = 0
    for half, taps in ((low, LOW_PASS), (high, HIGH_PASS)):
        spread = np.stack([half, np.zeros_like(half)], axis=axis + 1)
        sides = [n * (2 if k == axis else 1) for k, n in enumerate(half.shape)]
        spectrum = fft.fft(spread.reshape(sides), axis=axis)
        whole = whole + fft.ifft(spectrum * _along(fft.fft(taps, sides[axis]), axis), axis=axis)
    return np.asarray(whole)


def _along(values: Image, axis: int) -> Image:
    return values if axis in (-1, 1) else values[:, np.newaxis]


def plugin_fusion(stack: Image) -> Image:
    """Fuse by complex wavelets with the rules of the authors' plugin at its highest quality."""
    low, chosen = stack.astype(np.complex64), []
    for level in range(WAVELET_LEVELS):
        by_rows = [split(low, taps, -2) for taps in (LOW_PASS, HIGH_PASS)]
        (low, *details) = (split(part, taps, -1) for taps in (LOW_PASS, HIGH_PASS) for part in by_rows)
        modulus = np.abs(details)  # (3, Z, Y, X)
        planes = modulus.argmax(axis=1)  # (3, Y, X)
        if level < CHECKED_LEVELS:
            planes = np.stack([voted(agreed(planes, modulus.max(axis=1)), len(stack))] * 3)
        chosen.append([peers.taken(band, plane) for band, plane in zip(details, planes, strict=True)])
    fused = peers.taken(low, np.abs(low).argmax(axis=0))
    for down, across, both in reversed(chosen):
        fused = joined(joined(fused, across, 1), joined(down, both, 1), 0)
    return np.asarray(peers.taken(stack, np.abs(stack - fused.real).argmin(axis=0)))


def agreed(planes: Image, modulus: Image) -> Image:
    """Return (Y, X) the plane that two of three bands name, or else the one whose coefficient is largest."""
    middle = np.sort(planes, axis=0)[1]
    return np.where((planes == middle).sum(axis=0) >= 2, middle, peers.taken(planes, modulus.argmax(axis=0)))


def voted(plane: Image, planes: int) -> Image:
    """Return (Y, X) the plane that more than half of the neighbours name, or else a place's own."""
    votes = [ndimage.uniform_filter((plane == z).astype(float), VOTES_PX) for z in range(planes)]
    return np.where(np.max(votes, axis=0) > 0.5, np.argmax(votes, axis=0), plane)


METHODS: dict[str, Callable[[Image], Image]] = {
    "maximum": lambda stack: np.asarray(stack.max(axis=0)),
    "variance": peers.largest_variance,
    "complex wavelets": peers.complex_wavelet_fusion,
    "wavelets, as plugin": plugin_fusion,
    OURS: extended_depth_of_field,
}


class DeepCells(EndothelialCells):
    """The virtual cells, drawn on as many planes as a stack can tell apart."""

    plane_depths_um = tuple(float(z) for z in np.round(np.arange(-2.4, 2.5, 0.6), 3))


def rendered(source: Any, stain: str) -> Scene:  # noqa: ANN401 - what the renderer calls a source
    """Return a wide-field stack of a specimen, and the specimen without defocus."""
    renderer = Renderer(DrawnSpecimen(source, DRAWN_UM))
    places_um = (np.arange(SIDE_PX) + 0.5 - SIDE_PX / 2) * PIXEL_UM
    depths_um = (np.arange(peers.PLANES) - (peers.PLANES - 1) / 2) * peers.STEP_UM

    def seen(lens: WideField, depth_um: float) -> Image:
        view = View(stain, lens, PIXEL_UM, depth_um)
        return np.asarray(renderer.image(view, places_um[:, np.newaxis], places_um[np.newaxis]))

    lens = WideField(NUMERICAL_APERTURE, EMISSION_NM)
    endless = WideField(NUMERICAL_APERTURE, EMISSION_NM, refractive_index=1e9)
    return np.stack([seen(lens, float(depth)) for depth in depths_um]), seen(endless, 0.0)


def hills(seed: int) -> Scene:
    """Return a stack of one textured, unevenly bright surface that rises and falls through it."""
    rng = np.random.default_rng(seed)
    texture = ndimage.gaussian_filter(rng.normal(size=(SIDE_PX, SIDE_PX)), 1.0)
    texture = np.clip(texture / texture.std() + 1.5, 0, None)
    brightness = 1 + 60 * ndimage.gaussian_filter(rng.normal(size=(SIDE_PX, SIDE_PX)), 30)
    texture = (texture * np.clip(brightness, 0.1, None)).astype(np.float32)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] / SIDE_PX
    height = (peers.PLANES - 1) * (0.5 + 0.45 * np.sin(2 * np.pi * (x + 0.6 * y)))
    depths = np.arange(peers.PLANES)
    layers = texture * np.clip(1 - np.abs(height - depths[:, np.newaxis, np.newaxis]), 0, 1)  # (Z, Y, X)
    stack = np.zeros_like(layers)
    for plane in depths:
        for distance in depths:  # layers as far above as below are blurred alike
            alike = layers[np.abs(depths - plane) == distance]
            if alike.any():
                stack[plane] += ndimage.gaussian_filter(alike.sum(axis=0), 0.8 + 0.35 * distance)
    return stack, ndimage.gaussian_filter(texture, 0.8)


def scenes(specimen: str) -> Iterator[tuple[str, Scene]]:
    """Yield the scenes of one set of seeds by name."""
    filaments, cells, surface = SEEDS[specimen]
    yield "filaments", rendered(peers.ThickFilaments(filaments, number=250, side_um=200.0), "any")
    yield "microtubules", rendered(DeepCells(cells), MICROTUBULES)
    yield "nuclei", rendered(DeepCells(cells), CHROMATIN)
    yield "hills", hills(surface)


def measure() -> list[dict[str, Any]]:
    """Return PSNR, slope and seconds of every method on every stack."""
    lines = []
    for specimen in SEEDS:
        for scene, noise_free in scenes(specimen):
            for peak in PEAKS_ELECTRONS:
                label = {"scene": scene, "peak_electrons": peak, "specimen": specimen}
                lines += [label | figures for figures in _figures(*peers.photographed(*noise_free, peak))]
    return lines


def _figures(stack: FloatArray, truth: FloatArray) -> list[dict[str, Any]]:
    best = max(stack, key=lambda plane: psnr_db(plane, truth))
    lines = [_line(BEST_PLANE, best, truth, None)]
    for name, method in METHODS.items():
        began = time.perf_counter()
        fused = method(stack)
        lines.append(_line(name, fused, truth, time.perf_counter() - began))
    return lines


def _line(method: str, image: Image, truth: Image, seconds: float | None) -> dict[str, Any]:
    found = score(image, truth)
    return {"method": method, "psnr_db": found.psnr_db, "slope": found.slope, "s": seconds}


def times_ours(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Return each method's median seconds over the median of ours."""
    median = {name: float(np.median([k["s"] for k in lines if k["method"] == name])) for name in METHODS}
    return {name: seconds / median[OURS] for name, seconds in median.items()}


def table(lines: list[dict[str, Any]]) -> str:
    """Return the figures as a table in Markdown, a row a stack."""
    methods = (BEST_PLANE, *METHODS)
    text = [
        f"| scene | peak (e-) | specimen | {' | '.join(methods)} |",
        "|---|" + "---|" * (2 + len(methods)),
    ]
    for stack in dict.fromkeys((k["scene"], k["peak_electrons"], k["specimen"]) for k in lines):
        found = {
            k["method"]: f"{k['psnr_db']:.2f} / {k['slope']:.2f}"
            for k in lines
            if (k["scene"], k["peak_electrons"], k["specimen"]) == stack
        }
        text.append(f"| {' | '.join(map(str, stack))} | {' | '.join(found[name] for name in methods)} |")
    ratios = times_ours(lines)
    times = (f"{ratios[name]:.2g}" if name in ratios else "" for name in methods)
    text.append(f"| time over ours | | | {' | '.join(times)} |")
    return "\n".join(text)


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    arguments = parser.parse_args()
    lines = measure()
    text = (
        f"{table(lines)}\n\n"
        "Each figure is PSNR (dB, after METHOD's linear fit) / unfitted slope. Simulated: 34 planes, 0.3 um, "
        f"20x/0.75, {SIDE_PX} x {SIDE_PX} px.\nThe fusion's constants were chosen on the specimens "
        f"`{CHOSEN_ON}`; `{NEW}` ones come from other seeds. The best plane is picked by the truth."
    )
    publish(arguments, "Extended depth of field, simulated", text, lines)


if __name__ == "__main__":
    main()
