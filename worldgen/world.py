"""World: reset, step, snapshot, restore. One world is a game, an environment and an engine (contract C4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Frame:
    """What a world shows. With batch=n every field has a leading axis n.

    image: (h, w, 3) uint8. sound: (samples, channels) float32 in [-1, 1], None without a sound head.
    reward: float32. terminated: bool. Arrays are the caller's own.
    """

    image: np.ndarray
    sound: np.ndarray | None
    reward: np.ndarray | float
    terminated: np.ndarray | bool


class State: ...


class World: ...
