"""Draws into a picture what must go with it: ENHANCED with the model, time, scale bar, warnings.

Owns size, place and legibility: white or amber letters with a dark rim on a darkened plate. Pure: a picture
and words go in, a new picture comes out. Knows no frames, no windows of intensity and no files.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["LEAST_YX_PX", "Annotation", "Picture", "ScaleBar", "annotate", "scale_bar", "time_text"]

LEAST_YX_PX = (128, 256)
"""Of a picture on which every word is legible."""
HASH_DIGITS = 12
MOST_LINES = 4
"""Of remarks."""
BAR_SHARE = 0.25
"""The scale bar's greatest length as a share of the picture's width."""
WHITE, AMBER, DARK = (255, 255, 255), (255, 190, 60), (0, 0, 0)
PLATE_ALPHA = 140

Picture = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True, slots=True)
class Annotation:
    """The words of one picture. The title always stands there; the rest where it is known."""

    title: str
    """What the picture is: RAW, ENHANCED, NOT ENHANCED."""
    made: bool
    """Shown in amber: a network made it, or should have."""
    model_name: str | None = None
    model_hash: str | None = None
    channel: str | None = None
    time: str | None = None
    pixel_size_um: float | None = None
    """Of the picture's pixel; None draws no scale bar."""
    remarks: tuple[str, ...] = ()
    """Warnings and reasons, each on a line."""


@dataclass(frozen=True, slots=True)
class ScaleBar:
    """A bar of a round length."""

    length_um: float
    length_px: int

    @property
    def text(self) -> str:
        """Its length with its unit."""
        if self.length_um >= 1000:
            return f"{self.length_um / 1000:g} mm"
        return f"{self.length_um:g} µm" if self.length_um >= 1 else f"{self.length_um * 1000:g} nm"


def scale_bar(pixel_size_um: float, width_px: int) -> ScaleBar:
    """Return the longest bar of 1, 2 or 5 times a power of ten that takes at most a quarter of the width."""
    room_um = BAR_SHARE * width_px * pixel_size_um
    power = 10.0 ** math.floor(math.log10(room_um))
    length_um = max(step * power for step in (1, 2, 5, 10) if step * power <= room_um * (1 + 1e-9))
    return ScaleBar(length_um, max(1, round(length_um / pixel_size_um)))


