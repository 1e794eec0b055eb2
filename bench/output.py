"""What every bench does at its end: print one table, keep it as a file, print figures for a program.

Knows no figure.
"""

import argparse
import json
from pathlib import Path
from typing import Any

__all__ = ["bench_parser", "publish"]


def bench_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all benches have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line last")
    parser.add_argument("--write", type=Path, help="also write the table to this file")
    return parser


def publish(arguments: argparse.Namespace, title: str, text: str, figures: Any) -> None:  # noqa: ANN401 - JSON
    """Print the table, and what else was asked for.

    Parameters
    ----------
    arguments
        Of a `bench_parser`.
    figures
        What `--json` prints; must be JSON-able.
    """
    print(text)
    if arguments.write:
        arguments.write.parent.mkdir(parents=True, exist_ok=True)
        arguments.write.write_text(f"# {title}\n\n{text}\n", encoding="utf-8")
    if arguments.json:
        print(json.dumps(figures))
