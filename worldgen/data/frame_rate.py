"""Timestamps -> a constant frame rate where they follow one, jitter and lost frames allowed."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

STANDARD_RATES = tuple(
    Fraction(*r)
    for r in [(10, 1), (12, 1), (15, 1), (20, 1), (24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (35, 1)]
    + [(50, 1), (60000, 1001), (60, 1), (120, 1), (144, 1), (240, 1)]
)
# that lost packets leave in a file, where nothing else tells
MAX_HOLES, MAX_HOLE_SHARE = 3, 0.02


def fit_rate(seconds: np.ndarray, rates: list[Any], tick: float) -> tuple[float, float, np.ndarray | None]:
    """Timestamps -> (fps, offset, exact times) where they follow a constant rate, jitter and lost frames allowed; the
    rate began `offset` after the first timestamp. Else (fps, 0, None)."""
    if len(seconds) < 2:
        return float(next((r for r in rates if r), 30)), 0.0, np.zeros(1)
    step = float(np.median(np.diff(seconds)))
    mean = (len(seconds) - 1) / seconds[-1]
    best: tuple[float, float, float, np.ndarray] | None = None
    for rate in [*rates, *STANDARD_RATES, mean, 1 / step]:
        if not rate or abs(float(rate) * step - 1) > 0.1:
            continue
        rate = float(rate)
        grid = np.round(seconds * rate)
        late = seconds - grid / rate
        # the first frame may be the one that is off
        offset = 0.0 if np.abs(late).max() <= tick else float(late.max() + late.min()) / 2
        error = float(np.abs(late - offset).max())
        # two frames on one instant are not that rate; a rate that fits to the file's tick needs no better one
        if (np.diff(grid) < 1).any() or error > 0.3 / rate:
            continue
        if best is None or error < best[0] - tick:
            best = error, rate, offset, grid
        if error <= tick:
            break
    if best is None:
        rate = 1 / step
        nearest = min(STANDARD_RATES, key=lambda r: abs(float(r) - rate))
        return float(nearest) if abs(float(nearest) / rate - 1) < 0.02 else rate, 0.0, None
    _, rate, offset, grid = best
    return rate, offset, grid / rate


def longest_run(stamps: np.ndarray, max_step: float) -> tuple[int, int]:
    """The slice of sorted stamps with the most of them and no step above max_step."""
    edges = np.concatenate([[0], np.flatnonzero(np.diff(stamps) > max_step) + 1, [len(stamps)]])
    longest = int(np.argmax(np.diff(edges)))
    return int(edges[longest]), int(edges[longest + 1])


def rows_by_time(times: np.ndarray, fps: float) -> np.ndarray:
    """(n,) int64: the instant of a constant rate at which each frame is shown."""
    return np.round(times * fps).astype(np.int64)


def holes(rows: np.ndarray) -> np.ndarray:
    """(m,) int64: the places in rows before which some are left out."""
    return np.flatnonzero(np.diff(rows) > 1) + 1


def has_few_holes(rows: np.ndarray) -> bool:
    """A few holes in a constant rate are taken for lost frames, many for a recorder that leaves frames out.

    That is a guess, for want of better: a decoder gives a picture for every packet that is left, drawn over the wrong
    one (of 30 H.264 files without one packet each, 3 show it; of VP8 and VP9 none). Where the file itself tells, as in
    H.264 (LostPackets), that is believed, but for the holes of which it cannot tell.
    HEVC's decoder leaves out all that follows a lost packet by itself."""
    return 0 < len(holes(rows)) <= max(1, min(MAX_HOLES, MAX_HOLE_SHARE * len(rows)))
