"""Speed of the deconvolution baselines against scikit-image, interleaved in one run.

    python bench/deconvolution.py [--side 1024] [--rounds 5] [--json] [--write bench/results/deconvolution.md]

One simulated image (smooth blobs through the 10x/0.4 objective's PSF with shot noise), float32. A ratio is
scikit-image's time of one iteration divided by ours in the same round, the median over the rounds. The last
row adds to every iteration what a search costs, the PSNR against a truth.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np
import torch
from output import bench_parser, publish
from scipy import ndimage, signal
from skimage.restoration import richardson_lucy as scikit_richardson_lucy

from training.evaluation.deconvolution import (
    nonnegative_least_squares,
    richardson_lucy,
    richardson_lucy_tv,
)
from training.evaluation.deconvolution_search import (
    FloatImage,
    best_richardson_lucy,
)
from training.evaluation.point_spread import effective_psf

ITERATIONS, NNLS_ITERATIONS = 10, 100
REFERENCE = "scikit-image richardson_lucy"


@dataclass(frozen=True)
class Row:
    """One method's times: medians over the rounds."""

    method: str
    iterations: int
    wall_s: float
    cpu_s: float
    ratio: float
    """scikit-image's wall time of one iteration in the same round, divided by this one's."""


def scene(side_px: int) -> tuple[FloatImage, FloatImage, FloatImage]:
    """Return an image, its truth and the PSF between the two."""
    rng = np.random.default_rng(0)
    blobs = ndimage.gaussian_filter(rng.random((side_px, side_px)), 1.5)
    truth = (((blobs - blobs.min()) / np.ptp(blobs)) ** 3 * 4000).astype(np.float32)
    psf = effective_psf(0.4, 522, 0.325, 2)
    expected = np.maximum(signal.fftconvolve(truth, psf, "same"), 0)
    return rng.poisson(expected).astype(np.float32), truth, psf


def methods(side_px: int) -> dict[str, tuple[int, Callable[[], object]]]:
    """Return each method's iterations and the call that is timed."""
    image, truth, psf = scene(side_px)
    n = ITERATIONS
    return {
        REFERENCE: (
            n,
            lambda: scikit_richardson_lucy(image, psf, num_iter=n, clip=False, filter_epsilon=1e-3),
        ),
        "Richardson-Lucy": (n, lambda: richardson_lucy(image, psf, n)),
        "Richardson-Lucy, damping 0.1 %": (n, lambda: richardson_lucy(image, psf, n, damping_percent=0.1)),
        "Richardson-Lucy with total variation": (n, lambda: richardson_lucy_tv(image, psf, n)),
        "non-negative least squares": (
            NNLS_ITERATIONS,
            lambda: nonnegative_least_squares(image, psf, NNLS_ITERATIONS),
        ),
        "Richardson-Lucy, each iteration scored": (n, lambda: best_richardson_lucy(image, truth, psf, n)),
    }


def measure(side_px: int, rounds: int) -> list[Row]:
    """Time every method once a round, one after the other."""
    timed = methods(side_px)
    wall_s: dict[str, list[float]] = {name: [] for name in timed}
    cpu_s: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, (_, call) in timed.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            wall_s[name].append(time.perf_counter() - wall)
            cpu_s[name].append(time.process_time() - cpu)
    return [
        Row(
            name,
            iterations,
            median(wall_s[name]),
            median(cpu_s[name]),
            float(np.median(np.divide(wall_s[REFERENCE], wall_s[name]))) * iterations / ITERATIONS,
        )
        for name, (iterations, _) in timed.items()
    ]


def table(rows: list[Row]) -> str:
    """Return the times as a table in Markdown."""
    text = ["| method | iterations | s | CPU s | an iteration, times as fast |", "|---|---|---|---|---|"]
    text += [
        f"| {row.method} | {row.iterations} | {row.wall_s:.2f} | {row.cpu_s:.2f} | {row.ratio:.2f} |"
        for row in rows
    ]
    return "\n".join(text)


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--side", type=int, default=1024, help="of the image, px")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    rows = measure(arguments.side, arguments.rounds)
    text = (
        f"{table(rows)}\n\n{arguments.side} x {arguments.side} px, {arguments.rounds} rounds, "
        f"{torch.get_num_threads()} thread(s) of torch, simulated."
    )
    publish(arguments, "Deconvolution", text, [asdict(row) for row in rows])


if __name__ == "__main__":
    main()
