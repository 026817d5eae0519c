"""Figures on sound, in numpy. Sound is (samples,) or (samples, channels) float in [-1, 1]; channels are mixed down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldgen.onsets import mono

FFT_SIZES = (256, 512, 2048)
FLOOR = 1e-3  # of spectral magnitudes: -60 dB, below which nothing is heard in a game


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
