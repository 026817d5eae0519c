"""Reward shaping by what recordings and games know of the game's state: its health, its score, its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
            value = float(weight)
        except ValueError:
            value = None
        if value is None or not name:
            raise InputError(f"--shaping takes NAME=WEIGHT, like damage_taken=-1, got {word!r}")
        if name in shaping:
            raise InputError(f"--shaping takes each name once, got {word!r} too")
        shaping[name] = value
    check_shaping(shaping)
    return shaping


def shaping_words(shaping: Mapping[str, float]) -> str:
    """What parse_shaping() reads; none where there is nothing"""
    return " ".join(f"{name}={weight:g}" for name, weight in shaping.items()) or "none"


def missing_column(state: Mapping[str, Any], shaping: Mapping[str, float]) -> str | None:
    """A state column that is asked for and not there"""
    return next((name for name in shaping if name not in state), None)


def check_columns(state: Mapping[str, Any], shaping: Mapping[str, float], owner: str) -> None:
    """Raises InputError where one is missing. owner: whose state it is, as in "the game has"."""
    if missing := missing_column(state, shaping):
        known = ", ".join(sorted(state)) or "nothing"
        raise InputError(f"{owner} no {missing!r} to shape the reward by; there is {known}")


def shaped_rewards(cache: Cache, shaping: Mapping[str, float]) -> np.ndarray:
    """(N,) float32, row t of the transition from frame t to the next: the recorded reward, and for each column what it
    rises by times its weight; nothing where that is unknown."""
    check_columns(cache.state, shaping, "the recordings have")
    reward = np.array(cache.reward, np.float64)
    last = np.asarray(cache.starts[1:]) - 1
    for name, weight in shaping.items():
        column = np.asarray(cache.state[name])
        rise = _rise(column, np.append(column[1:], column[-1:]))
        rise[last] = 0.0  # that leads into another episode
        reward += weight * rise
    return reward.astype(np.float32)


def shaped_step(before: Mapping[str, float], after: Mapping[str, float], shaping: Mapping[str, float]) -> float:
    """What the states before and after a step of a game that is played give besides its own reward."""
    return float(sum(weight * _rise(before[name], after[name]) for name, weight in shaping.items()))


def _rise(before: Any, after: Any) -> np.ndarray:
    """0 where one of them is unknown"""
    is_known = np.isfinite(before) & np.isfinite(after)
    return np.where(is_known, np.where(is_known, after, 0.0) - np.where(is_known, before, 0.0), 0.0)
