"""Recordings of the real ToyGame, and what a perfect world would make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from worldgen.config import WorldConfig
from worldgen.envs.policies import make_policy
from worldgen.envs.record import record_episode
from worldgen.envs.toy_game import ACTIONS, ToyGame
from worldgen.training.held_out import HeldOut, open_held_out
from worldgen.training.replay import Replay
from worldgen.training.rollout import PROMPT

SIDE, FPS = 64, 15


def record_toys(folder: Path, episodes: int, seed: int, limit: int) -> HeldOut:
    """Of at most `limit` frames each, seen at half their size"""
    game = ToyGame(fps=FPS)
    for i in range(episodes):
        record_episode(game, make_policy("mix", game), folder / f"toy{i}.mkv", seed=seed, index=i, limit=limit)
    config = WorldConfig("toy", SIDE, SIDE, FPS, ACTIONS, context=4)
    return open_held_out(folder / "no-world", config, folder, lambda text: None)


def perfect_replay(toys: HeldOut, starts: np.ndarray, steps: int) -> Replay:
    """The recorded frames on every side; starts (b,): where the clips begin"""
    rows = starts[:, None] + np.arange(PROMPT + steps)
    frames = toys.frames(rows)
    last, real = frames[:, PROMPT - 1], frames[:, PROMPT:]
    return Replay(
        last=last, shown=last, real=real, made=real, restored=real, restored_last=last,
        actions=toys.actions[rows][:, PROMPT - 1 : -1], episode=toys.episode_of(starts),
    )  # fmt: skip
