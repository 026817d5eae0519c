"""Reward shaping by what the recordings know of the game's state: its health, its score, its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from worldgen.config import check_shaping
from worldgen.errors import InputError

if TYPE_CHECKING:
    from worldgen.data.cache import Cache


def parse_shaping(words: Sequence[str]) -> dict[str, float]:
    """NAME=WEIGHT each -> by name"""
    shaping: dict[str, float] = {}
    for word in words:
        name, _, weight = word.partition("=")
        try:
            shaping[name] = float(weight)
        except ValueError:
            raise InputError(f"--shaping takes NAME=WEIGHT, like damage_taken=-1, got {word!r}") from None
    check_shaping(shaping)
    return shaping


def missing_columns(cache: Cache, shaping: Mapping[str, float]) -> list[str]:
    """State columns that the recordings lack"""
    return [name for name in shaping if name not in cache.state]


def check_columns(cache: Cache, shaping: Mapping[str, float]) -> None:
    """Raises InputError where the recordings lack one."""
    if missing := missing_columns(cache, shaping):
        known = ", ".join(sorted(cache.state)) or "none"
        raise InputError(f"the recordings have no {missing[0]!r} to shape the reward by: they have {known}")


def shaped_rewards(cache: Cache, shaping: Mapping[str, float]) -> np.ndarray:
    """(N,) float32, row t of the transition from frame t to the next: the recorded reward, and for each column what it
    rises by times its weight; nothing where that is unknown."""
    check_columns(cache, shaping)
    reward = np.array(cache.reward, np.float64)
    last = np.asarray(cache.starts[1:]) - 1
    for name, weight in shaping.items():
        column = np.asarray(cache.state[name])
        rise = np.diff(column, append=column[-1:])
        rise[last] = 0.0  # that leads into another episode
        reward += weight * np.nan_to_num(rise)
    return reward.astype(np.float32)


def shaped_step(before: Mapping[str, float], after: Mapping[str, float], shaping: Mapping[str, float]) -> float:
    """The same of one step of a game that is played: what its states give besides its own reward."""
    if missing := [name for name in shaping if name not in after]:
        known = ", ".join(sorted(after)) or "none"
        raise InputError(f"the game has no {missing[0]!r} to shape the reward by: it has {known}")
    return float(sum(weight * (after[name] - before[name]) for name, weight in shaping.items()))
