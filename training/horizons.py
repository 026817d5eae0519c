"""How far clips are played: near horizons all from the same clips, each far one from a few that are long enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from worldgen.errors import InputError
from worldgen.training.held_out import HeldOut
from worldgen.training.picture import picture_curve, picture_figures
from worldgen.training.replay import replay
from worldgen.training.rollout import PROMPT, random_actions, replace_played
from worldgen.training.watch import OnProgress, unheard
from worldgen.world import World

NEAR = 64  # horizons up to here share their clips
FAR_CLIPS = 8
FAR_BYTES = 500_000_000  # of the frames that a far horizon keeps


def reachable(held_out: HeldOut, horizons: Sequence[int]) -> list[int]:
    """The horizons that some held-out episode is long enough for, in order; says so in the notes when one is not."""
    wanted = sorted(set(horizons))
    if not wanted or wanted[0] < 1:
        raise InputError(f"horizons are at least 1 frame, got {list(horizons)}")
    lengths = held_out.segments.lengths
    longest = int(lengths.max(initial=0)) - PROMPT
    reached = [h for h in wanted if h <= longest]
    if not reached:
        raise InputError(
            f"the longest held-out episode has {longest + PROMPT} frames, too few for a prompt of {PROMPT} and a "
            f"horizon of {wanted[0]}: record longer ones"
        )
    if too_far := wanted[len(reached) :]:
        held_out.notes.append(
            f"horizon {', '.join(map(str, too_far))} left out: no episode has {PROMPT + too_far[0]} frames"
        )
    for h in [max(near_and_far(reached)[0]), *near_and_far(reached)[1]]:
        fits = int((lengths >= PROMPT + h).sum())
        if fits < len(lengths):
            held_out.notes.append(
                f"clips of {h} frames after the prompt come from the {fits} of {len(lengths)} stretches that hold as "
                "many"
            )
    return reached


def near_and_far(horizons: Sequence[int]) -> tuple[list[int], list[int]]:
    """horizons in order -> those that share their clips, the others. The nearest is always among the first."""
    near = [h for h in horizons if h <= NEAR] or list(horizons[:1])
    return near, [h for h in horizons if h not in near]


def far_figures(
    load: Callable[[int], World], held_out: HeldOut, horizon: int, seed: int = 0, on_frames: OnProgress = unheard
) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """load: batch -> the world -> {str(horizon): figures of picture.py}, its curve beyond NEAR"""
    frame_bytes = int(np.prod(held_out.cache.frames.shape[1:]))
    clips = int(np.clip(FAR_BYTES // (3 * frame_bytes * (PROMPT + horizon)), 1, FAR_CLIPS))
    starts = held_out.clips(clips, PROMPT + horizon)
    world = load(len(starts))
    rows = starts[:, None] + np.arange(PROMPT + horizon)
    actions = held_out.actions[rows]
    if not held_out.has_actions:
        actions = replace_played(actions, random_actions(world, actions, seed))
    played = replay(
        world, held_out.frames(rows), actions, held_out.episode_of(starts), horizon, seed, on_frames=on_frames
    )
    return picture_figures(played, [horizon]), picture_curve(played, beyond=NEAR)
