"""Plays held-out clips through a world: the true first frames as the prompt, then its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worldgen.training.metrics import contact_sheet, psnr
from worldgen.world import World

PROMPT = 4  # true frames that a rollout begins from


def rollout(world: World, frames: np.ndarray, actions: np.ndarray, horizon: int, seed: int = 0) -> np.ndarray:
    """frames (b, t, h, w, 3) uint8, actions (b, t, width), row i chosen on frame i; world.batch == b
    -> generated frames PROMPT .. PROMPT + horizon - 1, (b, horizon, h, w, 3)"""
    values = world.config.actions.values(actions)
    world.reset(seed, start=frames[:, :PROMPT], start_actions=values[:, : PROMPT - 1])
    return np.stack([world.step(values[:, PROMPT - 1 + i]).image for i in range(horizon)], axis=1)


def random_actions(world: World, like: np.ndarray, seed: int) -> np.ndarray:
    """Uniformly random rows (b, t, width)"""
    rng = np.random.default_rng(seed)
    b, t, _ = like.shape
    values = [[world.config.actions.sample(rng) for _ in range(t)] for _ in range(b)]
    return world.config.actions.encode(values, b, t)


def control_and_horizon(
    world: World, frames: np.ndarray, actions: np.ndarray, horizons: Sequence[int]
) -> tuple[dict[str, float], np.ndarray]:
    """PSNR at each horizon beside copying the last true frame, and delta_psnr at 4 (Genie): PSNR under the recorded
    actions minus PSNR under uniformly random ones. -> figures, a contact sheet of real above generated"""
    longest = max(horizons)
    made = rollout(world, frames, actions, longest)
    real = frames[:, PROMPT : PROMPT + longest]
    last = np.broadcast_to(frames[:, PROMPT - 1 : PROMPT], real.shape)
    figures: dict[str, float] = {}
    for h in horizons:
        figures[f"psnr_{h}"] = psnr(made[:, h - 1], real[:, h - 1])
        figures[f"copy_last_{h}"] = psnr(last[:, h - 1], real[:, h - 1])
    figures["delta_psnr"] = delta_psnr(world, frames, actions, made)
    shown = sorted({0, 1, 3, 7, 11, longest - 1} & set(range(longest)))
    rows = [[clip[i] for i in shown] for pair in zip(real[:4], made[:4], strict=True) for clip in pair]
    return figures, contact_sheet(*rows)


def delta_psnr(world: World, frames: np.ndarray, actions: np.ndarray, made: np.ndarray, at: int = 4) -> float:
    """made: the rollout under the recorded actions"""
    shuffled = actions.copy()
    shuffled[:, PROMPT - 1 :] = random_actions(world, actions, seed=1)[:, PROMPT - 1 :]
    other = rollout(world, frames, shuffled, at)
    real = frames[:, PROMPT + at - 1]
    return psnr(made[:, at - 1], real) - psnr(other[:, at - 1], real)