def time_text(elapsed_ms: float) -> str:
    """Return a time as minutes, seconds and milliseconds, with hours where there are any."""
    whole_ms = round(abs(elapsed_ms))
    minutes, rest_ms = divmod(whole_ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    sign = "-" if elapsed_ms < 0 and whole_ms else ""
    clock = f"{minutes:02d}:{rest_ms / 1000:06.3f}"
    return f"{sign}{hours}:{clock}" if hours else f"{sign}{clock}"


def annotate(picture: Picture, annotation: Annotation) -> Picture:
    """Return a copy of a picture with its annotation drawn in.

    Parameters
    ----------
    picture
        (Y, X, 3) uint8. Below `LEAST_YX_PX` words are cut at its edge.
    """
    image = Image.fromarray(np.ascontiguousarray(picture))
    page = _Page(ImageDraw.Draw(image, "RGBA"), image.width, image.height)
    page.heading(annotation)
    if annotation.time is not None:
        page.time(annotation.time)
    page.remarks(annotation.remarks)
    if annotation.pixel_size_um is not None:
        page.scale_bar(scale_bar(annotation.pixel_size_um, image.width))
    return np.asarray(image)


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    colour: tuple[int, int, int] = WHITE
    bold: bool = False


class _Page:
    """Places words in a picture: what it is above on the left, time on the right, remarks and bar below."""

    def __init__(self, draw: ImageDraw.ImageDraw, width: int, height: int) -> None:
        self._draw, self._width, self._height = draw, width, height
        self._size_px = int(min(36, max(13, min(width, height) / 32)))
        self._margin = round(0.8 * self._size_px)
        self._pitch = round(1.35 * self._size_px)
        self._air = round(0.3 * self._size_px)
        self._heading_bottom = 0

    def heading(self, annotation: Annotation) -> None:
        """Write title, model and channel."""
        colour = AMBER if annotation.made else WHITE
        room_px = self._width - 2 * self._margin
        lines = [_Line(annotation.title, colour, bold=True)]
        if annotation.model_name is not None:
            digits = f"  {(annotation.model_hash or '')[:HASH_DIGITS]}"
            lines.append(_Line(self._cut(annotation.model_name, room_px, digits), colour))
        if annotation.channel:
            lines.append(_Line(self._cut(annotation.channel, room_px)))
        self._block(lines, self._margin, self._margin)
        self._heading_bottom = self._margin + self._pitch * len(lines) + self._air

    def time(self, text: str) -> None:
        """Write the time beside the title, which is short."""
        left = self._width - self._margin - self._length_px(_Line(text))
        self._block([_Line(text)], left, self._margin)

    def remarks(self, remarks: tuple[str, ...]) -> None:
        """Write lines from the bottom up, beside the room of the scale bar and never over the heading."""
        room_px = round((1 - BAR_SHARE) * self._width) - 3 * self._margin
        words = [line for remark in remarks for line in self._wrapped(remark, room_px)]
        room_below_px = self._height - self._margin - self._air - self._heading_bottom
        most = max(0, min(MOST_LINES, room_below_px // self._pitch))
        shown = [(text, "") for text in words[:most]]
        if shown and len(words) > most:
            shown[-1] = (shown[-1][0], " …")
        lines = [_Line(self._cut(text, room_px, end), AMBER) for text, end in shown]
        self._block(lines, self._margin, self._height - self._margin - self._pitch * len(lines))

    def scale_bar(self, bar: ScaleBar) -> None:
        """Draw the bar with its length above it."""
        thick = max(3, round(self._size_px / 4))
        right, bottom = self._width - self._margin - 1, self._height - self._margin - 1
        left, top = right - bar.length_px + 1, bottom - thick + 1
        length = _Line(bar.text, bold=True)
        words_left = right + 1 - self._length_px(length)
        self._plate(min(left, words_left), top - self._pitch, right, bottom)
        self._draw.rectangle((left, top, right, bottom), fill=WHITE)
        self._words(length, words_left, top - self._pitch)

    def _block(self, lines: list[_Line], left: int, top: int) -> None:
        if not lines:
            return
        right = left + max(self._length_px(line) for line in lines)
        self._plate(left, top, right, top + self._pitch * len(lines))
        for place, line in enumerate(lines):
            self._words(line, left, top + place * self._pitch)

    def _plate(self, left: int, top: int, right: int, bottom: int) -> None:
        """Darken what lies behind words: white letters are lost on a bright image, rim or not."""
        air = self._air
        self._draw.rectangle((left - air, top - air, right + air, bottom + air), fill=(*DARK, PLATE_ALPHA))

    def _words(self, line: _Line, left: int, top: int) -> None:
        rim = max(1, round(self._size_px / 16))
        font = _font(self._size_px, line.bold)
        place = (left, top)
        self._draw.text(place, line.text, fill=line.colour, font=font, stroke_width=rim, stroke_fill=DARK)

    def _cut(self, text: str, room_px: int, end: str = "") -> str:
        """Return one line that fits; what does not is cut from the text, never from its end."""
        shown = " ".join(text.split())  # a channel's name may have line ends, which no font measures
        while shown and self._length_px(_Line(shown + end)) > room_px:
            shown = shown.removesuffix("…")[:-1]
            shown = f"{shown}…" if shown else ""
        return shown + end

    def _wrapped(self, text: str, room_px: int) -> list[str]:
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and self._length_px(_Line(longer)) > room_px:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines

    def _length_px(self, line: _Line) -> int:
        return math.ceil(_font(self._size_px, line.bold).getlength(line.text))


@lru_cache(maxsize=64)
def _font(size_px: int, bold: bool) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans: matplotlib brings it, and it has the micro sign, Greek and Cyrillic."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", name), size_px)
