"""What games begin from: seeds, a world's own starts, or frames and actions that someone gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from worldgen import sampler
from worldgen.bundle import Starts
from worldgen.config import WorldConfig
from worldgen.errors import InputError


def slot_seeds(seed: int | Sequence[int], num_slots: int) -> np.ndarray:
    """A seed, from which slots count up, or one for each -> (slots,) uint64"""
    seeds = [int(seed) + i for i in range(num_slots)] if isinstance(seed, int | np.integer) else [int(s) for s in seed]
    if len(seeds) != num_slots:
        raise InputError(f"{len(seeds)} seeds for {num_slots} slots")
    if bad := [s for s in seeds if not 0 <= s < 2**63]:
        raise InputError(f"a seed is between 0 and 2**63, got {bad[0]}")
    return np.array(seeds, np.uint64)


def slot_indices(indices: np.ndarray, num_slots: int) -> np.ndarray:
    """One start for all slots, or one for each -> (slots,)"""
    if indices.ndim and len(indices) != num_slots:
        raise InputError(f"{len(indices)} starts for {num_slots} slots")
    return np.broadcast_to(indices, num_slots)


def pick_starts(starts: Starts | None, seeds: np.ndarray, indices: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Of a world's own: these, or drawn by the seeds (b,) -> frames (b, t, h, w, 3) uint8, actions (b, t, width)"""
    if starts is None or len(starts.frames) == 0:
        raise InputError("this world has no starts: reset(start=FRAMES)")
    number = len(starts.frames)
    if indices is None:
        picks = [int(sampler.generator(s, 0, sampler.START).integers(number)) for s in seeds]
    else:
        picks = [int(i) for i in indices]
    if bad := [i for i in picks if not 0 <= i < number]:
        raise InputError(f"start {bad[0]} does not exist: this world has 0..{number - 1}")
    return starts.frames[picks], starts.actions[picks]


def prompt_rows(
    config: WorldConfig, frames: np.ndarray, actions: Any, batch: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """A user's frames and the actions between them -> (b, t, h, w, 3) uint8 and (b, t, width), NULL first"""
    height, width, num_slots = config.height, config.width, batch or 1
    if frames.dtype != np.uint8 or frames.ndim not in (3, 4, 5) or frames.shape[-3:] != (height, width, 3):
        raise InputError(
            f"a start is uint8 ({height}, {width}, 3), or such frames in a row, got {frames.dtype} {frames.shape}"
        )
    frames = frames[None] if frames.ndim == 3 else frames
    if frames.shape[-4] == 0:
        raise InputError("a start needs at least one frame")
    if frames.ndim == 5 and len(frames) != num_slots:
        raise InputError(f"{len(frames)} starts for {num_slots} slots")
    frames = np.broadcast_to(frames, (num_slots, *frames.shape[-4:]))
    t = frames.shape[1]
    rows = config.actions.null(num_slots, t)
    if actions is not None:
        lead = (t - 1,) if batch is None else (batch, t - 1)
        rows[:, 1:] = config.actions.encode(actions, *lead).reshape(num_slots, t - 1, -1)
    return frames, rows
