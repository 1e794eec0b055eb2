"""Enhances an OME-Zarr of 10,000 x 10,000 px with a small generator, kills it, hands it to a Dask cluster.

    python bench/bulk.py [--side 10000] [--dask-side 3000] [--json] [--write bench/results/bulk.md]

The input is synthetic: smooth noise and spots with a camera's noise on them. The model is an untrained U-Net
of base width 8 with three levels, which costs what a trained one does. Everything goes through the command
`sharpscope enhance`, in processes of its own on two cores; memory is the most that the process held at a
time. Killed: SIGKILL at a random moment, when 20 to 80 % of the chunks are done, then the same command again.
Identical: the same SHA-256 of every file of the OME-Zarr.
"""

import hashlib
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tensorstore as ts
import torch
from aligned_pairs import Taken, aligned_pairs
from output import bench_parser, publish
from scipy import ndimage

from inference.generator import GeneratorPlan, build_generator
from inference.model_package import ServingCard, read_package
from training.export import ModelSource, export_package
from training.pairing.pairs import PairSet
from training.settings import load_training_plan

BOUND_GB = 3.0
CORES = 2
TEXTURE_PX = 1024
LOOK_EVERY_S = 0.05


def untrained(folder: Path) -> Path:
    """Write a package of a U-Net of base width 8 with three levels, as it is before training."""
    torch.manual_seed(0)
    pairs = aligned_pairs(folder / "pairs", 1, Taken(side_px=256), validation=1)
    preset = load_training_plan("widefield")
    plan = preset.model_copy(update={"generator": GeneratorPlan(base_width=8, levels=3)})
    (left,) = pairs.select("validation", plan.channel)
    both = [left.model_copy(update={"split": "train"}), left]
    trained_on = PairSet(pairs.path, pairs.index.model_copy(update={"pairs": both}))
    generator = build_generator(plan.generator).eval()
    return export_package(ModelSource(generator, plan, trained_on, {}, {}), folder / "model.zip")


def write_input(path: Path, side_px: int, card: ServingCard) -> Path:
    """Write (side, side) uint16 as bright as the model's training images, block by block."""
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.standard_normal((TEXTURE_PX, TEXTURE_PX)), 30, mode="wrap")
    spots = np.where(rng.random((TEXTURE_PX, TEXTURE_PX)) < 0.003, rng.random((TEXTURE_PX, TEXTURE_PX)), 0)
    spots = ndimage.gaussian_filter(spots, 1.5, mode="wrap")
    specimen = np.clip(smooth / smooth.std(), 0, None) / 10 + spots / spots.max()
    bright = (card.intensity.bright_counts_min * card.intensity.bright_counts_max) ** 0.5
    light = specimen * bright / np.percentile(specimen, 99.9)
    array = create_input(path, side_px, card)
    for top in range(0, side_px, TEXTURE_PX):
        for left in range(0, side_px, TEXTURE_PX):
            rows, columns = (slice(k, min(k + TEXTURE_PX, side_px)) for k in (top, left))
            part = light[: rows.stop - top, : columns.stop - left] * rng.uniform(0.8, 1.2)
            array[rows, columns].write(rng.poisson(part + card.background).astype(np.uint16)).result()
    return path


