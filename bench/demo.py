"""Runs `sharpscope demo` as a user would and prints its figures, wall time and peak memory as one table.

    python bench/demo.py [--json] [--write bench/results/demo-cpu.md] [--keep FOLDER]

Every figure is simulated. Peak memory is that of the process and its children together, sampled.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

SAMPLE_S = 0.5
NAMES = {
    "bicubic": "bicubic",
    "richardson_lucy_best": "Lucy-Richardson, best iteration",
    "enhanced": "enhanced",
}


def run_demo(folder: Path) -> tuple[dict[str, Any], float]:
    """Return the demo's figures and the peak memory in GB."""
    command = [sys.executable, "-m", "sharpscope", "demo", "-o", str(folder), "--json"]
    process = psutil.Popen(command, stdout=subprocess.PIPE, text=True)
    peak_gb = 0.0
    while process.poll() is None:
        peak_gb = max(peak_gb, _memory_gb(process))
        try:
            process.wait(SAMPLE_S)
        except psutil.TimeoutExpired:
            continue
    if process.returncode != 0:
        raise SystemExit(f"the demo ended with {process.returncode}")
    return json.loads(process.stdout.read().splitlines()[-1]), peak_gb


def _memory_gb(process: psutil.Process) -> float:
    try:
        family = [process, *process.children(recursive=True)]
        return sum(member.memory_info().rss for member in family) / 1e9
    except psutil.NoSuchProcess:
        return 0.0


def table(figures: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    lines = ["| held-out FITC field, simulated | PSNR (dB) | SSIM |", "|---|---|---|"]
    for key, name in NAMES.items():
        lines.append(f"| {name} | {figures['psnr_db'][key]:.2f} | {figures['ssim'][key]:.3f} |")
    lines += [
        "",
        f"Truth: {figures['truth']}. Unfitted slope of the enhanced image: {figures['slope_enhanced']:.3f}. "
        f"Live: {figures['live_frames_enhanced']} of {figures['live_frames_in']} frames enhanced, "
        f"{figures['live_frames_dropped']} dropped, median latency {figures['latency_ms_p50']:.0f} ms, "
        f"99th percentile {figures['latency_ms_p99']:.0f} ms. Wall time {figures['wall_s']:.0f} s, "
        f"peak memory {figures['peak_memory_gb']:.1f} GB.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the demo and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line last")
    parser.add_argument("--write", type=Path, help="also write the table to this file")
    parser.add_argument("--keep", type=Path, help="run the demo into this folder and keep it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        figures, peak_gb = run_demo(arguments.keep or Path(temporary) / "demo")
    figures["peak_memory_gb"] = round(peak_gb, 2)
    text = table(figures)
    print(text)
    if arguments.write:
        machine = f"{platform.machine()}, {psutil.cpu_count()} CPUs, Python {platform.python_version()}"
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text(f"# sharpscope demo on a CPU\n\n{machine}\n\n{text}\n", encoding="utf-8")
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
