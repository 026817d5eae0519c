"""The sounds of ToyGame, synthesised: each starts and ends at zero, so that nothing clicks."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import numpy as np

SAMPLE_RATE = 24_000


def mix(voices: Iterable[tuple[str, int]], begin: int, count: int) -> np.ndarray:
    """Voices (effect, sample it starts at) -> samples begin .. begin + count of their sum, (count, 1) int16"""
    out = np.zeros(count, np.int32)
    for name, start in voices:
        wave = effects()[name]
        first, last = max(start, begin), min(start + len(wave), begin + count)
        if first < last:
            out[first - begin : last - begin] += wave[first - start : last - start]
    return np.clip(out, -32768, 32767).astype(np.int16)[:, None]


@functools.cache
def effects() -> dict[str, np.ndarray]:
    """Every effect by the name of its event, (samples,) int32"""
    noise = np.random.default_rng(7).standard_normal(SAMPLE_RATE)
    soft_noise = np.convolve(noise, np.hanning(25) / 12, "same")
    made = {
        "jump": _fade(_tone(_slide(260, 620, 0.16), (1, 0, 0.28, 0, 0.1)), decay=0.12) * 0.85,
        "coin": _join(_bell(988, 0.07), _bell(1319, 0.30)) * 0.8,
        "stomp": _fade(_tone(_slide(330, 70, 0.17), (1, 0.3)) + 0.45 * soft_noise[: _samples(0.17)], decay=0.07),
        "land": _fade(_tone(_slide(130, 65, 0.07), (1,)) + 0.5 * soft_noise[: _samples(0.07)], decay=0.025) * 0.5,
        "death": _fade(_tone(_fall_in_steps(), (1, 0, 0.3, 0, 0.12)), decay=0.4) * 0.9,
        "flag": _join(*(_bell(hz, 0.09) for hz in (523, 659, 784)), _bell(1047, 0.33)) * 0.9,
    }
    out = {name: np.round(wave * 7000).astype(np.int32) for name, wave in made.items()}
    for wave in out.values():
        wave.flags.writeable = False
    return out


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


def _slide(low: float, high: float, seconds: float) -> np.ndarray:
    """A frequency per sample, from one to the other in equal steps of pitch."""
    return np.geomspace(low, high, _samples(seconds))


def _fall_in_steps() -> np.ndarray:
    """Four falling notes, each with a little vibrato."""
    notes = np.repeat([440.0, 349.0, 277.0, 196.0], _samples(0.14))
    return notes * (1 + 0.02 * np.sin(2 * np.pi * 9 * np.arange(len(notes)) / SAMPLE_RATE))


def _tone(hertz: np.ndarray, partials: tuple[float, ...]) -> np.ndarray:
    """A frequency per sample and the strength of each harmonic -> a wave of about one; phase is continuous."""
    phase = 2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE
    wave = np.zeros(len(phase))
    for k, strength in enumerate(partials):
        wave += strength * np.sin((k + 1) * phase)
    return wave / sum(partials)


def _fade(wave: np.ndarray, decay: float) -> np.ndarray:
    """Rise over 3 ms, decay exponentially, reach zero over the last 12 ms."""
    out = wave * np.exp(-np.arange(len(wave)) / (decay * SAMPLE_RATE))
    rise, end = _samples(0.003), _samples(0.012)
    out[:rise] *= 0.5 - 0.5 * np.cos(np.pi * np.arange(rise) / rise)
    out[-end:] *= 0.5 + 0.5 * np.cos(np.pi * np.arange(1, end + 1) / end)
    return out


def _bell(hertz: float, seconds: float) -> np.ndarray:
    return _fade(_tone(np.full(_samples(seconds), hertz), (1, 0.25, 0.12)), decay=0.12)


def _join(*waves: np.ndarray) -> np.ndarray:
    return np.concatenate(waves)