def create_input(path: Path, side_px: int, card: ServingCard) -> Any:  # noqa: ANN401  tensorstore has no types
    """Create an empty OME-Zarr."""
    grid = {"name": "regular", "configuration": {"chunk_shape": [TEXTURE_PX, TEXTURE_PX]}}
    array = {"shape": [side_px, side_px], "data_type": "uint16", "chunk_grid": grid}
    store = {"driver": "file", "path": f"{(path / '0').as_posix()}/"}
    opened = ts.open({"driver": "zarr3", "kvstore": store, "metadata": array}, create=True).result()
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    scale = [{"type": "scale", "scale": [card.low_pixel_size_um] * 2}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    group = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
    (path / "zarr.json").write_text(json.dumps(group))
    return opened


def run(model: Path, source: Path, output: Path, *more: str, kill_at: int | None = None) -> dict[str, Any]:
    """Run the command; return its seconds and the most memory that it held, in GB."""
    command = [sys.executable, "-m", "sharpscope", "enhance", str(model), str(source), "-o", str(output)]
    start, peak = time.perf_counter(), 0
    with subprocess.Popen([*command, "--device", "cpu", *more], stderr=subprocess.PIPE, text=True) as process:
        watched = psutil.Process(process.pid)
        if hasattr(watched, "cpu_affinity"):
            watched.cpu_affinity(watched.cpu_affinity()[:CORES])
        while process.poll() is None:
            try:
                peak = max(peak, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                break
            if kill_at is not None and chunks_done(output) >= kill_at:
                process.kill()
            time.sleep(LOOK_EVERY_S)
        _, said = process.communicate()
    if process.returncode and kill_at is None:
        sys.exit(f"the command failed: {said}")
    return {"seconds": time.perf_counter() - start, "peak_gb": peak / 1e9}


def chunks_done(output: Path) -> int:
    """Return how many lines an unfinished image's journal has."""
    journal = output.with_name(f"{output.name}.unfinished") / "journal.jsonl"
    return len(journal.read_bytes().splitlines()) if journal.exists() else 0


def hash_of(folder: Path) -> str:
    """Return one hash over the names and the bytes of all files."""
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(path.relative_to(folder).as_posix().encode())
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def killed_and_resumed(
    model: Path, source: Path, folder: Path, undisturbed: dict[str, Any]
) -> dict[str, Any]:
    """Kill the command at a random moment and run it again."""
    output = folder / "killed.ome.zarr"
    first = run(model, source, output, kill_at=round(random.uniform(0.2, 0.8) * undisturbed["chunks"]))
    kept = chunks_done(output)
    second = run(model, source, output)
    hashed = hash_of(output)
    shutil.rmtree(output)
    return {
        "killed_after_s": first["seconds"],
        "chunks_kept": kept,
        "resumed_s": second["seconds"],
        "peak_gb": max(first["peak_gb"], second["peak_gb"]),
        "identical": hashed == undisturbed["hash"],
    }


def on_two_workers(model: Path, source: Path, folder: Path) -> dict[str, Any]:
    """Run the command in this way and that, with two worker processes of Dask."""
    from distributed import LocalCluster

    local = run(model, source, folder / "local.ome.zarr")
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        address = cluster.scheduler_address
        shared = run(model, source, folder / "shared.ome.zarr", "--scheduler", address)
    same = hash_of(folder / "local.ome.zarr") == hash_of(folder / "shared.ome.zarr")
    return {"local_s": local["seconds"], "dask_s": shared["seconds"], "identical": same}


def measure(folder: Path, side_px: int, dask_side_px: int) -> dict[str, Any]:
    """Do all three."""
    model = untrained(folder)
    card = read_package(model).card
    source = write_input(folder / "input.ome.zarr", side_px, card)
    output = folder / "undisturbed.ome.zarr"
    undisturbed = run(model, source, output)
    files = [path for path in output.rglob("*") if path.is_file()]
    undisturbed |= {
        "hash": hash_of(output),
        "chunks": len(list((output / "0" / "c").glob("*/*"))),
        "files": len(files),
        "output_gb": sum(path.stat().st_size for path in files) / 1e9,
    }
    shutil.rmtree(output)
    killed = killed_and_resumed(model, source, folder, undisturbed)
    small = write_input(folder / "small.ome.zarr", dask_side_px, card)
    return {
        "side_px": side_px,
        "dask_side_px": dask_side_px,
        "factor": card.factor,
        "undisturbed": undisturbed,
        "killed": killed,
        "dask": on_two_workers(model, small, folder),
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures as a table in Markdown."""
    whole, killed, dask = figures["undisturbed"], figures["killed"], figures["dask"]
    side, small = figures["side_px"], figures["dask_side_px"]
    megapixels = (figures["factor"] * side) ** 2 / 1e6
    peak = max(whole["peak_gb"], killed["peak_gb"])
    yes = {True: "yes", False: "NO"}
    return "\n".join(
        [
            "| | figure | must hold | holds |",
            "|---|---|---|---|",
            f"| {side} x {side} px in, {figures['factor'] * side} x {figures['factor'] * side} px out: "
            f"time (s) | {whole['seconds']:.0f} | | |",
            f"| megapixels of output a second | {megapixels / whole['seconds']:.2f} | | |",
            f"| output, with pyramid (GB, files) | {whole['output_gb']:.2f}, {whole['files']} | | |",
            f"| peak resident memory (GB) | {peak:.2f} | < {BOUND_GB:g} | {yes[peak < BOUND_GB]} |",
            f"| killed after {killed['killed_after_s']:.0f} s with {killed['chunks_kept']} chunks done, "
            f"resumed for (s) | {killed['resumed_s']:.0f} | | |",
            f"| every byte of every file as undisturbed | {yes[killed['identical']]} | yes "
            f"| {yes[killed['identical']]} |",
            f"| {small} x {small} px, 2 workers of Dask: time (s; without it {dask['local_s']:.0f}) "
            f"| {dask['dask_s']:.0f} | | |",
            f"| every byte of every file as without Dask | {yes[dask['identical']]} | yes "
            f"| {yes[dask['identical']]} |",
        ]
    )


def main() -> None:
    """Run and print."""
    parser = bench_parser(__doc__)
    parser.add_argument("--side", type=int, default=10_000, help="of the input, in px")
    parser.add_argument("--dask-side", type=int, default=3_000, help="of the cluster's input, in px")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), arguments.side, arguments.dask_side)
    text = f"{table(figures)}\n\n{platform.machine()}, {os.cpu_count()} cores, {CORES} used."
    publish(arguments, "Bulk: one image of any size", text, figures)


if __name__ == "__main__":
    main()
