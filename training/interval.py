"""How far a figure could have come out otherwise: percentiles of it over resampled recordings (bootstrap).

Whole episodes are drawn with replacement, because clips of one episode are alike: clips drawn one by one would make the
interval too narrow.
"""

from __future__ import annotations

import numpy as np

ROUNDS = 1000
SHARE = 0.9  # of the resampled figures that lie inside


class Resampling:
    """The same draws for every figure of an evaluation: differences of figures keep what they have in common."""

    def __init__(self, episode: np.ndarray, seed: int = 0):
        """episode: (b,) int, which one each clip is from"""
        _, index = np.unique(episode, return_inverse=True)
        num_episodes = int(index.max()) + 1
        rng = np.random.default_rng(seed)
        draws = rng.multinomial(num_episodes, np.full(num_episodes, 1 / num_episodes), size=ROUNDS)
        self._weights = draws[:, index] if num_episodes > 1 else None  # (rounds, b)

    def psnr(self, errors: np.ndarray, counts: np.ndarray) -> np.ndarray | None:
        """Sums of squared errors and numbers of pixels per clip (b,) -> PSNR of each draw; None for one episode."""
        if self._weights is None:
            return None
        mse = (self._weights @ errors) / np.maximum(self._weights @ counts, 1e-9)
        return 10 * np.log10(255**2 / np.maximum(mse, 255**2 * 1e-10))

    def ratio(self, top: np.ndarray, bottom: np.ndarray) -> np.ndarray | None:
        """Sums per clip (b,) twice -> the ratio of their sums in each draw; None for one episode."""
        if self._weights is None:
            return None
        return (self._weights @ top) / np.maximum(self._weights @ bottom, 1e-12)


def interval(draws: np.ndarray | None) -> list[float] | None:
    """-> [low, high] of the middle SHARE of the draws; None without draws."""
    if draws is None:
        return None
    low, high = np.percentile(draws, [50 * (1 - SHARE), 50 * (1 + SHARE)])
    return [float(low), float(high)]
