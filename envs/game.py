"""What a recorder and a fork need from a real game: reset, step, and optionally save and load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from worldgen.actions import ActionMap


@dataclass(frozen=True)
class GameFrame:
    """What a game shows after a step.

    image: (h, w, 3) uint8, the caller's own copy.
    sound: (samples, channels) int16, the sound made while the game went from the previous frame to this one; it is
        heard while this frame is shown. None for a silent game. Frame 0 holds zeros.
    reward, terminated, truncated: of the transition that led here.
    state: exact state columns where the game knows them ("x", "health", ...), numbers only.
    """

    image: np.ndarray
    sound: np.ndarray | None = None
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    state: Mapping[str, float] = field(default_factory=dict)


class Game(Protocol):
    """A real game. One step is one frame: the action is held for the whole of it."""

    name: str  # "vizdoom:defend_the_center"
    licence: str  # of code and assets, as the recording's NAME.json states it
    fps: float
    actions: ActionMap
    sample_rate: int | None  # None: no sound. A frame holds sample_rate / fps samples, a whole number
    channels: int

    def reset(self, seed: int) -> GameFrame: ...

    def step(self, action: Any) -> GameFrame: ...

    def close(self) -> None: ...


@runtime_checkable
class ForkableGame(Protocol):
    """A game whose exact state can be saved and loaded, for counterfactual evaluation."""

    def save(self) -> bytes: ...

    def load(self, state: bytes) -> None: ...
