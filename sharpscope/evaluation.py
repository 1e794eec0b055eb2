"""`sharpscope evaluate`: a model's figures and pictures in a folder."""

import json
from pathlib import Path
from typing import Any

from configs.document import WrongInputError
from inference.engine import load_engine
from inference.journal import write_atomic
from sharpscope.console import print_table, progress_bar
from training.evaluation.evaluate import Evaluation, Method, evaluate
from training.evaluation.report import evaluation_sections, figure_rows, write_report
from training.pairing.pairs import PairSet

__all__ = ["evaluate_to_folder", "figures_of", "show_figures"]

SHOWN: tuple[Method, ...] = ("bicubic", "richardson_lucy", "enhanced")


def evaluate_to_folder(
    model: Path, pairs: Path, output: Path, *, device: str = "auto", overwrite: bool = False
) -> dict[str, Any]:
    """Write report.html and figures.json; returns the figures."""
    report = output / "report.html"
    if report.exists() and not overwrite:
        msg = f"{report} is there already; give another folder, or --overwrite"
        raise WrongInputError(msg)
    engine = load_engine(model, device)  # type: ignore[arg-type] # checked there
    with progress_bar("evaluate, fields") as progress:
        evaluation = evaluate(engine, PairSet.open(pairs), progress=progress)
    figures = figures_of(evaluation)
    title = f"sharpscope: {engine.name} ({engine.model_hash[:12]})"
    write_report(report, title, evaluation_sections(evaluation))
    write_atomic(output / "figures.json", json.dumps(figures, indent=2))
    show_figures(evaluation)
    return figures


def figures_of(evaluation: Evaluation) -> dict[str, Any]:
    """Return the figures under the names of the JSON line."""
    return {
        "psnr_db": {method: round(evaluation.mean(method, "psnr_db"), 3) for method in SHOWN},
        "ssim": {method: round(evaluation.mean(method, "ssim"), 4) for method in SHOWN},
        "slope_enhanced": round(evaluation.mean("enhanced", "slope"), 4),
        "truth": evaluation.truth,
        "test_fields": len(evaluation.fields),
    }


def show_figures(evaluation: Evaluation) -> None:
    """Print the table."""
    title = f"{evaluation.channel}, truth: {evaluation.truth}, {len(evaluation.fields)} test field(s)"
    print_table(title, ["", "PSNR dB", "SSIM", "slope", "offset"], figure_rows(evaluation))
