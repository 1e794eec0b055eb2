"""What is known of a frame besides its pixels, taken from the event, the frame's metadata and the core.

Only asks, never moves anything. Knows no recording and no network.
"""

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from inference.recording import FrameFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymmcore_plus import CMMCorePlus
    from useq import MDAEvent

__all__ = ["camera_frame", "core_facts", "mda_facts", "stage_position"]


def mda_facts(event: "MDAEvent", meta: dict[str, Any], core: "CMMCorePlus") -> FrameFacts:
    """Return what the event and the frame's metadata say; the plan stands in for a position not read."""
    position = meta.get("position", {})
    tags = meta.get("camera_metadata", {})  # of a hardware-sequenced event only
    return FrameFacts(
        channel=event.channel.config if event.channel is not None else _channel(core),
        pixel_size_um=meta.get("pixel_size_um") or None,  # the core says 0 for unknown
        camera=meta.get("camera_device"),
        time=datetime.now(UTC),
        elapsed_ms=meta.get("runner_time_ms"),
        exposure_ms=meta.get("exposure_ms"),
        full_scale=_full_scale(core),
        stage_x_um=position.get("x", event.x_pos),
        stage_y_um=position.get("y", event.y_pos),
        focus_um=position.get("z", event.z_pos),
        event_index=dict(event.index),
        position_name=event.pos_name,
        camera_frame=camera_frame(tags),
    )


def camera_frame(tags: "Mapping[str, Any]") -> int | None:
    """Return the number that a frame has in the camera's sequence, from the tags that came with it."""
    number = tags.get("ImageNumber")
    return None if number is None else int(number)


def core_facts(core: "CMMCorePlus") -> FrameFacts:
    """Return what the core says at this moment, from its cache: live mode asks for every frame."""
    return FrameFacts(
        channel=_channel(core),
        pixel_size_um=core.getPixelSizeUm(True) or None,
        time=datetime.now(UTC),
        exposure_ms=core.getExposure(),
        full_scale=_full_scale(core),
    )


def _full_scale(core: "CMMCorePlus") -> int | None:
    with suppress(RuntimeError):  # a core without a camera, or one that does not answer
        return int(2 ** core.getImageBitDepth() - 1)
    return None


def _channel(core: "CMMCorePlus") -> str | None:
    with suppress(RuntimeError):  # somebody deleted or renamed the group
        group = core.getChannelGroup()
        return (core.getCurrentConfigFromCache(group) or None) if group else None
    return None


def stage_position(core: "CMMCorePlus") -> dict[str, Any]:
    """Return where the drives stand, as keywords of FrameFacts; without a drive, without its keyword."""
    position: dict[str, Any] = {}
    with suppress(RuntimeError):  # a microscope without this drive, or one that does not answer
        position["stage_x_um"], position["stage_y_um"] = core.getXYPosition()
    with suppress(RuntimeError):
        position["focus_um"] = core.getZPosition()
    return position
