"""Where the games of an environment are, as a value: what snapshot() gives and restore() takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from worldgen.beginnings import slot_seeds
from worldgen.world import State


@dataclass(frozen=True)
class EnvState:
    """Of b games (1 of a WorldEnv): the world's State, steps (b,) int64 and ends (b,) bool of their episodes.

    The random generators that draw the seeds of later episodes are not part of it: it is these games, not the next.
    """

    world: State
    num_steps: np.ndarray
    is_over: np.ndarray

    def __len__(self) -> int:
        return len(self.num_steps)

    def __getitem__(self, i: int) -> EnvState:
        """Game i alone, for a WorldEnv or for any slot of a WorldVectorEnv."""
        if not 0 <= i < len(self):
            raise IndexError(f"the snapshot holds {len(self)} games, there is no game {i}")
        one = slice(i, i + 1)
        return EnvState(self.world[one], self.num_steps[one], self.is_over[one])


def branched(state: State, seeds: Sequence[int | None]) -> State:
    """A snapshot of one game, or of as many as there are seeds -> the games as these seeds let them go on; None: as
    before. Noise is drawn by seed and step, so that one snapshot has as many futures as seeds."""
    if all(seed is None for seed in seeds) or len(state) not in (1, len(seeds)):
        return state
    games = state[np.zeros(len(seeds), np.int64)] if len(state) == 1 else state
    drawn = [old if seed is None else seed for old, seed in zip(games.seed, seeds, strict=True)]
    return replace(games, seed=slot_seeds(drawn, len(drawn)))
