"""Figures of in-between frames: of three recorded frames in a row the middle one is made from the two around it and
compared with the true one, beside blending those two and repeating the first."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from worldgen.training.held_out import HeldOut
from worldgen.training.large_picture import STILL
from worldgen.training.metrics import changed_pixels, psnr, ssim
from worldgen.training.rollout import reconstruct
from worldgen.world import World

CLIPS, LEAD = 96, 2  # the tokenizer's memory fills in the lead, which is not measured

KEYS = {
    "frames": "held-out frames that were made from the two around them; in play those two are half as far apart",
    "recorded": "from recorded frames",
    "decoder": "from what the tokenizer makes of those, as in play, against the recorded middle frame",
    "psnr": "PSNR against the recorded middle frame, dB",
    "psnr_changed": "PSNR on the pixels that differ between the two frames around it",
    "ssim": "structural similarity to the recorded middle frame",
    "flicker": "mean change, in grey levels, to the frame before and after of pixels that stand still in the recording",
    "real_flicker": "the same of the recording itself",
    "network, blend, repeat": "the in-between frame, the mean of the two around it, the first of them for longer",
    "ms": "mean milliseconds an in-between frame takes, before it is enlarged",
}


def between_figures(world: World, held_out: HeldOut) -> tuple[dict[str, Any], np.ndarray]:
    """-> figures and a strip of pictures (h, w, 3): before, made, true, after"""
    rows = held_out.clips(CLIPS, LEAD + 3)[:, None] + np.arange(LEAD + 3)
    frames = held_out.frames(rows)
    before, real, after = frames[:, LEAD], frames[:, LEAD + 1], frames[:, LEAD + 2]
    steps = np.abs(np.diff(frames[:, LEAD:].astype(np.int16), axis=1)).max(-1)
    still, changed = (steps <= STILL).all(axis=1), changed_pixels(before, after)
    figures: dict[str, Any] = {"frames": len(rows), "real_flicker": _flicker(before, real, after, still)}
    strip = before[:0]
    for kind, clips in (("recorded", frames), ("decoder", reconstruct(world, frames))):
        first, last = clips[:, LEAD], clips[:, LEAD + 2]
        began = time.perf_counter()
        made = world.between(first, last)
        figures["ms"] = 1000 * (time.perf_counter() - began) / len(rows)
        ways = {"network": made, "blend": blend(first, last), "repeat": first}
        figures[kind] = {
            name: {
                "psnr": psnr(way, real),
                "psnr_changed": psnr(way, real, changed),
                "ssim": ssim(way, real),
                "flicker": _flicker(first, way, last, still),
            }
            for name, way in ways.items()
        }
        if kind == "recorded":
            picks = np.argsort(changed.mean((1, 2)))[-4:]
            strip = np.concatenate([np.concatenate([x[i] for x in (before, made, real, after)], 1) for i in picks])
    return figures, strip


def blend(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(..., h, w, 3) uint8 each -> their mean, uint8"""
    return ((before.astype(np.uint16) + after + 1) // 2).astype(np.uint8)


def _flicker(before: np.ndarray, middle: np.ndarray, after: np.ndarray, still: np.ndarray) -> float:
    """Frames (n, h, w, 3), still (n, h, w)"""
    frames = np.stack([before, middle, after]).astype(np.int16)
    change = np.abs(np.diff(frames, axis=0)).mean((0, -1))
    return float(change[still].mean()) if still.any() else float("nan")
