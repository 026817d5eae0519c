"""By how many pixels things move in a game: the displacements that explain most of what changes between frames."""

from __future__ import annotations

import numpy as np

CHANGED, SAME = 16, 20  # grey levels: a pixel that changed, and one that came from elsewhere
PIXELS = 60  # looked at, of a pair of frames
REACH = 8  # the longest side over this: how far a pixel may have come


def common_moves(clips: np.ndarray, count: int) -> np.ndarray:
    """clips (b, t, h, w, 3) uint8 -> (count, 2) int64, the most telling first: how many half pixels below and to the
    right of a pixel the colour lay that it has now. Every pair of frames counts alike, so that a scrolling picture does
    not drown a small player."""
    reach = 2 * max(2, max(clips.shape[2:4]) // REACH)
    span = np.arange(-reach, reach + 1)
    moves = np.stack(np.meshgrid(span, span, indexing="ij"), axis=-1).reshape(-1, 2)
    moves = moves[np.argsort(np.abs(moves).sum(1), kind="stable")][1:]  # near ones first; all but no move
    rng, found, weights = np.random.default_rng(0), [], []
    for before, after in zip(clips[:, -2].astype(np.int16), clips[:, -1].astype(np.int16), strict=True):
        y, x = np.nonzero(np.abs(after - before).max(-1) > CHANGED)
        if len(y) == 0:
            continue
        picks = rng.permutation(len(y))[:PIXELS]
        weights.append(np.full(len(picks), 1 / len(picks), np.float32))
        y, x = y[picks, None], x[picks, None]
        wide = np.pad(_halves(before), ((reach, reach), (reach, reach), (0, 0)), mode="edge")
        came = wide[2 * y + reach + moves[:, 0], 2 * x + reach + moves[:, 1]]
        found.append(np.abs(came - after[y, x]).max(-1) < SAME)
    chosen: list[int] = []
    if found:
        explains, left = np.concatenate(found).astype(np.float32), np.concatenate(weights)
        while len(chosen) < count:
            gain = left @ explains
            gain[chosen] = -1
            chosen.append(int(gain.argmax()))
            left = left * (1 - 0.7 * explains[:, chosen[-1]])  # another reason is worth less, not nothing
    return moves[chosen] if chosen else moves[:count]


def _halves(frame: np.ndarray) -> np.ndarray:
    """(h, w, 3) -> the frame with what lies half way between its pixels (2 h - 1, 2 w - 1, 3)"""
    for axis in (0, 1):
        wide = np.repeat(frame, 2, axis=axis).swapaxes(0, axis)[:-1]
        wide[1::2] = (wide[0:-1:2] + wide[2::2]) // 2
        frame = wide.swapaxes(0, axis)
    return frame
