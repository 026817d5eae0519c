"""What games begin from: seeds, a world's own starts, or frames and actions that someone gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from worldgen import sampler
from worldgen.bundle import Starts
from worldgen.config import WorldConfig
from worldgen.errors import InputError

# frames (b, t, h, w, 3) uint8, actions (b, t, width), sound (b, <= t, samples, channels) float32, None if unknown
Beginning = tuple[np.ndarray, np.ndarray, np.ndarray | None]


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


def pick_starts(starts: Starts | None, seeds: np.ndarray, indices: np.ndarray | None) -> Beginning:
    """Of a world's own: these, or drawn by the seeds (b,)"""
    if starts is None or len(starts.frames) == 0:
        raise InputError("this world has no starts: reset(start=FRAMES)")
    number = len(starts.frames)
    if indices is None:
        picks = [int(sampler.generator(s, 0, sampler.START).integers(number)) for s in seeds]
    else:
        picks = [int(i) for i in indices]
    if bad := [i for i in picks if not 0 <= i < number]:
        raise InputError(f"start {bad[0]} does not exist: this world has 0..{number - 1}")
    sound = None if starts.sound is None else starts.sound[picks].astype(np.float32) / 32768
    return starts.frames[picks], starts.actions[picks], sound


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


def prompt_sound(sound: Any, num_frames: int, shape: tuple[int, int] | None, batch: int | None) -> np.ndarray | None:
    """A user's sound of the first frames of a prompt; shape: (samples, channels) of a frame's, None in a world that
    does not hear -> (b, <= num_frames, samples, channels) float32"""
    if sound is None:
        return None
    if shape is None:
        raise InputError(
            "the sound of a prompt needs a world that generates sound and has the graph 'hear': leave it out, or "
            "export the world again"
        )
    array = np.asarray(sound)
    lead = () if batch is None else (batch,)
    fits = array.dtype.kind == "f" and array.ndim == len(lead) + 3 and array.shape[:-3] == lead
    if not fits or array.shape[-2:] != shape or not 1 <= array.shape[-3] <= num_frames:
        raise InputError(
            f"the sound of a prompt is float, {('batch, ' if lead else '')}(t, {shape[0]}, {shape[1]}), of 1 to "
            f"{num_frames} frames, got {array.dtype} {array.shape}; int16 divided by 32768 is float"
        )
    if not np.isfinite(array).all() or np.abs(array).max() > 1:
        raise InputError("the sound of a prompt is between -1 and 1")
    return np.ascontiguousarray(array.reshape(batch or 1, *array.shape[-3:]), np.float32)
