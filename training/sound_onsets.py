"""In which frames of recordings a sound begins, and where in them; and at which threshold a head lets as many begin."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from worldgen.data.dataset import Segments
from worldgen.training.recorded_sound import RecordedSound
from worldgen.training.sound_metrics import match_onsets, onsets

THRESHOLDS = np.linspace(0.05, 0.95, 19)


def onset_places(recorded: RecordedSound, segments: Segments) -> np.ndarray:
    """(N,) float32: where in each frame of the cache the first sound begins, in [0, 1); -1 where none does, or the
    frame is in none of the segments"""
    places = np.full(len(recorded.sound), -1, np.float32)
    samples = recorded.format.samples
    for start, stop in segments:
        line = recorded.rows(np.arange(start, stop)).reshape(-1, recorded.format.channels)
        at = np.round(onsets(line, recorded.format.sample_rate) * recorded.format.sample_rate).astype(int)
        for i in at[::-1].tolist():
            places[start + i // samples] = i % samples / samples
    return places


def onset_f1(made: np.ndarray, real: np.ndarray) -> tuple[float, int, int]:
    """made, real (b, t) bool -> F1 of onsets within one frame of each other, how many were made, how many there are"""
    hits = sum(
        match_onsets(np.flatnonzero(a).astype(float), np.flatnonzero(b).astype(float), 1.0).hits
        for a, b in zip(made, real, strict=True)
    )
    return 2 * hits / max(1, int(made.sum() + real.sum())), int(made.sum()), int(real.sum())


def balanced_threshold(begins: Callable[[float], np.ndarray], real: int) -> float:
    """begins: threshold -> what begins (b, t) bool; real: how many should -> the threshold at which their number is
    nearest"""
    counts = [abs(int(begins(float(x)).sum()) - real) for x in THRESHOLDS]
    return float(THRESHOLDS[int(np.argmin(counts))])
