"""What fewer denoising steps cost in quality and save in time: the same clips with 1, 2 and 4 of them a frame."""

from __future__ import annotations

from typing import Any

import numpy as np

from worldgen.config import NFE_CHOICES
from worldgen.training.metrics import changed_pixels, decibels, gradient_energy, squared_errors
from worldgen.training.replay import Replay
from worldgen.training.rollout import rollout
from worldgen.world import World

AT = 16  # frames after the prompt, or the last before it

KEYS = {
    "at": "frames after the prompt that the figures are of",
    "1, 2, 4": "denoising steps a frame",
    "psnr": "PSNR of the generated frame against the recorded one, as in horizons",
    "loss": "psnr with 4 steps less psnr with these: what the saved steps cost, dB; below 0 where more steps only add "
    "what PSNR punishes",
    "psnr_changed": "PSNR on the pixels that differ from the last true frame; null where none does",
    "gradient_energy_ratio": "sharpness, generated over recorded",
    "changed_pixel_ratio": "pixels that change from frame to frame up to there, generated over recorded",
    "ms_p50": "milliseconds a frame of one game, median; in a process of its own",
    "ms_p95": "the same, 95th percentile",
}


def nfe_figures(world: World, played: Replay, prompt: np.ndarray, actions: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """played: with world.nfe steps; prompt (b, PROMPT, h, w, 3), actions (b, t, width): of its clips -> the keys of
    KEYS but for the times. Leaves world.nfe as it was."""
    at, usual = min(AT, played.num_frames), world.nfe
    mask = changed_pixels(played.real[:, at - 1], played.last)
    figures: dict[str, Any] = {"at": at}
    try:
        for nfe in NFE_CHOICES:
            if nfe == usual:
                shown, made = played.shown, played.made[:, :at]
            else:
                world.nfe = nfe
                again = rollout(world, prompt, actions, at, seed)
                shown, made = again.shown, again.frames
            figures[str(nfe)] = _of(played, shown, made, mask)
    finally:
        world.nfe = usual
    finest = figures[str(max(NFE_CHOICES))]["psnr"]
    for nfe in NFE_CHOICES:
        figures[str(nfe)]["loss"] = finest - figures[str(nfe)]["psnr"]
    return figures


def _of(played: Replay, shown: np.ndarray, made: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    at = made.shape[1]
    real = played.real[:, :at]
    errors, counts = squared_errors(made[:, -1], real[:, -1])
    changed, num_changed = squared_errors(made[:, -1], real[:, -1], mask)
    moved = changed_pixels(made, np.concatenate([shown[:, None], made[:, :-1]], axis=1)).mean()
    really_moved = changed_pixels(real, np.concatenate([played.last[:, None], real[:, :-1]], axis=1)).mean()
    energy = gradient_energy(real[:, -1])
    return {
        "psnr": decibels(errors.sum() / counts.sum()),
        "psnr_changed": decibels(changed.sum() / num_changed.sum()) if num_changed.sum() else float("nan"),
        "gradient_energy_ratio": gradient_energy(made[:, -1]) / energy if energy > 0 else float("nan"),
        "changed_pixel_ratio": float(moved / really_moved) if really_moved else float("nan"),
    }
