"""Worlds that know the toy game of conftest.py, and worlds that fail it in one known way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from conftest import FPS, SIDE, TOY_ACTIONS, move

from worldgen.config import WorldConfig
from worldgen.world import Frame


class OracleWorld:
    """Plays the toy game perfectly from a prompt, through the parts of World's interface that evaluation uses.

    reads: what it takes an action for; None ignores actions: the picture is frozen. paints: what it does to a frame
    before showing it. ends_after: steps after which it says that the game has ended.
    """

    backend_name, hash, nfe = "oracle", "0" * 16, 1
    engine = {"backend": "oracle", "version": "1", "device": "cpu", "threads": 1}

    def __init__(
        self,
        batch: int,
        *,
        reads: Callable[[int], int | None] = lambda action: action,
        paints: Callable[[np.ndarray], np.ndarray] = lambda frame: frame,
        reward: Callable[[float], float] = lambda reward: reward,
        ends_after: int | None = None,
    ):
        self.config = WorldConfig(
            "oracle", SIDE, SIDE, FPS, TOY_ACTIONS, context=4, has_reward=True, has_terminated=True
        )
        self.batch = batch
        self._reads, self._paints, self._reward, self._ends_after = reads, paints, reward, ends_after

    def reset(self, seed, *, start, start_actions=None) -> Frame:
        assert start.shape[0] == len(seed) == self.batch
        self._frames, self._step = start[:, -1].copy(), 0
        return self._show(np.zeros(self.batch))

    def step(self, actions) -> Frame:
        self._step += 1
        rewards = np.zeros(self.batch)
        for i, action in enumerate(actions):
            read = self._reads(int(action))
            if read is not None:
                place = place_of(self._frames[i])
                floor = self._frames[i][tuple((place + 8) % SIDE)].copy()
                self._frames[i][place[0] : place[0] + 4, place[1] : place[1] + 4] = floor
                place = move(place, read)
                self._frames[i][place[0] : place[0] + 4, place[1] : place[1] + 4] = (240, 220, 60)
            rewards[i] = self._reward(float((place_of(self._frames[i]) < 7).all()))
        return self._show(rewards)

    def reconstruct(self, frames: np.ndarray) -> np.ndarray:
        return np.stack([np.stack([self._paints(frame) for frame in clip]) for clip in frames])

    def _show(self, rewards: np.ndarray) -> Frame:
        image = np.stack([self._paints(frame) for frame in self._frames])
        return Frame(image, None, rewards.astype(np.float32), np.full(self.batch, self._step == self._ends_after))


def place_of(frame: np.ndarray) -> np.ndarray:
    """Top left corner of the square: it is the only thing with that much red, and recording moves colours little."""
    y, x = np.nonzero(frame[..., 0] > 140)
    return np.array([y.min(), x.min()])


def blurred(frame: np.ndarray) -> np.ndarray:
    padded = np.pad(frame.astype(np.float32), ((1, 1), (1, 1), (0, 0)), mode="edge")
    shifts = [padded[i : i + SIDE, j : j + SIDE] for i in range(3) for j in range(3)]
    return np.mean(shifts, axis=0).astype(np.uint8)
