"""Inverse dynamics: can the action that was played be read off two neighbouring frames?

A small network learns it from real recordings and is then asked about frames that it has not seen: real ones, and ones
that the world generated, under the recorded actions and under uniformly random ones. A world that does what it is told
is read as well as the game; one that guesses from the situation what a player would do is read under recorded actions
but not under random ones.

It is trained on episodes that the world was trained on, where they are among the recordings; otherwise two of them are
trained, each on every second held-out episode, and each reads the episodes that it has not seen. It needs
torch, and a minute on two cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from worldgen.actions import ActionMap
from worldgen.data.dataset import Segments
from worldgen.training.action_reader import STEPS, known_reader
from worldgen.training.held_out import HeldOut
from worldgen.training.replay import Replay
from worldgen.training.rollout import PROMPT, random_actions, replace_played, rollout
from worldgen.training.watch import OnProgress, part_of, unheard
from worldgen.world import World

FRAMES = 16  # generated frames of each clip that are read: drift is measured elsewhere
MAX_PAIRS = 20_000
MIN_PAIRS = 200  # fewer teach nothing

KEYS = {
    "accuracy_real": "share of actions read rightly off real held-out frames; the mean over the actions that occur, so "
    "that frequent ones do not count for more (of several buttons, the mean over buttons)",
    "accuracy_restored": "the same of those frames through the tokenizer alone: a ceiling for the next two",
    "accuracy_recorded": "the same of frames generated under the recorded actions",
    "accuracy_random": "the same of frames generated under uniformly random actions",
    "chance": "what guessing would give on the real ones",
    "chance_random": "what guessing would give under random actions",
    "recorded_ratio": "accuracy_recorded / accuracy_real",
    "random_ratio": "accuracy_random / accuracy_real",
    "pairs": "pairs of frames that each is taken over",
    "trained_on": "where the network that reads learned it: episodes that the world was trained on, or the held-out "
    "ones that it does not read",
    "trained_pairs": "real pairs of frames that it learned from",
    "per_key": "of each key that discrete actions are pressed with, how rightly it is read whether it is pressed (the "
    "mean of the recalls of pressed and not pressed, 0.5 by guessing): real, recorded, random; null without keys. A "
    "key whose effect cannot be seen at once even in the game (a weapon that is still loading) is near 0.5 in real",
    "per_action": "of each discrete action, the share that is read rightly: real, recorded, random; null where it does "
    "not occur, and for actions of another kind",
}


def why_not(world: World, held_out: HeldOut) -> str | None:
    """Why inverse dynamics cannot be measured, in words for the notes; None if it can."""
    if not held_out.has_actions:
        return "no actions are known"
    if world.config.actions.kind == "box":
        return "the actions are continuous"
    if find_spec("torch") is None:
        return "torch is not installed: pip install 'worldgen[train]'"
    return None


def inverse_dynamics_figures(
    world: World,
    held_out: HeldOut,
    starts: np.ndarray,
    played: Replay,
    seed: int = 0,
    on_steps: OnProgress = unheard,
) -> dict[str, Any] | str:
    """starts (b,): where the clips of `played` begin -> the figures, or why there are none"""
    if reason := why_not(world, held_out):
        return reason
    lessons, trained_on = _lessons(held_out, starts, seed)
    if any(len(lesson.rows) < MIN_PAIRS for lesson in lessons) or not lessons:
        fewest = min((len(lesson.rows) for lesson in lessons), default=0)
        return f"{fewest} pairs of frames to learn from are too few"
    sizes = world.config.actions.sizes
    readers = [
        (
            known_reader(held_out, lesson.rows, sizes, seed, part_of(on_steps, i * STEPS, len(lessons) * STEPS)),
            lesson.clips,
        )
        for i, lesson in enumerate(lessons)
    ]

    t = min(FRAMES, played.num_frames)
    recorded = played.actions[:, :t]
    clips = held_out.frames(starts[:, None] + np.arange(PROMPT))
    all_actions = held_out.actions[starts[:, None] + np.arange(PROMPT + t)]
    others = replace_played(all_actions, random_actions(world, all_actions, seed + 1))
    free = rollout(world, clips, others, t, seed)
    at_random = others[:, PROMPT - 1 : -1]

    def read(first: np.ndarray, frames: np.ndarray) -> np.ndarray:
        before = np.concatenate([first[:, None], frames[:, : t - 1]], axis=1)
        rows = np.zeros_like(recorded)
        for reader, its_clips in readers:
            rows[its_clips] = reader(before[its_clips], frames[its_clips, :t])
        return rows

    off_real = read(played.last, played.real)
    off_restored = read(played.restored_last, played.restored)
    off_recorded = read(played.shown, played.made)
    off_random = read(free.shown, free.frames)
    real = balanced_accuracy(off_real, recorded, sizes)
    figures: dict[str, Any] = {
        "accuracy_real": real,
        "accuracy_restored": balanced_accuracy(off_restored, recorded, sizes),
        "accuracy_recorded": balanced_accuracy(off_recorded, recorded, sizes),
        "accuracy_random": balanced_accuracy(off_random, at_random, sizes),
        "chance": chance(recorded, sizes),
        "chance_random": chance(at_random, sizes),
        "pairs": int(recorded.shape[0] * t),
        "trained_on": trained_on,
        "trained_pairs": min(len(lesson.rows) for lesson in lessons),
        "per_key": None,
        "per_action": None,
    }
    if world.config.actions.is_discrete:
        sides = {"real": (off_real, recorded), "recorded": (off_recorded, recorded), "random": (off_random, at_random)}
        figures["per_key"] = _per_key(world.config.actions, sides)
        figures["per_action"] = {
            name: {side: _recall(*x, action=i) for side, x in sides.items()}
            for i, name in enumerate(world.config.actions.names)
        }
    figures["recorded_ratio"] = figures["accuracy_recorded"] / real if real else float("nan")
    figures["random_ratio"] = figures["accuracy_random"] / real if real else float("nan")
    return figures


def balanced_accuracy(read: np.ndarray, actions: np.ndarray, sizes: Sequence[int]) -> float:
    """Rows (..., width) -> mean over components of the mean recall of the values that occur"""
    recalls = []
    for c in range(len(sizes)):
        hit, value = read[..., c] == actions[..., c], actions[..., c]
        recalls.append(np.mean([hit[value == v].mean() for v in np.unique(value)]))
    return float(np.mean(recalls))


def _recall(read: np.ndarray, actions: np.ndarray, action: int) -> float | None:
    mine = actions[..., 0] == action
    return float((read[..., 0][mine] == action).mean()) if mine.any() else None


def _per_key(actions: ActionMap, sides: dict[str, tuple[np.ndarray, np.ndarray]]) -> Any:
    """sides: rows that were read and rows that were played (..., 1)"""
    keys = dict.fromkeys(key for held in actions.keys for key in held)
    figures = {}
    for key in keys:
        presses = np.array([key in held for held in actions.keys], np.int64)
        figures[key] = {
            side: balanced_accuracy(presses[read], presses[played], [2]) for side, (read, played) in sides.items()
        }
    return figures or None


def chance(actions: np.ndarray, sizes: Sequence[int]) -> float:
    return float(np.mean([1 / len(np.unique(actions[..., c])) for c in range(len(sizes))]))


@dataclass(frozen=True)
class _Lesson:
    """rows (n,): first frames of the pairs to learn from; clips (c,): those that are read by who has learned it."""

    rows: np.ndarray
    clips: np.ndarray


def _lessons(held_out: HeldOut, starts: np.ndarray, seed: int) -> tuple[list[_Lesson], str]:
    """-> who learns from what and reads which clips, and where the pairs come from"""
    rng = np.random.default_rng(seed)

    def some(rows: np.ndarray) -> np.ndarray:
        return np.sort(rng.choice(rows, min(len(rows), MAX_PAIRS), replace=False))

    rows = _pairs(held_out.trained)
    if len(rows) >= MIN_PAIRS:
        return [_Lesson(some(rows), np.arange(len(starts)))], "episodes the world was trained on"
    every = _pairs(held_out.segments)
    known = np.unique(held_out.episode_of(held_out.segments.starts))
    half_of_row = np.searchsorted(known, held_out.episode_of(every)) % 2
    half_of_clip = np.searchsorted(known, held_out.episode_of(starts)) % 2
    halves = [_Lesson(some(every[half_of_row != i]), np.flatnonzero(half_of_clip == i)) for i in range(2)]
    return [lesson for lesson in halves if len(lesson.clips)], "the held-out episodes that it does not read"


def _pairs(segments: Segments) -> np.ndarray:
    parts = [np.arange(start, stop - 1) for start, stop in segments]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)
