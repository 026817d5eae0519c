"""The palette of a game that has few colours, as pixel art does; found in recordings, which blur it a little."""

from __future__ import annotations

import numpy as np

MAX_COLOURS = 32
NEAR = 28.0  # distance in grey levels within which a pixel is of a colour
COVERED = 0.999  # of the pixels, for the colours to be a palette: what moves is small
RARE = 5e-5  # of the pixels: fewer are no colour of their own
RESIDUAL = 6.0  # grey levels that pixels are off their colours, root mean square: more are shades, which are no palette
NUM_PIXELS = 400_000  # that are looked at
STEP = 8  # grey levels


def find_palette(frames: np.ndarray) -> list[list[int]] | None:
    """frames (..., 3) uint8 -> colours (k, 3), about the most common first; None where MAX_COLOURS are too few"""
    every = frames.reshape(-1, 3)
    left = pixels = np.array(every[:: max(1, len(every) // NUM_PIXELS)], np.float32)
    names, counts = np.unique((pixels // STEP).astype(np.int64) @ [1, 256, 65536], return_counts=True)
    names = names[np.argsort(-counts)]
    colours: list[np.ndarray] = []
    squares = 0.0
    for name in names.tolist():
        if len(left) <= (1 - COVERED) * len(pixels):
            break
        centre = STEP * np.array([name % 256, name // 256 % 256, name // 65536]) + STEP / 2
        near = left[_distance(left, centre) < NEAR / 2]
        if len(near) < RARE * len(pixels):
            continue
        if len(colours) == MAX_COLOURS:
            return None
        colours.append(np.median(near, axis=0))
        distance = _distance(left, colours[-1])
        squares += float(np.square(distance[distance < NEAR]).sum())
        left = left[distance >= NEAR]
    is_palette = len(left) <= (1 - COVERED) * len(pixels) and squares / len(pixels) <= RESIDUAL**2
    return [np.rint(c).astype(int).tolist() for c in colours] if is_palette else None


def _distance(pixels: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(pixels - colour).sum(-1))
