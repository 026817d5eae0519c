"""Sampling a frame: noise levels, the Euler step, counter-based noise. Pure functions, any array library.

Flow matching with sigma = 1 for noise and 0 for clean: x(sigma) = (1 - sigma) * clean + sigma * noise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

# What a draw of noise is for: part of its counter.
START, DENOISE, COMMIT, SOUND, END = 0, 1, 2, 3, 4


def sigmas(nfe: int) -> list[float]:
    """Noise levels before each of nfe evaluations: 1, ..., 1 / nfe."""
    return [1 - i / nfe for i in range(nfe)]


def euler_step(noisy: Any, clean: Any, sigma: float, step_size: float) -> Any:
    """From sigma to sigma - step_size along the straight line towards the predicted clean tokens."""
    share = step_size / sigma
    return clean if share >= 1 else noisy + (clean - noisy) * np.float32(share)


def noise(seeds: Iterable[int], steps: Iterable[int], draw: int, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal noise, (b, *shape) float32. Row i depends on seeds[i], steps[i] and draw alone (Philox, Salmon
    et al. 2011), so a slot's future does not depend on the batch around it."""
    slots = zip(seeds, steps, strict=True)
    return np.stack([generator(seed, step, draw).standard_normal(shape, np.float32) for seed, step in slots])


def uniform(seeds: Iterable[int], steps: Iterable[int], draw: int) -> np.ndarray:
    """(b,) in [0, 1), row by row as noise()."""
    return np.array([generator(seed, step, draw).random() for seed, step in zip(seeds, steps, strict=True)])


def generator(seed: int, step: int, draw: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[int(seed), 0], counter=[0, int(step), draw, 0]))
