"""Figures of single actions: does each one do in the world what it does in the game?

For every action, clips are looked for in which it was pressed at the end of the prompt; they are played on under it for
as long as it was held, and under each other action instead, from the same prompt with the same noise. A world in which
one key does nothing can have good figures everywhere else: here it has not. Of several components (buttons, sticks)
each is looked at alone, the others staying as they were recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldgen.actions import ActionMap
from worldgen.training.held_out import HeldOut
from worldgen.training.metrics import changed_pixels, decibels, squared_errors
from worldgen.training.rollout import PROMPT, replace_played, rollout
from worldgen.training.watch import OnProgress, part_of, unheard
from worldgen.world import World

AT = 4  # frames that an action is held for at most
MAX_HELD = 24  # actions that are tried one by one
CLIPS = 12  # of each action
EFFECT_CLIPS = 16  # that every action is held in, to compare the actions with each other

KEYS = {
    "effect": "how much holding this action for 4 frames instead of the others changes the picture: root mean square, "
    "grey levels",
    "count": "clips in which it was pressed on the last frame of the prompt; the figures below are of those, at the "
    "frame up to which it was held, the 4th at most",
    "held": "that frame, the mean over the clips",
    "psnr": "PSNR of the generated frame against the recorded one",
    "skill": "psnr less that of repeating the last true frame",
    "psnr_changed": "psnr on the pixels where the recorded frame differs from the last true one; null where none does",
    "skill_changed": "psnr_changed less that of repeating the last true frame: what this action moves, how much better "
    "than not at all",
    "changed_pixel_ratio": "share of pixels that have changed since the prompt, generated over recorded: near 0 for a "
    "key that does nothing here and something in the game",
    "delta_psnr": "psnr under this action less psnr under the other ones: 0 or less for a key that is not understood",
    "recognised": "share of the clips in which the frame made under this action is the nearest to the recorded one",
}


@dataclass(frozen=True)
class Choice:
    """One value of one component of the actions."""

    name: str
    component: int
    value: int


def choices(actions: ActionMap) -> list[Choice]:
    """Every value of every component, at most MAX_HELD; none of continuous actions."""
    if actions.kind == "box":
        return []
    if actions.is_discrete:
        return [Choice(name, 0, i) for i, name in enumerate(actions.names)][:MAX_HELD]
    every = [
        Choice(f"{name} = {value}", i, value)
        for i, (name, size) in enumerate(zip(actions.names, actions.sizes, strict=True))
        for value in range(size)
    ]
    return every[:MAX_HELD]


def held_actions(actions: ActionMap) -> list[tuple[str, Any]]:
    """Actions to hold, with their names: every one of a discrete space; of others each component on its own, at the
    ends of its range, and nothing at all. At most MAX_HELD."""
    if actions.is_discrete:
        return [(actions.names[i], i) for i in range(actions.sizes[0])][:MAX_HELD]
    if actions.kind == "box":
        rest = [min(max(0.0, low), high) for low, high in zip(actions.low, actions.high, strict=True)]
        ends: Sequence[Sequence[float]] = list(zip(actions.low, actions.high, strict=True))
    else:
        rest, ends = [0] * len(actions.sizes), [range(1, n) for n in actions.sizes]
    held: list[tuple[str, Any]] = [("nothing", rest)]
    for i, name in enumerate(actions.names):
        for end in ends[i]:
            held.append((f"{name} = {end:g}", [*rest[:i], end, *rest[i + 1 :]]))
    return held[:MAX_HELD]


def by_action_figures(
    world: World,
    held_out: HeldOut,
    frames: np.ndarray,
    actions: np.ndarray,
    seed: int = 0,
    on_actions: OnProgress = unheard,
) -> dict[str, dict[str, Any]]:
    """frames (b, t, h, w, 3), actions (b, t, width): clips to hold every action in -> {action: the keys of KEYS};
    continuous ones have an effect alone"""
    tried = choices(world.config.actions)
    held = held_actions(world.config.actions)
    total = len(held) + len(tried)
    figures = _effects(world, held, frames[:EFFECT_CLIPS], actions[:EFFECT_CLIPS], seed, part_of(on_actions, 0, total))
    begun = len(held)
    for component in dict.fromkeys(c.component for c in tried):
        group = [c for c in tried if c.component == component]
        if len(group) > 1:
            for name, found in _compare(world, held_out, group, seed, part_of(on_actions, begun, total)).items():
                figures.setdefault(name, {"effect": None}).update(found)
        begun += len(group)
    return figures


def _effects(
    world: World,
    held: list[tuple[str, Any]],
    frames: np.ndarray,
    actions: np.ndarray,
    seed: int,
    on_actions: OnProgress,
) -> dict[str, dict[str, Any]]:
    later: list[np.ndarray] = []  # of each action: the frame at AT, (b, h, w, 3)
    for _, value in held:
        on_actions(len(later), len(held))
        rows = np.broadcast_to(world.config.actions.encode(value), actions.shape)
        later.append(rollout(world, frames, replace_played(actions, rows), AT, seed).frames[:, -1])
    squares = np.zeros((len(held), len(held)))
    for i, a in enumerate(later):
        for j in range(i):
            squares[i, j] = squares[j, i] = np.square(a.astype(np.float32) - later[j]).mean(dtype=np.float64)
    others = max(1, len(held) - 1)
    return {name: {"effect": float(np.sqrt(row.sum() / others))} for (name, _), row in zip(held, squares, strict=True)}


def _compare(
    world: World, held_out: HeldOut, group: list[Choice], seed: int, on_actions: OnProgress
) -> dict[str, dict[str, Any]]:
    """group: all values of one component -> their figures"""
    component = group[0].component
    picked = [_clips_of(held_out, choice) for choice in group]
    starts, frames_held = (np.concatenate([p[i] for p in picked]) for i in range(2))
    pressed = np.repeat(np.arange(len(group)), [len(p[0]) for p in picked])
    if not len(starts):
        return {choice.name: {"count": 0} for choice in group}
    rows = starts[:, None] + np.arange(PROMPT + AT)
    clips, actions = held_out.frames(rows), held_out.actions[rows]
    each = np.arange(len(starts))
    real, last = clips[each, PROMPT - 1 + frames_held], clips[:, PROMPT - 1]

    made: list[np.ndarray] = []
    shown = last
    for choice in group:
        on_actions(len(made), len(group))
        others = actions.copy()
        others[:, PROMPT - 1 :, component] = choice.value
        played = rollout(world, clips, others, AT, seed)
        made.append(played.frames[each, frames_held - 1])
        shown = played.shown
    errors = np.stack([squared_errors(m, real)[0] for m in made])  # (values, clips)
    pixels = float(real[0, ..., 0].size)
    nearest = errors == errors.min(0)
    credit = nearest / nearest.sum(0)  # a tie is a guess
    mask = changed_pixels(real, last)
    out: dict[str, dict[str, Any]] = {}
    for i, choice in enumerate(group):
        mine = pressed == i
        if not mine.any():
            out[choice.name] = {"count": 0}
            continue
        psnr = decibels(errors[i, mine].mean() / pixels)
        other = decibels(np.delete(errors, i, axis=0)[:, mine].mean() / pixels)
        copied = decibels(squared_errors(last[mine], real[mine])[0].mean() / pixels)
        changed, copied_changed = (_masked(x[mine], real[mine], mask[mine]) for x in (made[i], last))
        moved, really_moved = changed_pixels(made[i][mine], shown[mine]).mean(), mask[mine].mean()
        out[choice.name] = {
            "count": int(mine.sum()),
            "held": float(frames_held[mine].mean()),
            "psnr": psnr,
            "skill": psnr - copied,
            "psnr_changed": changed,
            "skill_changed": changed - copied_changed,
            "changed_pixel_ratio": float(moved / really_moved) if really_moved else float("nan"),
            "delta_psnr": psnr - other,
            "recognised": float(credit[i, mine].mean()),
        }
    return out


def _clips_of(held_out: HeldOut, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
    """First frames of clips in which it is pressed on the last frame of the prompt, and for how many frames it is held
    (n,) each: those that hold it longest, spread over the recordings."""
    starts, held = [], []
    pressed = held_out.actions[:, choice.component] == choice.value
    for start, stop in held_out.segments:
        begins = np.arange(start, stop - PROMPT - AT + 1)
        on = begins + PROMPT - 1
        runs = np.cumprod([pressed[on + i] for i in range(AT)], axis=0).sum(0) if len(on) else np.zeros(0, np.int64)
        starts.append(begins[runs > 0])
        held.append(runs[runs > 0])
    if not starts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    first, frames = np.concatenate(starts), np.concatenate(held)
    enough = next(n for n in range(AT, 0, -1) if n == 1 or (frames >= n).sum() >= CLIPS)
    first, frames = first[frames >= enough], frames[frames >= enough]
    picks = np.unique(np.linspace(0, len(first) - 1, min(CLIPS, len(first))).round().astype(int))
    return first[picks], frames[picks]


def _masked(frames: np.ndarray, real: np.ndarray, mask: np.ndarray) -> float:
    errors, counts = squared_errors(frames, real, mask)
    return decibels(errors.sum() / counts.sum()) if counts.sum() else float("nan")
