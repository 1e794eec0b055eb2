"""Reads Micro-Manager's stage position lists (`.pos`), of version 2 (property maps) and of version 1.4.

Owns the two formats. A file comes in, absolute XY positions in um go out; focus positions in it are left
alone, for a scan finds its own.
"""

import json
from pathlib import Path
from typing import Any

from configs.document import WrongInputError

__all__ = ["read_positions"]


def read_positions(path: Path) -> list[tuple[float, float]]:
    """Return the XY position of every entry, in the list's order.

    Raises
    ------
    WrongInputError
        The file is missing, is no position list, or an entry has no XY position.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WrongInputError(f"{path}: no such position list") from error
    except (json.JSONDecodeError, UnicodeDecodeError, OSError) as error:
        raise WrongInputError(f"{path}: not readable as a Micro-Manager position list ({error})") from error
    try:
        positions = _version_2(content) if "map" in content else _version_1(content)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        msg = (
            f"{path}: not a Micro-Manager position list with XY positions ({error!r}); save it anew from "
            "Micro-Manager"
        )
        raise WrongInputError(msg) from error
    if not positions:
        raise WrongInputError(f"{path}: the position list is empty")
    return positions


def _version_2(content: dict[str, Any]) -> list[tuple[float, float]]:
    return [
        _xy(
            entry["DefaultXYStage"]["scalar"],
            {
                device["Device"]["scalar"]: device["Position_um"]["array"]
                for device in entry["DevicePositions"]["array"]
            },
        )
        for entry in content["map"]["StagePositions"]["array"]
    ]


def _version_1(content: dict[str, Any]) -> list[tuple[float, float]]:
    return [
        _xy(
            entry["DEFAULT_XY_STAGE"],
            {
                device["DEVICE"]: (device["X"], device["Y"])
                for device in entry["DEVICES"]
                if device["AXES"] == 2
            },
        )
        for entry in content["POSITIONS"]
    ]


def _xy(stage: str, positions: dict[str, Any]) -> tuple[float, float]:
    x_um, y_um = positions[stage]
    return (float(x_um), float(y_um))
