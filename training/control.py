"""Figures of control: does the world do what it is told?

Every rollout of a clip begins with the same prompt and the same noise, so two of them differ by their actions alone.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from worldgen.training.by_action import AT, by_action_figures, choices
from worldgen.training.held_out import HeldOut
from worldgen.training.interval import Resampling, interval
from worldgen.training.metrics import decibels, squared_errors
from worldgen.training.rollout import PROMPT, random_actions, replace_played, rollout
from worldgen.training.watch import OnProgress, unheard
from worldgen.world import World

DRAWS = 4  # random action sequences per clip

KEYS = {
    "at": "frames after the prompt at which delta_psnr and effect are taken",
    "delta_psnr": "PSNR under the recorded actions minus PSNR under uniformly random ones (Genie), dB: 0 is a world "
    "that ignores its player",
    "delta_psnr_90": "90 % interval of delta_psnr, by resampling episodes",
    "psnr_recorded": "the first of the two",
    "psnr_random": "the second, over several random sequences a clip",
    "recognised": "share of clips in which the frame made under the recorded action is nearer to the true one than "
    "those made under every other action; the mean over the actions; null of continuous ones",
    "recognised_chance": "what guessing would give, the mean over the same actions",
    "per_action": "the figures of each action, see by_action",
}


def control_figures(
    world: World,
    held_out: HeldOut,
    frames: np.ndarray,
    actions: np.ndarray,
    made: np.ndarray,
    episode: np.ndarray,
    seed: int = 0,
    on_actions: OnProgress = unheard,
) -> dict[str, Any]:
    """frames (b, t, h, w, 3), actions (b, t, width), row i chosen on frame i; made (b, >= AT, h, w, 3): the frames
    after the prompt under those actions, with the same seed"""
    per_action = by_action_figures(world, held_out, frames, actions, seed, on_actions)
    tried = choices(world.config.actions)
    num_values = Counter(c.component for c in tried)
    compared = [c for c in tried if per_action.get(c.name, {}).get("recognised") is not None]
    hits = [per_action[c.name]["recognised"] for c in compared]
    return {
        **delta_psnr_figures(world, frames, actions, made, episode, seed),
        "recognised": float(np.mean(hits)) if hits else None,
        "recognised_chance": float(np.mean([1 / num_values[c.component] for c in compared])) if hits else None,
        "per_action": per_action,
    }


def delta_psnr_figures(
    world: World, frames: np.ndarray, actions: np.ndarray, made: np.ndarray, episode: np.ndarray, seed: int = 0
) -> dict[str, Any]:
    """As control_figures; AT is Genie's t = 4 (Bruce et al. 2024)."""
    real = frames[:, PROMPT + AT - 1]
    errors, counts = squared_errors(made[:, AT - 1], real)
    random_errors = np.zeros_like(errors)
    for draw in range(DRAWS):
        others = replace_played(actions, random_actions(world, actions, seed=seed + 1 + draw))
        random_errors += squared_errors(rollout(world, frames, others, AT, seed).frames[:, AT - 1], real)[0] / DRAWS
    resampling = Resampling(episode)
    recorded_draws, random_draws = resampling.psnr(errors, counts), resampling.psnr(random_errors, counts)
    psnr_recorded, psnr_random = (decibels(e.sum() / counts.sum()) for e in (errors, random_errors))
    return {
        "at": AT,
        "delta_psnr": psnr_recorded - psnr_random,
        "delta_psnr_90": None if recorded_draws is None else interval(recorded_draws - random_draws),
        "psnr_recorded": psnr_recorded,
        "psnr_random": psnr_random,
    }
