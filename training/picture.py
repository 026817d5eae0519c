"""Figures of the picture at each horizon: is frame h after the prompt the one that was recorded, is it as sharp, and
does it move as much? Copying the last true frame (a bad world's best trick) and the tokenizer alone (the best that
this world could do) stand beside each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worldgen.training.interval import Resampling, interval
from worldgen.training.metrics import blockiness, changed_pixels, decibels, gradient_energy, squared_errors, ssim
from worldgen.training.replay import Replay

KEYS = {
    "psnr": "PSNR of the generated frame h against the recorded one, dB; the squared error is averaged over all "
    "pixels and clips, not the decibels",
    "psnr_90": "90 % interval of psnr, by resampling episodes; null with a single episode",
    "copy_last_psnr": "PSNR of repeating the last true frame instead",
    "skill": "psnr - copy_last_psnr: above 0 the world beats a frozen picture",
    "skill_90": "90 % interval of skill",
    "reconstruction_psnr": "PSNR of the recorded frame h through the tokenizer alone: a ceiling for psnr",
    "ssim": "structural similarity (7x7 windows), 1 for equal frames; averaged over frames",
    "copy_last_ssim": "the same for repeating the last true frame",
    "reconstruction_ssim": "the same for the tokenizer alone",
    "psnr_changed": "PSNR over the pixels where the recorded frame h differs from the last true frame; null where none "
    "does",
    "copy_last_psnr_changed": "the same for repeating the last true frame; these pixels are chosen where that is "
    "wrong, so reconstruction_psnr_changed is the fairer measure",
    "skill_changed": "psnr_changed - copy_last_psnr_changed",
    "reconstruction_psnr_changed": "the same pixels, the tokenizer alone",
    "changed_share": "how many of the pixels those are",
    "gradient_energy_ratio": "sharpness: squared differences of neighbouring pixels, generated over recorded; below 1 "
    "is blurred, above 1 is noisy",
    "reconstruction_gradient_energy_ratio": "the same for the tokenizer alone",
    "blockiness": "jumps across the borders of 8x8 blocks over jumps elsewhere, in the generated frames: well above "
    "the next one, tokens can be seen as blocks",
    "real_blockiness": "the same in the recorded frames at this size",
    "reconstruction_blockiness": "the same for the tokenizer alone",
    "clips": "clips that the figures of this horizon are taken over; far ones are played from fewer",
    "clip_episodes": "episodes that those come from",
    "changed_pixel_rate": "share of pixels that change from generated frame h - 1 to h",
    "real_changed_pixel_rate": "the same in the recordings",
    "changed_pixel_ratio": "generated over recorded: 0 is a frozen picture; null where nothing moves in the recordings",
}


def picture_figures(replay: Replay, horizons: Sequence[int]) -> dict[str, dict[str, object]]:
    """-> {"1": {key: figure}, "4": ...} with the keys of KEYS"""
    resampling = Resampling(replay.episode)
    return {str(h): _at(replay, h - 1, resampling) for h in horizons}


CURVE = ("psnr", "psnr_changed", "gradient_energy_ratio", "changed_pixel_ratio")
MAX_POINTS, MAX_FAR_POINTS = 48, 12  # frames at which a curve is taken, near and far


def picture_curve(replay: Replay, beyond: int = 0) -> list[dict[str, object]]:
    """Some of the figures along the way, at frames after `beyond`, ever further apart: [{"frame", "clips", and those
    of CURVE with copy_last_ and reconstruction_ beside them where they exist}]"""
    resampling = Resampling(np.zeros(1, np.int64))  # no intervals along the way
    count = MAX_FAR_POINTS if beyond else MAX_POINTS
    frames = np.unique(np.round(np.geomspace(beyond + 1, replay.num_frames, count)).astype(int))
    kept = [f"{before}{key}" for key in CURVE for before in ("", "copy_last_", "reconstruction_")]
    points = [(int(frame), _at(replay, int(frame) - 1, resampling)) for frame in frames if frame > beyond]
    return [{"frame": i, "clips": len(replay.real)} | {k: f[k] for k in kept if k in f} for i, f in points]


def _at(replay: Replay, i: int, resampling: Resampling) -> dict[str, object]:
    real, made, restored, last = replay.real[:, i], replay.made[:, i], replay.restored[:, i], replay.last
    errors = {name: squared_errors(x, real) for name, x in (("made", made), ("copy", last), ("restored", restored))}
    draws = {name: resampling.psnr(*e) for name, e in errors.items()}
    skill_draws = None if draws["made"] is None else draws["made"] - draws["copy"]
    psnr, copy, floor = (_psnr(*errors[name]) for name in ("made", "copy", "restored"))
    mask = changed_pixels(real, last)
    changed, copy_changed, floor_changed = (_psnr(*squared_errors(x, real, mask)) for x in (made, last, restored))
    energy = gradient_energy(real)
    moved, really_moved = _moved(replay, i)
    return {
        "psnr": psnr,
        "psnr_90": interval(draws["made"]),
        "copy_last_psnr": copy,
        "skill": psnr - copy,
        "skill_90": interval(skill_draws),
        "reconstruction_psnr": floor,
        "ssim": ssim(made, real),
        "copy_last_ssim": ssim(last, real),
        "reconstruction_ssim": ssim(restored, real),
        "psnr_changed": changed,
        "copy_last_psnr_changed": copy_changed,
        "skill_changed": changed - copy_changed,
        "reconstruction_psnr_changed": floor_changed,
        "changed_share": float(mask.mean()),
        "gradient_energy_ratio": _ratio(gradient_energy(made), energy),
        "reconstruction_gradient_energy_ratio": _ratio(gradient_energy(restored), energy),
        "blockiness": blockiness(made),
        "real_blockiness": blockiness(real),
        "reconstruction_blockiness": blockiness(restored),
        "clips": len(real),
        "clip_episodes": len(np.unique(replay.episode)),
        "changed_pixel_rate": moved,
        "real_changed_pixel_rate": really_moved,
        "changed_pixel_ratio": _ratio(moved, really_moved),
    }


def _moved(replay: Replay, i: int) -> tuple[float, float]:
    """Share of pixels that change on the way to frame i, generated and recorded. Before the first generated frame comes
    the last of the prompt as the world shows it: against the true one, the tokenizer's error would count as motion."""
    before = replay.made[:, i - 1] if i else replay.shown
    really_before = replay.real[:, i - 1] if i else replay.last
    moved = changed_pixels(replay.made[:, i], before).mean()
    return float(moved), float(changed_pixels(replay.real[:, i], really_before).mean())


def _psnr(errors: np.ndarray, counts: np.ndarray) -> float:
    return decibels(errors.sum() / counts.sum()) if counts.sum() else float("nan")


def _ratio(a: float, b: float) -> float:
    return a / b if b > 0 else float("nan")
