"""What is silent, and when sounds begin. Sound is (samples,) or (samples, channels) float in [-1, 1]; channels are
mixed down."""

from __future__ import annotations

import numpy as np

SILENT = 1e-3  # a frame that never gets louder is silent
HOP_SECONDS = 0.005  # of the envelope that onsets are found in
RISE_DB = 9.0  # that makes an onset
AUDIBLE = 0.01  # root mean square below which nothing is an onset
APART_SECONDS = 0.08  # two onsets at least
SLACK_SECONDS = 0.008  # by which an onset may be found too early, or come late through a codec


def mono(sound: np.ndarray) -> np.ndarray:
    return sound.mean(-1) if sound.ndim == 2 else sound


def is_silent(frames: np.ndarray) -> np.ndarray:
    """frames (..., samples, channels) -> (...)"""
    return np.abs(frames).max((-2, -1)) < SILENT


def onsets(sound: np.ndarray, sample_rate: float) -> np.ndarray:
    """Seconds at which a sound begins, or grows by RISE_DB within 40 ms: (n,)"""
    hop = max(1, round(HOP_SECONDS * sample_rate))
    x = mono(sound)
    envelope = np.sqrt(np.square(x[: len(x) // hop * hop], dtype=np.float64).reshape(-1, hop).mean(1))
    if not len(envelope):
        return np.zeros(0)
    level = 20 * np.log10(np.maximum(envelope, AUDIBLE / 4))
    total = np.append(0, np.cumsum(level))
    place = np.arange(len(level))
    first = np.maximum(0, place - 8)
    before = (total[place] - total[first]) / np.maximum(1, place - first)
    before[0] = level[0]
    found: list[int] = []
    for i in np.flatnonzero((envelope > AUDIBLE) & (level - before >= RISE_DB)).tolist():
        if not found or (i - found[-1]) * HOP_SECONDS >= APART_SECONDS:
            found.append(i)
    return np.array(found, np.float64) * hop / sample_rate


def onset_places(frames: np.ndarray, sample_rate: float) -> np.ndarray:
    """frames (t, samples, channels), one after another -> (t,) float32: where in each the first sound begins, in
    [0, 1); -1 where none does"""
    places = np.full(len(frames), -1, np.float32)
    at = np.round(onsets(frames.reshape(-1, frames.shape[-1]), sample_rate) * sample_rate).astype(int)
    for i in at[::-1].tolist():
        frame, place = frame_of(i, frames.shape[1], sample_rate)
        if frame < len(frames):
            places[frame] = place
    return places


def frame_of(sample: int, samples: int, sample_rate: float) -> tuple[int, float]:
    """The frame, of so many samples, in which an onset was found, and where in it, in [0, 1). Games begin sounds with a
    frame: one that was found just before a border is the next frame's, which shows what made it."""
    frame, at = divmod(sample, samples)
    if at >= samples - SLACK_SECONDS * sample_rate:
        return frame + 1, 0.0
    return frame, at / samples
