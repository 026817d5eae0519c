"""Whether a prompt is anything like what a world has seen: known before it is played, and said."""

from __future__ import annotations

import numpy as np

from worldgen.bundle import Starts
from worldgen.play.area_means import area_means

TILES = 6, 8  # a picture is compared by the mean colours of this many tiles
MARGIN = 1.5  # times as far as any of the world's starts is from the others
LEAST = 20.0  # of 255: nearer than that is never called far


def distances(starts: Starts, image: np.ndarray) -> tuple[float, float]:
    """image (h, w, 3) uint8 -> its distance to the nearest frame of a start, and how far a start may be from the
    frames of the other starts: root mean square of the tiles' differences, 0..255."""
    rows = [[_tiles(frame) for frame in clip] for clip in starts.frames]
    here = _tiles(image)
    nearest = min(_distance(here, row) for clip in rows for row in clip)
    usual = [
        min(_distance(clip[-1], row) for j, other in enumerate(rows) if j != i for row in other)
        for i, clip in enumerate(rows)
        if len(rows) > 1
    ]
    return nearest, max([*usual, LEAST / MARGIN])


def note_on(starts: Starts | None, image: np.ndarray) -> str | None:
    """What a person should know who plays from this picture; None where it is like the world's own."""
    if starts is None or not len(starts.frames):
        return None
    distance, usual = distances(starts, image)
    if distance <= MARGIN * usual:
        return None
    return "far from anything this world has seen: it will not last long"


def _tiles(image: np.ndarray) -> np.ndarray:
    h, w, _ = image.shape
    return area_means(image, min(TILES[0], h), min(TILES[1], w))


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a - b) ** 2)))
