"""A user's own reward and end, read off the frames: for worlds without heads, or for another task than theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from worldgen.envs.env_errors import EnvError

# the frame before and the one it led to, (h, w, 3) uint8 -> reward, and whether the game is over
Judge = Callable[[np.ndarray, np.ndarray], tuple[float, bool]]


def judge_all(judge: Judge, before: np.ndarray, after: np.ndarray, plays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """before, after (n, h, w, 3) uint8; plays (n,) bool: of the others nothing is asked
    -> rewards (n,) float64, ends (n,) bool"""
    rewards, ends = np.zeros(len(after)), np.zeros(len(after), bool)
    for i in np.flatnonzero(plays):
        rewards[i], ends[i] = _judged(judge(before[i], after[i]))
    return rewards, ends


def _judged(given: Any) -> tuple[float, bool]:
    try:
        reward, is_over = given
        reward, is_over = float(reward), bool(is_over)
    except (TypeError, ValueError):
        raise EnvError(f"judge(before, after) gives (reward, whether the game is over), got {given!r}") from None
    if not np.isfinite(reward):
        raise EnvError(f"judge gave a reward of {reward}")
    return reward, is_over
