"""Inverse dynamics: can the action that was played be read off two neighbouring frames?

A small network learns it from real recordings and is then asked about frames that it has not seen: real ones, and ones
that the world generated, under the recorded actions and under uniformly random ones. A world that does what it is told
is read as well as the game; one that guesses from the situation what a player would do is read under recorded actions
but not under random ones.

It is trained on episodes that the world was trained on, where they are among the recordings; otherwise on every second
held-out episode, and asked about the others. It needs torch, and half a minute on two cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.data.dataset import Segments
from worldgen.training.held_out import HeldOut
from worldgen.training.replay import Replay
from worldgen.training.rollout import PROMPT, random_actions, replace_played, rollout
from worldgen.world import World

if TYPE_CHECKING:
    import torch

FRAMES = 16  # generated frames of each clip that are read: drift is measured elsewhere
STEPS, BATCH = 500, 64
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
    "trained_on": "where the network that reads learned it: episodes that the world was trained on, or every second "
    "held-out one, the clips being from the others",
    "trained_pairs": "real pairs of frames that it learned from",
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
    world: World, held_out: HeldOut, starts: np.ndarray, played: Replay, seed: int = 0
) -> dict[str, Any] | str:
    """starts (b,): where the clips of `played` begin -> the figures, or why there are none"""
    if reason := why_not(world, held_out):
        return reason
    rows, trained_on, chosen = _training_rows(held_out, starts)
    if len(rows) < MIN_PAIRS or not len(chosen):
        return f"{len(rows)} pairs of frames to learn from are too few"
    sizes = world.config.actions.sizes
    rng = np.random.default_rng(seed)
    rows = rng.choice(rows, min(len(rows), MAX_PAIRS), replace=False)
    reader = train_reader(held_out, np.sort(rows), sizes, seed)

    t = min(FRAMES, played.num_frames)
    recorded = played.actions[chosen, :t]
    clips = held_out.frames(starts[chosen, None] + np.arange(PROMPT))
    all_actions = held_out.actions[starts[chosen, None] + np.arange(PROMPT + t)]
    others = replace_played(all_actions, random_actions(world, all_actions, seed + 1))
    free = rollout(world, clips, others, t, seed)
    at_random = others[:, PROMPT - 1 : -1]

    def read(first: np.ndarray, frames: np.ndarray) -> np.ndarray:
        before = np.concatenate([first[:, None], frames[:, : t - 1]], axis=1)
        return reader(before, frames[:, :t])

    off_real = read(played.last[chosen], played.real[chosen])
    off_restored = read(played.restored_last[chosen], played.restored[chosen])
    off_recorded = read(played.shown[chosen], played.made[chosen])
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
        "trained_pairs": len(rows),
        "per_action": None,
    }
    if world.config.actions.is_discrete:
        sides = {"real": (off_real, recorded), "recorded": (off_recorded, recorded), "random": (off_random, at_random)}
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


def chance(actions: np.ndarray, sizes: Sequence[int]) -> float:
    return float(np.mean([1 / len(np.unique(actions[..., c])) for c in range(len(sizes))]))


def _training_rows(held_out: HeldOut, starts: np.ndarray) -> tuple[np.ndarray, str, np.ndarray]:
    """-> first frames of the pairs to learn from (n,), whose they are, and which clips may be asked about"""
    rows = _pairs(held_out.trained)
    if len(rows) >= MIN_PAIRS:
        return rows, "episodes the world was trained on", np.arange(len(starts))
    number = np.searchsorted(np.unique(held_out.episode_of(held_out.segments.starts)), held_out.episode_of(starts))
    every = _pairs(held_out.segments)
    known = np.unique(held_out.episode_of(held_out.segments.starts))
    is_second = np.searchsorted(known, held_out.episode_of(every)) % 2 == 1
    return every[is_second], "every second held-out episode", np.flatnonzero(number % 2 == 0)


def _pairs(segments: Segments) -> np.ndarray:
    parts = [np.arange(start, stop - 1) for start, stop in segments]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


class Reader:
    """Reads actions off pairs of frames, with a trained network."""

    def __init__(self, network: torch.nn.Module, sizes: Sequence[int]):
        self._network, self._sizes = network, tuple(sizes)

    def __call__(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """before, after (..., h, w, 3) uint8 -> rows (..., width)"""
        import torch

        lead, picture = before.shape[:-3], before.shape[-3:]
        first, second = before.reshape(-1, *picture), after.reshape(-1, *picture)
        read = []
        with torch.no_grad():
            for i in range(0, len(first), 256):
                logits = self._network(_to_input(first[i : i + 256], second[i : i + 256]))
                read.append(torch.stack([part.argmax(1) for part in logits.split(self._sizes, dim=1)], dim=1).numpy())
        return np.concatenate(read).reshape(*lead, len(self._sizes))


def train_reader(held_out: HeldOut, rows: np.ndarray, sizes: Sequence[int], seed: int = 0) -> Reader:
    """rows (n,): first frames of real pairs. Every action is shown equally often."""
    import torch
    from torch.nn import functional

    actions = held_out.actions[rows]
    _, kind, count = np.unique(actions, axis=0, return_inverse=True, return_counts=True)
    weight = 1 / count[kind.ravel()]
    weight /= weight.sum()
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(sizes)
        network(_to_input(*(held_out.frames(rows[:2, None])[:, 0] for _ in range(2))))  # its last layer learns its size
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=STEPS, pct_start=0.1)
    for _ in range(STEPS):
        picks = rng.choice(len(rows), BATCH, p=weight)
        pairs = held_out.frames(rows[picks, None] + np.arange(2))
        x = _to_input(pairs[:, 0], pairs[:, 1])
        x = x + 0.02 * torch.from_numpy(rng.standard_normal(tuple(x.shape), np.float32))  # what a codec may do
        wanted = torch.from_numpy(actions[picks]).long()
        parts = network(x).split(tuple(sizes), dim=1)
        loss = torch.stack([functional.cross_entropy(part, wanted[:, c]) for c, part in enumerate(parts)]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return Reader(network.eval(), sizes)


def _network(sizes: Sequence[int]) -> torch.nn.Module:
    from torch import nn

    layers: list[nn.Module] = []
    channels = (6, 24, 48, 64)
    for c_in, c_out in zip(channels, channels[1:], strict=False):
        layers += [nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), nn.GroupNorm(8, c_out), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(6), nn.Flatten(), nn.LazyLinear(128), nn.ReLU(), nn.Linear(128, sum(sizes))]
    return nn.Sequential(*layers)


def _to_input(before: np.ndarray, after: np.ndarray) -> torch.Tensor:
    """(n, h, w, 3) uint8 twice -> (n, 6, h, w) float32: the first frame, and what changed"""
    import torch

    first, second = (torch.from_numpy(np.ascontiguousarray(x)).float() / 127.5 - 1 for x in (before, after))
    return torch.cat([first, 2 * (second - first)], dim=-1).movedim(-1, 1)
