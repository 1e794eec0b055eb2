"""Time and memory of pairing two plain folders, for few and for many pairs.

    python bench/pairing.py [--json] [--write bench/results/pairing.md] [--pairs 10 100]

Low 512 x 512 px, high 1024 x 1024 px, one channel: fields cut from one large synthetic specimen of filaments
and discs, the high ones bent by a smooth field of 3 px, both with shot noise. Each set is paired by the
command line, in a process of its own; the memory is the most that process held. The folders lie on disk
before it starts.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from output import bench_parser, publish
from scipy import ndimage

SIDE_PX, SPECIMEN_PX = 1024, 3072
MEMORY_BOUND_GB = 4.0


def specimen(rng: np.random.Generator) -> np.ndarray:
    """Return curved filaments and discs on nothing, (Y, X)."""
    image = np.zeros((SPECIMEN_PX, SPECIMEN_PX), np.float32)
    for _ in range(SPECIMEN_PX**2 // 2000):
        angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.03, 500))
        start = rng.uniform(0, SPECIMEN_PX, 2)
        y, x = (
            (start[axis] + 0.5 * np.cumsum(turn(angle))).astype(int) % SPECIMEN_PX
            for axis, turn in enumerate((np.sin, np.cos))
        )
        np.add.at(image, (y, x), rng.uniform(0.5, 1.5))
    discs = np.zeros_like(image)
    places = rng.integers(0, SPECIMEN_PX, (SPECIMEN_PX**2 // 20_000, 2))
    discs[tuple(places.T)] = 100.0
    return image + ndimage.gaussian_filter(discs, 4.0)


def write_folders(folder: Path, pairs: int) -> None:
    """Write `low` and `high`, one file a field."""
    rng = np.random.default_rng(1)
    sharp = ndimage.gaussian_filter(specimen(rng), 1.0)
    soft = ndimage.gaussian_filter(sharp, 1.8)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.float32)
    for state in ("low", "high"):
        (folder / state).mkdir()
    for number in range(pairs):
        top, left = rng.integers(16, SPECIMEN_PX - SIDE_PX - 16, 2)
        bend = 3 * np.sin(2 * np.pi * (y / 700 + rng.uniform())) * np.cos(2 * np.pi * x / 900)
        high = ndimage.map_coordinates(sharp, [y + top + bend, x + left - bend], order=3)
        low = soft[top : top + SIDE_PX, left : left + SIDE_PX]
        low = low.reshape(SIDE_PX // 2, 2, SIDE_PX // 2, 2).mean(axis=(1, 3))
        for state, image, counts in (("low", low, 3000), ("high", high, 2000)):
            noisy = rng.poisson(np.maximum(image, 0) * counts + 120).astype(np.uint16)
            tifffile.imwrite(folder / state / f"field{number:04d}.tif", noisy)


def measure(pairs: int) -> dict[str, Any]:
    """Pair so many fields in a fresh process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_folders(folder, pairs)
        command = ["-m", "sharpscope", "pair", "--low", "low", "--high", "high", "-o", "pairs", "--json"]
        began = time.perf_counter()
        found = subprocess.run(
            [sys.executable, "-c", WITNESS, *command], cwd=folder, capture_output=True, text=True, check=True
        )
        wall_s = time.perf_counter() - began
    *_, figures, peak_kb = found.stdout.strip().splitlines()
    return {
        "pairs": pairs,
        "accepted": pairs - json.loads(figures)["left_out"],
        "wall_s": wall_s,
        "s_a_pair": wall_s / pairs,
        "peak_gb": int(peak_kb) / 1e6,
    }


WITNESS = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, *sys.argv[1:]]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(0 if code in (0, 3) else code)
"""
"""Runs a command and prints the most memory it held, in kB."""


def table(lines: list[dict[str, Any]]) -> str:
    """Return the figures as a table in Markdown."""
    text = ["| pairs | accepted | wall (s) | a pair (s) | peak memory (GB) |", "|---|" + "---|" * 4]
    text += [
        f"| {line['pairs']} | {line['accepted']} | {line['wall_s']:.0f} | {line['s_a_pair']:.2f} "
        f"| {line['peak_gb']:.2f} |"
        for line in lines
    ]
    return "\n".join(text)


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--pairs", type=int, nargs="+", default=[10, 100])
    arguments = parser.parse_args()
    lines = [measure(pairs) for pairs in arguments.pairs]
    note = f"{os.cpu_count()} cores; bound {MEMORY_BOUND_GB:.0f} GB. Synthetic images."
    text = f"{table(lines)}\n\n{note}"
    publish(arguments, "Time and memory of pairing", text, lines)


if __name__ == "__main__":
    main()
