"""Figures of a long game: is it still the game after a thousand frames?

A few games begin from true frames and are played under random actions that are held for a while, far past anything a
recording could be compared with frame by frame. What their last frames are compared with is the game as such: a kernel
distance (features.py) to real frames, beside that of as many stretches of real frames to the real frames of all other
episodes, so that 1 is as good as real; sharpness; and how many pixels change, because a frozen picture of the game
passes every distance between single frames. Real stretches differ much (one with an enemy near is far from all others),
so many are drawn; and as one group of games is far less than all, the distance is the mean of several groups'.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from worldgen.training.features import Embedding, describe, kernel_distance
from worldgen.training.held_out import HeldOut
from worldgen.training.metrics import changed_pixels, gradient_energy
from worldgen.training.rollout import PROMPT, batch_of, reconstruct, rollout
from worldgen.training.watch import OnProgress, unheard
from worldgen.world import World

GROUPS = 4  # of games
LARGEST = 4  # games of a group
LAST = 200  # frames at the end that the figures are of
HOLD_SECONDS = 0.4  # mean time that a random action is held
MAX_REAL = 1000  # real frames to compare with
PER_STRETCH = 100  # frames of each stretch that the distance is taken over
DRAWS = 64  # of real stretches, to know what the distance of real frames is
POINTS = 6  # stretches along the way, for the curve

KEYS = {
    "frames": "how long each game was played",
    "games": "how many, each from the true frames of another place in the recordings",
    "groups": "the games are divided into so many, and the distance is taken of each",
    "last": "frames at the end that the figures below are of",
    "kernel_distance": "polynomial-kernel distance (as in KID, but on features.py's in-domain features, times 1000) of "
    "generated frames to real ones, mean of the groups",
    "real_kernel_distance": "the same for as many stretches of real frames as a group has games, against the real "
    "frames of other episodes; mean of several draws; null where too few episodes are held out",
    "kernel_ratio": "kernel_distance / real_kernel_distance: 1 is as near to the game as the game is to itself",
    "kernel_ratio_range": "least and most of the groups' kernel_ratio: how far it goes by chance",
    "real_kernel_ratio_range": "of the single real draws over their mean, the middle nine tenths: how far from 1 "
    "chance goes",
    "reconstruction_kernel_ratio": "kernel_ratio of real stretches through the tokenizer alone",
    "reconstruction_gradient_energy_ratio": "gradient_energy_ratio of those",
    "changed_pixel_rate": "share of pixels that change from one generated frame to the next",
    "real_changed_pixel_rate": "the same in the recordings",
    "changed_pixel_ratio": "generated over recorded: 0 is a frozen picture",
    "gradient_energy_ratio": "sharpness, generated over recorded: towards 0 it has melted",
    "first_end": "frame at which the world first said that a game had ended, mean of the games in which it did; they "
    "are played on all the same; null without",
    "over_time": "kernel_ratio, changed_pixel_ratio and gradient_energy_ratio of stretches along the way; frame: the "
    "last of each",
}


def group_size(held_out: HeldOut) -> int:
    """Games of a group, side by side: so few that as many real episodes leave others to compare with."""
    return min(LARGEST, max(1, len(held_out.segments) // 2))


def stability_figures(
    world: World, held_out: HeldOut, frames: int = 1100, seed: int = 0, on_frames: OnProgress = unheard
) -> tuple[dict[str, Any], np.ndarray]:
    """Plays GROUPS groups of world.batch games, each of `frames` frames -> the figures, the first group's frames
    (b, frames, h, w, 3) uint8"""
    starts = held_out.clips(GROUPS * batch_of(world), PROMPT + 1)
    rows = starts[:, None] + np.arange(PROMPT)
    actions = held_actions_at_random(world, len(starts), PROMPT + frames, seed)
    if held_out.has_actions:
        actions[:, : PROMPT - 1] = held_out.actions[rows][:, :-1]
    last = min(LAST, max(1, frames // 2))
    ends = np.unique(np.linspace(last, frames, POINTS).round().astype(int))

    groups = [np.arange(len(starts))[i::GROUPS] for i in range(min(GROUPS, len(starts)))]  # each from everywhere
    real = _RealSide(held_out, len(groups[0]), last, np.random.default_rng(0))  # whatever the seed of the games
    shown: np.ndarray | None = None
    curves: list[list[dict[str, float]]] = []
    first_ends: list[int] = []
    for i, group in enumerate(groups):  # one after the other: frames of all would fill the memory

        def on_group(done: int, total: int, before: int = i) -> None:
            on_frames(before * total + done, len(groups) * total)

        begin = held_out.frames(rows[group])
        made = rollout(world, begin, actions[group], frames, seed + i * len(groups[0]), on_group)
        begun_in = held_out.episode_of(starts[group])
        curves.append([real.compare(made.frames[:, end - last : end], begun_in) for end in ends])
        first_ends += [game.argmax() + 1 for game in made.terminated if game.any()]
        shown = made.frames if shown is None else shown
        del made
    assert shown is not None  # held_out.clips() gives at least one
    curve = [
        {key: float(np.mean([point[key] for point in points])) for key in points[0]}
        for points in zip(*curves, strict=True)
    ]
    ratios = [points[-1]["kernel_ratio"] for points in curves]
    figures = {
        "frames": frames,
        "games": len(starts),
        "groups": len(groups),
        "last": last,
        "real_kernel_distance": real.distance,
        "kernel_ratio_range": [min(ratios), max(ratios)] if np.isfinite(ratios).all() else None,
        "real_kernel_ratio_range": real.ratio_range,
        **real.reconstructed(world),
        "real_changed_pixel_rate": real.changed,
        **curve[-1],
        "first_end": float(np.mean(first_ends)) if first_ends else None,
        "over_time": [
            {"frame": int(end)}
            | {k: point[k] for k in ("kernel_ratio", "changed_pixel_ratio", "gradient_energy_ratio")}
            for end, point in zip(ends, curve, strict=True)
        ],
    }
    return figures, shown


def held_actions_at_random(world: World, b: int, t: int, seed: int) -> np.ndarray:
    """Rows (b, t, width): random actions, each held for HOLD_SECONDS on average"""
    rng = np.random.default_rng(seed)
    release = min(1.0, 1 / (HOLD_SECONDS * world.config.fps))
    values: list[list[Any]] = []
    for _ in range(b):
        held = [world.config.actions.sample(rng)]
        for _ in range(t - 1):
            held.append(world.config.actions.sample(rng) if rng.random() < release else held[-1])
        values.append(held)
    return world.config.actions.encode(values, b, t)


class _RealSide:
    """The real frames that generated ones are compared with, and what such a comparison gives among themselves."""

    def __init__(self, held_out: HeldOut, games: int, last: int, rng: np.random.Generator):
        frames = held_out.clips(MAX_REAL, 1)
        self._episode = held_out.episode_of(frames)
        pictures = held_out.frames(frames[:, None])[:, 0]
        described = describe(pictures)
        self._embed = Embedding.fit(described)
        self._real = self._embed(described)
        self._energy = gradient_energy(pictures)
        self._first: tuple[list[np.ndarray], np.ndarray] | None = None  # stretches of a draw, and their episodes
        distances: list[float] = []
        changed: list[np.ndarray] = []
        for draw in _real_stretches(held_out, games, last, rng):  # one after the other: all would fill the memory
            stretches = [held_out.frames(stretch[None])[0] for stretch in draw]
            episodes = held_out.episode_of(np.array([stretch[0] for stretch in draw]))
            distances.append(self._distance(stretches, episodes))
            changed += [changed_pixels(p[1:], p[:-1]) for p in stretches]
            self._first = self._first or (stretches, episodes)
        self.changed = float(np.concatenate(changed).mean()) if changed else float("nan")
        mean = float(np.mean(distances)) if distances else float("nan")
        self.distance = mean if mean > 0 else float("nan")
        self.ratio_range = (
            (np.percentile(distances, [5, 95]) / mean).tolist() if distances and np.isfinite(self.distance) else None
        )

    def compare(self, made: np.ndarray, begun_in: np.ndarray) -> dict[str, float]:
        """made (b, t, h, w, 3), begun_in (b,): the episodes that the games began in"""
        distance = self._distance(list(made), begun_in)
        changed = float(changed_pixels(made[:, 1:], made[:, :-1]).mean()) if made.shape[1] > 1 else float("nan")
        return {
            "kernel_distance": distance,
            "kernel_ratio": distance / self.distance,
            "changed_pixel_rate": changed,
            "changed_pixel_ratio": changed / self.changed if self.changed > 0 else float("nan"),
            "gradient_energy_ratio": gradient_energy(made) / self._energy if self._energy > 0 else float("nan"),
        }

    def reconstructed(self, world: World) -> dict[str, float]:
        """The first draw of real stretches through the tokenizer."""
        if self._first is None:
            return {"reconstruction_kernel_ratio": float("nan"), "reconstruction_gradient_energy_ratio": float("nan")}
        pictures, episodes = self._first
        shortest = min(len(p) for p in pictures)
        real = np.stack([p[:shortest] for p in pictures])
        restored = reconstruct(world, real)
        energy = gradient_energy(real)
        return {
            "reconstruction_kernel_ratio": self._distance(list(restored), episodes) / self.distance,
            "reconstruction_gradient_energy_ratio": gradient_energy(restored) / energy if energy > 0 else float("nan"),
        }

    def _distance(self, stretches: list[np.ndarray], episodes: np.ndarray) -> float:
        """Stretches (t, h, w, 3) against the real frames of all episodes but theirs."""
        others = ~np.isin(self._episode, episodes)
        picked = [s[np.linspace(0, len(s) - 1, min(PER_STRETCH, len(s))).astype(int)] for s in stretches]
        vectors = self._embed(describe(np.concatenate(picked)))
        return kernel_distance(vectors, self._real[others] if others.any() else self._real)


def _real_stretches(held_out: HeldOut, games: int, last: int, rng: np.random.Generator) -> list[list[np.ndarray]]:
    """DRAWS times `games` stretches of consecutive frames, of different episodes while some remain that no stretch is
    of; none where a single episode is held out."""
    spans = [(start, stop) for start, stop in held_out.segments if stop - start > 1]
    episodes = held_out.episode_of(np.array([start for start, _ in spans], np.int64))
    if len(set(episodes.tolist())) < 2:
        return []
    draws = []
    for _ in range(DRAWS):
        left = len(set(episodes.tolist())) - 1  # one episode at least is compared with
        draw: list[np.ndarray] = []
        seen: set[int] = set()
        for i in rng.permutation(len(spans)):
            if len(draw) == games:
                break
            if episodes[i] in seen or len(seen) == left:
                continue
            seen.add(int(episodes[i]))
            start, stop = spans[i]
            length = min(last, stop - start)
            begin = int(rng.integers(start, stop - length + 1))
            draw.append(np.arange(begin, begin + length))
        draws.append(draw)
    return draws
