"""Figures on sound, in numpy. Sound is (samples,) or (samples, channels) float in [-1, 1]; channels are mixed down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FFT_SIZES = (256, 512, 2048)
FLOOR = 1e-3  # of spectral magnitudes: -60 dB, below which nothing is heard in a game
SILENT = 1e-3  # a frame that never gets louder is silent
HOP_SECONDS = 0.005  # of the envelope that onsets are found in
RISE_DB = 9.0  # that makes an onset
AUDIBLE = 0.01  # root mean square below which nothing is an onset
APART_SECONDS = 0.08  # two onsets at least


def mono(sound: np.ndarray) -> np.ndarray:
    return sound.mean(-1) if sound.ndim == 2 else sound


def stft_magnitudes(sound: np.ndarray, size: int) -> np.ndarray:
    """sound (samples,) -> (windows, size / 2 + 1); a sine of amplitude 1 gives about 1"""
    padded = np.pad(sound, (size // 2, size))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 4]
    shape = np.hanning(size)
    return np.abs(np.fft.rfft(windows * shape)) * (2 / shape.sum())


def stft_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Multi-resolution STFT distance (after Yamamoto et al. 2020): mean difference of magnitudes in decibels, those
    below FLOOR raised to it. 0 for equal sounds."""
    return float(np.mean([np.abs(_decibels(a, size) - _decibels(b, size)).mean() for size in FFT_SIZES]))


def _decibels(sound: np.ndarray, size: int) -> np.ndarray:
    return 20 * np.log10(np.maximum(stft_magnitudes(mono(sound), size), FLOOR))


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


@dataclass(frozen=True)
class OnsetMatch:
    """hits, made, real: how many; offsets: seconds, generated minus recorded, of the hits."""

    hits: int
    made: int
    real: int
    offsets: tuple[float, ...]


def match_onsets(made: np.ndarray, real: np.ndarray, tolerance: float) -> OnsetMatch:
    """Pairs the nearest first; each onset belongs to one pair at most."""
    pairs = sorted(
        (abs(a - b), i, j) for i, a in enumerate(made) for j, b in enumerate(real) if abs(a - b) <= tolerance
    )
    used_made: set[int] = set()
    used_real: set[int] = set()
    offsets = []
    for _, i, j in pairs:
        if i not in used_made and j not in used_real:
            used_made.add(i)
            used_real.add(j)
            offsets.append(float(made[i] - real[j]))
    return OnsetMatch(len(offsets), len(made), len(real), tuple(offsets))


def f1(hits: int, made: int, real: int) -> float | None:
    """None where there is nothing to find and nothing was made"""
    return 2 * hits / (made + real) if made + real else None


def is_silent(frames: np.ndarray) -> np.ndarray:
    """frames (..., samples, channels) -> (...)"""
    return np.abs(frames).max((-2, -1)) < SILENT


def loudness_db(sound: np.ndarray) -> float:
    """Root mean square in dB of full scale"""
    return float(20 * np.log10(max(1e-6, np.sqrt(np.square(sound).mean()))))


def click_rate(frames: np.ndarray) -> float:
    """frames (t, samples, channels), one after another -> share of the borders between them with a jump from sample to
    sample that is audible, and three times as large as any within 1 ms before and after"""
    line = frames.reshape(-1, frames.shape[-1])
    jump = np.abs(np.diff(line, axis=0)).max(-1)
    borders = np.arange(1, len(frames)) * frames.shape[1] - 1
    reach = 24
    clicks = [
        jump[i] > 0.02 and jump[i] > 3 * max(jump[i - reach : i].max(), jump[i + 1 : i + 1 + reach].max())
        for i in borders
    ]
    return float(np.mean(clicks)) if clicks else 0.0
