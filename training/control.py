"""Figures of control: does the world do what it is told?

Every rollout of a clip begins with the same prompt and the same noise, so two of them differ by their actions alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from worldgen.actions import ActionMap
from worldgen.training.interval import Resampling, interval
from worldgen.training.metrics import decibels, squared_errors
from worldgen.training.rollout import PROMPT, random_actions, replace_played, rollout
from worldgen.world import World

AT = 4  # frames after the prompt (Genie, Bruce et al. 2024)
DRAWS = 4  # random action sequences per clip
MAX_HELD = 24  # actions that are tried one by one

KEYS = {
    "at": "frames after the prompt at which delta_psnr and effect are taken",
    "delta_psnr": "PSNR under the recorded actions minus PSNR under uniformly random ones (Genie), dB: 0 is a world "
    "that ignores its player",
    "delta_psnr_90": "90 % interval of delta_psnr, by resampling episodes",
    "psnr_recorded": "the first of the two",
    "psnr_random": "the second, over several random sequences a clip",
    "recognised": "share of clips in which the frame made under the recorded action is nearer to the true next frame "
    "than those made under every other action; null unless actions are discrete",
    "recognised_chance": "what guessing would give",
    "per_action": "for each action: effect, and for discrete ones count, recognised and delta_psnr_1",
    "effect": "how much holding this action instead of the others changes the picture: root mean square, grey levels",
    "count": "clips that were recorded with this action on the last frame of the prompt",
    "delta_psnr_1": "PSNR of the true next frame under this action, in the clips where it was the recorded one, minus "
    "PSNR under the other actions",
}


def control_figures(
    world: World, frames: np.ndarray, actions: np.ndarray, made: np.ndarray, episode: np.ndarray, seed: int = 0
) -> dict[str, Any]:
    """frames (b, t, h, w, 3), actions (b, t, width), row i chosen on frame i; made (b, >= AT, h, w, 3): the frames
    after the prompt under those actions, with the same seed"""
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
        **_held_actions(world, frames, actions, seed),
    }


def held_actions(actions: ActionMap) -> list[tuple[str, Any]]:
    """Actions to hold, with their names: every one of a discrete space; of others each component on its own, at the
    ends of its range, and nothing at all. At most MAX_HELD."""
    if actions.is_discrete:
        return [(actions.names[i], i) for i in range(actions.sizes[0])][:MAX_HELD]
    if actions.kind == "box":
        rest = [min(max(0.0, low), high) for low, high in zip(actions.low, actions.high, strict=True)]
        choices: Sequence[Sequence[float]] = list(zip(actions.low, actions.high, strict=True))
    else:
        rest, choices = [0] * len(actions.sizes), [range(1, n) for n in actions.sizes]
    held: list[tuple[str, Any]] = [("nothing", rest)]
    for i, name in enumerate(actions.names):
        for choice in choices[i]:
            held.append((f"{name} = {choice:g}", [*rest[:i], choice, *rest[i + 1 :]]))
    return held[:MAX_HELD]


def _held_actions(world: World, frames: np.ndarray, actions: np.ndarray, seed: int) -> dict[str, Any]:
    held = held_actions(world.config.actions)
    b, t, _ = actions.shape
    first, later = [], []  # of each action: the first frame and the one at AT, (b, h, w, 3)
    for _, value in held:
        rows = np.broadcast_to(world.config.actions.encode(value), actions.shape)
        made = rollout(world, frames, replace_played(actions, rows), AT, seed).frames
        first.append(made[:, 0])
        later.append(made[:, AT - 1])
    effects = _effects(later)
    per_action: dict[str, dict[str, Any]] = {name: {"effect": e} for (name, _), e in zip(held, effects, strict=True)}
    if not world.config.actions.is_discrete or len(held) < 2:
        return {"recognised": None, "recognised_chance": None, "per_action": per_action}

    true_action = actions[:, PROMPT - 1, 0]
    errors = np.stack([squared_errors(x, frames[:, PROMPT])[0] for x in first])  # (held, b)
    count = squared_errors(first[0], frames[:, PROMPT])[1][0]
    nearest = errors == errors.min(0)
    credit = nearest / nearest.sum(0)  # a tie is a guess
    is_tried = true_action < len(held)
    hits = credit[np.minimum(true_action, len(held) - 1), np.arange(b)]
    for i, (name, _) in enumerate(held):
        mine = true_action == i
        others = np.delete(errors, i, axis=0)[:, mine]
        per_action[name] |= {
            "count": int(mine.sum()),
            "recognised": float(hits[mine].mean()) if mine.any() else None,
            "delta_psnr_1": decibels(errors[i, mine].mean() / count) - decibels(others.mean() / count)
            if mine.any()
            else None,
        }
    return {
        "recognised": float(hits[is_tried].mean()) if is_tried.any() else None,
        "recognised_chance": 1 / len(held),
        "per_action": per_action,
    }


def _effects(frames: Sequence[np.ndarray]) -> list[float]:
    """Frames (b, h, w, 3) under each action -> root mean square difference of each to all the others"""
    if len(frames) < 2:
        return [0.0] * len(frames)
    squares = np.zeros((len(frames), len(frames)))
    for i, a in enumerate(frames):
        for j in range(i):
            squares[i, j] = squares[j, i] = np.square(a.astype(np.float32) - frames[j]).mean(dtype=np.float64)
    return [float(np.sqrt(row.sum() / (len(frames) - 1))) for row in squares]
