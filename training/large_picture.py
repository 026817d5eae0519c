"""Figures of super-resolution: the larger frame beside the recordings' own of that size, and beside enlarging without
learning (nearest, bicubic, Scale2x)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from worldgen.errors import InputError
from worldgen.training.enlarge import bicubic, nearest, scale2x_twice
from worldgen.training.held_out import HeldOut
from worldgen.training.metrics import psnr, ssim
from worldgen.training.native_frames import native_clips
from worldgen.training.rollout import reconstruct
from worldgen.world import World

CLIPS, LENGTH, LEAD = 12, 8, 2  # the tokenizer's memory fills in the lead, which is not measured
STILL = 2  # grey levels by which a recorded pixel may differ from one frame to the next and still stand still

KEYS = {
    "scale": "how many times larger a side is",
    "frames": "recorded frames that it was measured on, in clips of consecutive ones",
    "area": "from the recorded frames, made smaller by averaging areas",
    "decoder": "from what the tokenizer makes of those, as in play",
    "psnr": "PSNR against the recorded frame of that size, dB",
    "ssim": "structural similarity to it",
    "flicker": "mean change, in grey levels, from frame to frame of pixels that stand still in the recording",
    "real_flicker": "the same of the recording itself",
    "network, bicubic, nearest, scale2x": "super-resolution, and three ways that learn nothing; Scale2x once or twice, "
    "null where that does not give the size",
}


def large_picture_figures(world: World, held_out: HeldOut, data: Path) -> tuple[dict[str, Any], np.ndarray] | str:
    """-> figures and a strip of pictures (h, w, 3), or why there are none"""
    height, width = world.config.height, world.config.width
    try:
        large_height = world.upscale(np.zeros((1, height, width, 3), np.uint8)).shape[1]
        scale = large_height // height
        clips = native_clips(held_out.cache, data, held_out.segments, scale, CLIPS, LENGTH, say=lambda text: None)
    except InputError as error:
        return str(error)
    rows = clips.rows[:, None] + np.arange(LENGTH)
    small = held_out.frames(rows)
    real = np.asarray(clips.frames)[:, LEAD:]
    still = np.abs(np.diff(real.astype(np.int16), axis=1)).max(-1) <= STILL
    figures: dict[str, Any] = {
        "scale": scale,
        "width": scale * width,
        "height": scale * height,
        "frames": int(np.prod(real.shape[:2])),
        "real_flicker": _flicker(real, still),
    }
    strips = []
    for kind, frames in (("area", small), ("decoder", reconstruct(world, small))):
        enlarged = np.stack([world.upscale(clip) for clip in frames])[:, LEAD:]
        frames = frames[:, LEAD:]
        ways: dict[str, np.ndarray | None] = {
            "network": enlarged,
            "bicubic": bicubic(frames, scale),
            "nearest": nearest(frames, scale),
            "scale2x": scale2x_twice(frames, scale),
        }
        figures[kind] = {
            name: None
            if made is None
            else {"psnr": psnr(made, real), "ssim": ssim(made, real), "flicker": _flicker(made, still)}
            for name, made in ways.items()
        }
        strips = [bicubic(frames[:, -1], scale), enlarged[:, -1]]
    picks = np.linspace(0, len(real) - 1, 3).astype(int)
    strip = np.concatenate([np.concatenate([x[i] for x in (*strips, real[:, -1])], axis=1) for i in picks], axis=0)
    return figures, strip


def _flicker(frames: np.ndarray, still: np.ndarray) -> float:
    """frames (b, t, h, w, 3), still (b, t - 1, h, w)"""
    change = np.abs(np.diff(frames.astype(np.int16), axis=1)).mean(-1)
    return float(change[still].mean()) if still.any() else float("nan")
