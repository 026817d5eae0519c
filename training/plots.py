"""Plots of an evaluation, as PNG files in memory."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from worldgen.errors import MissingExtraError
from worldgen.training.metrics import changed_pixels, decibels, gradient_energy, squared_errors
from worldgen.training.replay import Replay
from worldgen.training.sound_metrics import FLOOR, stft_magnitudes

MADE, COPY, CODEC = "#d1495b", "#8a8f98", "#2e86ab"
MAX_POINTS = 64  # frames at which the curves are taken


def horizon_plot(replay: Replay, fps: float) -> bytes:
    """Four curves over the frames since the prompt: PSNR, PSNR on changed pixels, sharpness, motion."""
    points = np.unique(np.round(np.geomspace(1, replay.num_frames, MAX_POINTS)).astype(int))
    curves = [_curve_at(replay, t - 1) for t in points]
    plt = _pyplot()
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.4), layout="constrained")
    titles = (
        "PSNR, dB",
        "PSNR on changed pixels, dB",
        "sharpness, 1 as recorded",
        "motion, 1 as recorded",
    )
    for axis, key, title in zip(axes, ("psnr", "changed", "sharpness", "motion"), titles, strict=True):
        styles = (("made", "generated", MADE, "-"), ("copy", "last true frame repeated", COPY, "--"))
        for who, label, colour, line in (*styles, ("codec", "tokenizer alone", CODEC, ":")):
            values = [curve[key].get(who, np.nan) for curve in curves]
            if not np.isnan(values).all():
                axis.plot(points, values, line, color=colour, label=label, linewidth=1.8, marker=".", markersize=4)
        if key in ("sharpness", "motion"):
            axis.axhline(1, color="#cccccc", linewidth=1, zorder=0)
            axis.set_ylim(bottom=0)
        axis.set_title(title, fontsize=11, loc="left")
        _log_frames(axis, replay.num_frames)
        axis.set_xlabel(f"frames after the prompt ({fps:g} a second)")
    axes[0].legend(frameon=False, fontsize=9)
    return _png(plt, figure)


def _curve_at(replay: Replay, i: int) -> dict[str, dict[str, float]]:
    real = replay.real[:, i]
    shown = {"made": replay.made[:, i], "copy": replay.last, "codec": replay.restored[:, i]}
    before = replay.made[:, i - 1] if i else replay.shown
    really_before = replay.real[:, i - 1] if i else replay.last
    mask = changed_pixels(real, replay.last)
    energy = gradient_energy(real)
    moved = changed_pixels(real, really_before).mean()
    return {
        "psnr": {who: _psnr(x, real, None) for who, x in shown.items()},
        "changed": {who: _psnr(x, real, mask) for who, x in shown.items()} if mask.any() else {},
        "sharpness": {w: gradient_energy(shown[w]) / energy for w in ("made", "codec")} if energy else {},
        "motion": {"made": float(changed_pixels(shown["made"], before).mean() / moved)} if moved else {},
    }


def _psnr(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None) -> float:
    errors, counts = squared_errors(a, b, mask)
    return decibels(errors.sum() / counts.sum())


def control_plot(control: dict[str, Any]) -> bytes:
    """Bars: how much each action changes the picture and, if known, how much closer to the recording it brings it."""
    per_action = control["per_action"]
    names = list(per_action)[::-1]
    deltas = [per_action[name].get("delta_psnr_1") for name in names]
    has_deltas = any(d is not None for d in deltas)
    plt = _pyplot()
    size = (11 if has_deltas else 6, 0.9 + 0.3 * len(names))
    figure, axes = plt.subplots(1, 2 if has_deltas else 1, figsize=size, layout="constrained", squeeze=False)
    left = axes[0, 0]
    left.barh(names, [per_action[name]["effect"] for name in names], color=MADE, height=0.6)
    left.set_title(f"effect on the picture after {control['at']} frames, grey levels", fontsize=11, loc="left")
    if has_deltas:
        right = axes[0, 1]
        labels = [f"{name}  ({per_action[name].get('count', 0)})" for name in names]
        right.barh(labels, [d or 0.0 for d in deltas], color=CODEC, height=0.6)
        right.axvline(0, color="#666666", linewidth=1)
        right.set_title("closer to the true next frame than other actions, dB (clips)", fontsize=11, loc="left")
    return _png(plt, figure)


def stability_plot(stability: dict[str, Any]) -> bytes:
    """Three curves along a long game: distance to real frames, sharpness, motion; 1 as in the recordings."""
    curve = stability["over_time"]
    plt = _pyplot()
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
    keys = ("kernel_ratio", "gradient_energy_ratio", "changed_pixel_ratio")
    titles = ("distance to real frames, 1 as real ones", "sharpness, 1 as recorded", "motion, 1 as recorded")
    for axis, key, title in zip(axes, keys, titles, strict=True):
        values = [np.nan if point[key] is None else point[key] for point in curve]
        axis.plot([point["frame"] for point in curve], values, color=MADE, linewidth=1.8, marker=".")
        axis.axhline(1, color="#cccccc", linewidth=1, zorder=0)
        axis.set_ylim(bottom=min(0, np.nanmin([0, *values])))
        axis.set_title(title, fontsize=11, loc="left")
        axis.set_xlabel(f"frames played (figures of the last {stability['last']} before each)")
    return _png(plt, figure)


def _log_frames(axis: Any, last: int) -> None:
    ticks = [t for t in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if t <= last]
    axis.set_xscale("log", base=2)
    axis.set_xticks(ticks, [str(t) for t in ticks])
    axis.minorticks_off()


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise MissingExtraError("a report's plots", "train") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _png(plt: Any, figure: Any) -> bytes:
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    return buffer.getvalue()


def waveform_plot(real: np.ndarray, played: np.ndarray, listened: np.ndarray, sample_rate: int) -> bytes:
    """Waveforms and spectrograms of one clip, (t, samples, channels) each: recorded, and generated on generated and on
    recorded frames."""
    plt = _pyplot()
    figure, axes = plt.subplots(2, 3, figsize=(15, 5), layout="constrained", sharex=True)
    titles = ("recorded", "generated, its own frames", "generated, the recorded frames")
    for column, title, clip in zip(axes.T, titles, (real, played, listened), strict=True):
        wave = clip.reshape(-1, clip.shape[-1]).mean(-1)
        seconds = np.arange(len(wave)) / sample_rate
        column[0].plot(seconds, wave, linewidth=0.4, color=MADE if title != "recorded" else CODEC)
        column[0].set_ylim(-1.05 * max(0.05, np.abs(real).max()), 1.05 * max(0.05, np.abs(real).max()))
        column[0].set_title(title, fontsize=11, loc="left")
        level = np.maximum(stft_magnitudes(wave, 512), FLOOR).T
        extent = (0, len(wave) / sample_rate, 0, sample_rate / 2000)
        column[1].imshow(20 * np.log10(level), origin="lower", aspect="auto", extent=extent, vmin=-60, vmax=-15)
        column[1].set_xlabel("seconds")
    axes[1, 0].set_ylabel("kHz")
    return _png(plt, figure)
