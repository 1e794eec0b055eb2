"""Turns shown frames into annotated pictures of one size: levels, colour, panels, words.

Owns the layout of a picture and what each panel says of itself. Pure: frames go in, (Y, X, 3) uint8 comes
out. Knows no files and no formats.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from inference.viewer.annotation import LEAST_YX_PX, Annotation, Picture, annotate, time_text
from inference.viewer.look import Look, Show, dark_and_bright, planes_of
from inference.viewer.shown_frame import Plane, ShownFrame
from inference.viewer.source import series_name

__all__ = ["Painter"]

SAMPLES = 12
"""Frames that are looked at before a clip is drawn."""
ENLARGED_TO_PX = 512
"""Smaller images are enlarged by a whole number, up to this."""
DIVIDER_PX = 2
DIVIDER = 90
FLOAT_STEPS = 4096
MOST_REMARKS = 3
NO_NUMBERS = "the network gave no numbers: this is the raw frame, enlarged"


@dataclass(frozen=True, slots=True)
class _Layout:
    """The size of one panel, and of the image in it."""

    image_yx: tuple[int, int]
    panel_yx: tuple[int, int]


class Painter:
    """Paints the frames of one clip, all with the same levels and size.

    Parameters
    ----------
    frames
        The clip, of which a sample is looked at.
    look
        Where it gives no levels, they are found here.
    largest_yx
        A picture is shrunk to fit into it; None has no limit.
    """

    def __init__(
        self, frames: Sequence[ShownFrame], look: Look, largest_yx: tuple[int, int] | None = None
    ) -> None:
        ends, shapes = [], []
        for frame in _samples(frames):  # one at a time: of large images a few fill the memory
            if look.black is None or look.white is None:
                ends += [dark_and_bright(plane.pixels) for plane in planes_of(frame, look.show)]
            shapes += [plane.pixels.shape for plane in planes_of(frame, _sizing(look))]
        self.look = look.with_levels(ends)
        self._table = _colours(self.look)
        self._layout = _layout(_largest_yx(shapes, frames, look), look, largest_yx)

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Of every picture."""
        height, width = self._layout.panel_yx
        return height, 2 * width + DIVIDER_PX if self.look.show == "side_by_side" else width

    def paint(self, frame: ShownFrame) -> Picture:
        """Return the picture of a frame, (Y, X, 3)."""
        if self.look.show == "raw":
            return self._raw(frame)
        if self.look.show == "enhanced":
            return self._enhanced(frame, self._time(frame))
        divider = np.full((self._layout.panel_yx[0], DIVIDER_PX, 3), DIVIDER, np.uint8)
        return np.concatenate([self._raw(frame), divider, self._enhanced(frame, None)], axis=1)

    def _raw(self, frame: ShownFrame) -> Picture:
        said = Annotation(title="RAW", made=False, channel=_place(frame), time=self._time(frame))
        return self._panel(frame.raw, said)

    def _enhanced(self, frame: ShownFrame, time: str | None) -> Picture:
        whole = frame.enhanced is not None and not frame.shows_raw
        remarks = (*(f"outside the model's domain: {flag}" for flag in frame.out_of_domain), *frame.warnings)
        if frame.shows_raw:
            remarks = (NO_NUMBERS, *remarks)
        if frame.enhanced is None:
            remarks = (frame.reason or "no reason was given",)
        said = Annotation(
            title="ENHANCED" if whole else "NOT ENHANCED",
            made=True,
            model_name=frame.model_name,
            model_hash=frame.model_hash,
            channel=_place(frame) if self.look.show == "enhanced" else None,
            time=time,
            remarks=remarks[:MOST_REMARKS],
        )
        return self._panel(frame.enhanced, said)

    def _panel(self, plane: Plane | None, said: Annotation) -> Picture:
        height, width = self._layout.panel_yx
        panel = Image.new("RGB", (width, height))
        pixel_size_um = None
        if plane is not None:
            shape_yx = plane.pixels.shape
            zoom = min(room / side for room, side in zip(self._layout.image_yx, shape_yx, strict=True))
            image = _resized(self._coloured(plane.pixels), zoom)
            panel.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
            if self.look.scale_bar and plane.pixel_size_um is not None:
                pixel_size_um = plane.pixel_size_um / zoom
        return annotate(np.asarray(panel), replace(said, pixel_size_um=pixel_size_um))

    def _coloured(self, pixels: np.ndarray[Any, np.dtype[Any]]) -> Picture:
        """Return counts as colours, (Y, X, 3); what is not a number is black."""
        black, white = self.look.black or 0.0, self.look.white or 0.0
        share = (pixels.astype(np.float32) - black) * (FLOAT_STEPS / (white - black))
        steps = np.clip(np.nan_to_num(share), 0, FLOAT_STEPS).round().astype(np.uint16)
        coloured: Picture = self._table[steps]
        return coloured

    def _time(self, frame: ShownFrame) -> str | None:
        if not self.look.time_stamp:
            return None
        return f"frame {frame.number}" if frame.elapsed_ms is None else time_text(frame.elapsed_ms)


def _place(frame: ShownFrame) -> str | None:
    return series_name(frame.channel, frame.position) if frame.channel or frame.position else None


def _samples(frames: Sequence[ShownFrame]) -> Iterator[ShownFrame]:
    """Return some frames of a clip, evenly spread, with the first and the last."""
    places = np.linspace(0, len(frames) - 1, min(SAMPLES, len(frames))).round()
    return (frames[int(place)] for place in np.unique(places))


def _sizing(look: Look) -> Show:
    """Return the kind of image that sets the size of a panel."""
    return "raw" if look.show == "raw" else "enhanced"


def _largest_yx(
    shapes: Sequence[tuple[int, ...]], frames: Sequence[ShownFrame], look: Look
) -> tuple[int, int]:
    """Return the shape of the largest image to show; twice a raw frame's where nothing is enhanced."""
    if not shapes:  # no sample is enhanced: look on for the first frame that is
        found = (plane.pixels.shape for frame in frames for plane in planes_of(frame, _sizing(look)))
        raw = frames[0].raw.pixels.shape
        shapes = [next(found, (2 * raw[0], 2 * raw[1]))]
    height, width = max(shapes, key=lambda shape: shape[0] * shape[1])
    return height, width


def _layout(shape_yx: tuple[int, int], look: Look, largest_yx: tuple[int, int] | None) -> _Layout:
    zoom = float(max(1, ENLARGED_TO_PX // max(shape_yx)))
    if largest_yx is not None:
        panels = 2 if look.show == "side_by_side" else 1
        zoom = min(zoom, largest_yx[0] / shape_yx[0], (largest_yx[1] - DIVIDER_PX) / (panels * shape_yx[1]))
    height, width = (max(1, int(side * zoom + 1e-6)) for side in shape_yx)
    return _Layout((height, width), (max(height, LEAST_YX_PX[0]), max(width, LEAST_YX_PX[1])))


def _resized(picture: Picture, zoom: float) -> Image.Image:
    """Return a picture enlarged with its pixels visible, or shrunk by averages."""
    image = Image.fromarray(picture)
    if zoom == 1:
        return image
    width, height = (max(1, int(side * zoom + 1e-6)) for side in (image.width, image.height))
    return image.resize((width, height), Image.Resampling.NEAREST if zoom > 1 else Image.Resampling.BOX)


def _colours(look: Look) -> Picture:
    """Return the colours from black to white, (steps, 3)."""
    share = np.linspace(0, 1, FLOAT_STEPS + 1) ** look.gamma
    table: Picture = np.rint(share[:, None] * look.brightest_rgb).astype(np.uint8)
    return table
