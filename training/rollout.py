"""Plays recorded clips through a world: the true first frames as the prompt, then its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldgen.actions import ActionMap
from worldgen.training.metrics import contact_sheet, psnr
from worldgen.training.watch import OnProgress, unheard
from worldgen.world import World

PROMPT = 4  # true frames that a rollout begins from


def led_to(actions: ActionMap, chosen: np.ndarray) -> np.ndarray:
    """Rows chosen on each frame of a clip (b, t, width) -> rows that led to each frame, NULL for the first."""
    return np.concatenate([actions.null(len(chosen), 1), chosen[:, :-1]], axis=1)


@dataclass(frozen=True)
class Rollout:
    """What a world showed for b clips after their prompts.

    shown (b, h, w, 3) uint8: the last frame of the prompt, as the world shows it.
    frames (b, t, h, w, 3) uint8, reward (b, t) float32, terminated (b, t) bool, end_probability (b, t) float32: of the
    t frames it generated.
    """

    shown: np.ndarray
    frames: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    end_probability: np.ndarray


def rollout(
    world: World,
    frames: np.ndarray,
    actions: np.ndarray,
    steps: int,
    seed: int = 0,
    on_frames: OnProgress = unheard,
) -> Rollout:
    """frames (b, t, h, w, 3) uint8, actions (b, t, width), row i chosen on frame i -> `steps` frames after the prompt.
    Those of the prompt may be NULL: unknown.

    The world runs world.batch clips at a time. Clip i plays with seed + i whatever the batch size, so two rollouts of
    the same clips differ by their actions alone.
    """
    parts = []
    batch = batch_of(world)
    values = world.config.actions.values(actions)
    known = not (actions[:, : PROMPT - 1] == world.config.actions.null()).all(-1).any()
    for begin in range(0, len(frames), batch):
        rows = np.minimum(np.arange(begin, begin + batch), len(frames) - 1)  # the last one fills up the batch
        count = min(batch, len(frames) - begin)
        seeds = [seed + int(i) for i in rows]
        first = world.reset(
            seeds, start=frames[rows, :PROMPT], start_actions=values[rows, : PROMPT - 1] if known else None
        )
        steps_done = []
        for i in range(steps):
            steps_done.append(world.step(values[rows, PROMPT - 1 + i]))
            on_frames(begin * steps + (i + 1) * count, len(frames) * steps)
        ends = [f.terminated if f.end_probability is None else f.end_probability for f in steps_done]
        parts.append(
            Rollout(
                first.image[:count],
                np.stack([f.image[:count] for f in steps_done], axis=1),
                np.stack([np.asarray(f.reward)[:count] for f in steps_done], axis=1),
                np.stack([np.asarray(f.terminated)[:count] for f in steps_done], axis=1),
                np.stack([np.asarray(p, np.float32)[:count] for p in ends], axis=1),
            )
        )
    if len(parts) == 1:  # long games fill the memory once, not twice
        return parts[0]
    return Rollout(*(np.concatenate([getattr(p, name) for p in parts]) for name in Rollout.__dataclass_fields__))


def reconstruct(world: World, frames: np.ndarray) -> np.ndarray:
    """frames (b, t, h, w, 3) uint8 -> the same through the tokenizer alone, world.batch clips at a time"""
    parts = []
    batch = batch_of(world)
    for begin in range(0, len(frames), batch):
        rows = np.minimum(np.arange(begin, begin + batch), len(frames) - 1)
        parts.append(world.reconstruct(frames[rows])[: len(frames) - begin])
    return np.concatenate(parts)


def batch_of(world: World) -> int:
    assert world.batch is not None, "clips are played side by side: World.load(..., batch=n)"
    return world.batch


def random_actions(world: World, like: np.ndarray, seed: int) -> np.ndarray:
    """Uniformly random rows (b, t, width)"""
    rng = np.random.default_rng(seed)
    b, t, _ = like.shape
    values = [[world.config.actions.sample(rng) for _ in range(t)] for _ in range(b)]
    return world.config.actions.encode(values, b, t)


def control_and_horizon(
    world: World, frames: np.ndarray, actions: np.ndarray, horizons: Sequence[int]
) -> tuple[dict[str, float], np.ndarray]:
    """A quick look while training: PSNR at each horizon beside copying the last true frame, and delta_psnr at 4
    (Genie): PSNR under the recorded actions minus PSNR under uniformly random ones. -> figures, a contact sheet of real
    above generated"""
    longest = max(horizons)
    made = rollout(world, frames, actions, longest).frames
    real = frames[:, PROMPT : PROMPT + longest]
    last = np.broadcast_to(frames[:, PROMPT - 1 : PROMPT], real.shape)
    figures: dict[str, float] = {}
    for h in horizons:
        figures[f"psnr_{h}"] = psnr(made[:, h - 1], real[:, h - 1])
        figures[f"copy_last_{h}"] = psnr(last[:, h - 1], real[:, h - 1])
    figures["delta_psnr"] = _delta_psnr(world, frames, actions, made)
    shown = sorted({0, 1, 3, 7, 11, longest - 1} & set(range(longest)))
    rows = [[clip[i] for i in shown] for pair in zip(real[:4], made[:4], strict=True) for clip in pair]
    return figures, contact_sheet(*rows)


def _delta_psnr(world: World, frames: np.ndarray, actions: np.ndarray, made: np.ndarray, at: int = 4) -> float:
    """made: the rollout under the recorded actions"""
    other = rollout(world, frames, replace_played(actions, random_actions(world, actions, seed=1)), at).frames
    real = frames[:, PROMPT + at - 1]
    return psnr(made[:, at - 1], real) - psnr(other[:, at - 1], real)


def replace_played(actions: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The actions of the prompt stay, those played after it are the others'."""
    out = actions.copy()
    out[:, PROMPT - 1 :] = others[:, PROMPT - 1 :]
    return out
