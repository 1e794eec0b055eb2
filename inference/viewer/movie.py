"""Pictures into an MP4 that browsers and QuickTime play: H.264, 4:2:0, whole or absent.

Owns the codec's settings. Knows no frames and no words: pictures of one size come in.
"""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from inference.viewer.annotation import Picture

__all__ = ["LARGEST_MOVIE_YX", "encode_movie"]

LARGEST_MOVIE_YX = (2304, 4096)
"""H.264 level 5.2: what players decode in hardware."""
QUALITY_CRF = "16"
"""Visually without loss; noise is not smeared."""
BT709, LIMITED_RANGE = 1, 1


def encode_movie(pictures: Iterable[Picture], path: Path, shape_yx: tuple[int, int], fps: float) -> None:
    """Encode pictures to a file, in one thread: a recording beside it needs the cores.

    Parameters
    ----------
    pictures
        (Y, X, 3) uint8, all of `shape_yx`. The codec wants even sides: an odd one gets its last line twice.
    """
    height, width = (side + side % 2 for side in shape_yx)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": QUALITY_CRF, "preset": "veryfast"}
        codec = stream.codec_context
        codec.thread_count = 1
        codec.colorspace = codec.color_primaries = codec.color_trc = BT709
        codec.color_range = LIMITED_RANGE
        for picture in pictures:
            padding = ((0, height - shape_yx[0]), (0, width - shape_yx[1]), (0, 0))
            even = np.ascontiguousarray(np.pad(picture, padding, mode="edge"))
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        container.mux(stream.encode())
