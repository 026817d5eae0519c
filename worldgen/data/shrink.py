"""A game's own picture at the size of a world, as its recordings become it."""

from __future__ import annotations

import av
import numpy as np


def shrink(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """A game's picture (h, w, 3) uint8 at the world's size, on the way that recordings take: through 4:4:4 video"""
    reformatter = av.video.reformatter
    h, w, _ = image.shape
    kind = reformatter.Interpolation.AREA if height <= h and width <= w else reformatter.Interpolation.BICUBIC
    exact = reformatter.Interpolation.ACCURATE_RND | reformatter.Interpolation.FULL_CHR_H_INT
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(format="yuv444p")
    return picture.reformat(width, height, "rgb24", interpolation=kind | exact).to_ndarray()
