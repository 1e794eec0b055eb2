"""Pictures as PNG inside a page, and how coarse they must be for the page to stay small.

Owns the encoding and the order in which quality is given up. 8-bit arrays come in, data URLs go out.
"""

import base64
import io
from dataclasses import dataclass

import numpy as np

from training.evaluation.report.intensity_window import ByteImage

__all__ = ["RENDERINGS", "Rendering", "png_source"]


@dataclass(frozen=True, slots=True)
class Rendering:
    """How coarsely pictures are stored."""

    levels: int = 256
    """Of grey, or of each colour."""
    reduction: int = 1
    """Pixels along a side that are averaged to one."""

    def words(self) -> str:
        """Say what was given up; empty where nothing was."""
        said = [f"in {self.levels} grey levels"] if self.levels < 256 else []
        if self.reduction > 1:
            said.append(f"with {self.reduction} × {self.reduction} pixels averaged to one")
        return f"To keep this page small they are stored {' and '.join(said)}." if said else ""

    def of(self, picture: ByteImage) -> ByteImage:
        """Return a picture, (Y, X) or (Y, X, 3), as coarse as that."""
        coarse = picture
        if self.reduction > 1:
            height, width = (side // self.reduction for side in picture.shape[:2])
            whole = picture[: height * self.reduction, : width * self.reduction]
            blocks = whole.reshape(height, self.reduction, width, self.reduction, *picture.shape[2:])
            coarse = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
        if self.levels < 256:
            step = 255 / (self.levels - 1)
            coarse = np.rint(np.rint(coarse / step) * step).astype(np.uint8)
        return coarse


RENDERINGS = (Rendering(), Rendering(64), Rendering(256, 2), Rendering(64, 2), Rendering(64, 4))
"""The finest first. Noise fills the low bits, which the eye does not see but the file holds."""


def png_source(picture: ByteImage, palette: ByteImage | None = None) -> str:
    """Return a PNG as a data URL.

    Parameters
    ----------
    picture
        (Y, X) grey or places in the palette, or (Y, X, 3) red, green and blue.
    palette
        (256, 3), where there is one.
    """
    from PIL import Image

    image = Image.fromarray(picture)
    if palette is not None:
        image.putpalette(palette.tobytes())
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
