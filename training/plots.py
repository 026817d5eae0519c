"""Plots of an evaluation, as PNG files in memory."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from worldgen.errors import MissingExtraError
from worldgen.training.sound_metrics import FLOOR, stft_magnitudes

MADE, COPY, CODEC = "#d1495b", "#8a8f98", "#2e86ab"


def horizon_plot(curve: list[dict[str, Any]], fps: float) -> bytes:
    """curve: of picture_curve() -> four curves over the frames since the prompt: PSNR, PSNR on changed pixels,
    sharpness, motion. Where other clips begin, the line does too."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.4), layout="constrained")
    titles = {
        "psnr": "PSNR, dB",
        "psnr_changed": "PSNR on changed pixels, dB",
        "gradient_energy_ratio": "sharpness, 1 as recorded",
        "changed_pixel_ratio": "motion, 1 as recorded",
    }
    for axis, (key, title) in zip(axes, titles.items(), strict=True):
        styles = (("", "generated", MADE, "-"), ("copy_last_", "last true frame repeated", COPY, "--"))
        for before, label, colour, line in (*styles, ("reconstruction_", "tokenizer alone", CODEC, ":")):
            for number, run in enumerate(_runs(curve)):
                points = [(p["frame"], p[before + key]) for p in run if p.get(before + key) is not None]
                if points:
                    name = label if not number else None
                    axis.plot(
                        *zip(*points, strict=True), line, color=colour, label=name, linewidth=1.8, marker=".",
                        markersize=4, alpha=0.55 if number else 1,
                    )  # fmt: skip
        if key in ("gradient_energy_ratio", "changed_pixel_ratio"):
            axis.axhline(1, color="#cccccc", linewidth=1, zorder=0)
            axis.set_ylim(bottom=0)
        axis.set_title(title, fontsize=11, loc="left")
        _log_frames(axis, max(p["frame"] for p in curve))
        axis.set_xlabel(f"frames after the prompt ({fps:g} a second)")
    axes[0].legend(frameon=False, fontsize=9)
    return _png(plt, figure)


def _runs(curve: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Cut where the frames begin anew: there the clips are others."""
    cuts = [
        0,
        *(
            i
            for i in range(1, len(curve))
            if curve[i]["frame"] <= curve[i - 1]["frame"] or curve[i]["clips"] != curve[i - 1]["clips"]
        ),
        len(curve),
    ]
    return [curve[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]


def control_plot(control: dict[str, Any]) -> bytes:
    """Bars of each action: how much it changes the picture and, where that is known, how much of the game's motion
    follows it and how much closer to the recording it brings the picture than the other actions."""
    per_action = control["per_action"]
    panels = [
        ("effect", f"effect after {control['at']} frames, grey levels", MADE),
        ("changed_pixel_ratio", "motion, 1 as recorded", COPY),
        ("delta_psnr", "closer than under other actions, dB", CODEC),
    ]
    panels = [p for p in panels if any(a.get(p[0]) is not None for a in per_action.values())]
    plt = _pyplot()
    size = (5.2 * len(panels), 0.9 + 0.3 * len(per_action))
    figure, axes = plt.subplots(1, len(panels), figsize=size, layout="constrained", squeeze=False)
    for axis, (key, title, colour) in zip(axes[0], panels, strict=True):
        shown = {n: a[key] for n, a in list(per_action.items())[::-1] if a.get(key) is not None}
        axis.barh(list(shown), list(shown.values()), color=colour, height=0.6)
        axis.axvline(1 if key == "changed_pixel_ratio" else 0, color="#666666", linewidth=1)
        axis.set_title(title, fontsize=11, loc="left")
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
