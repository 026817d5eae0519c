"""The report's sections on super-resolution, in-between frames and sound."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.data.video import VideoWriter
from worldgen.training.plots import waveform_plot
from worldgen.training.sheet import to_png
from worldgen.training.sound_figures import SoundPlay

CLIPS_SHOWN = 3
CLIP_SCALE = 4


def large_picture_section(figures: dict[str, Any], strip: np.ndarray) -> tuple[str, bytes]:
    """-> a table in HTML, a picture as PNG"""
    names = {"network": "super-resolution", "bicubic": "bicubic", "nearest": "nearest", "scale2x": "Scale2x"}
    table = _picture_table(figures, names, {"area": "from shrunk recordings", "decoder": "from the tokenizer's frames"})
    return (
        f"{table}<p class='small'>{figures['scale']} times larger, {figures['width']}x{figures['height']}, "
        f"{figures['frames']} held-out frames. Flicker: mean change of pixels that stand still, in grey levels; in the "
        f"recordings it is {_shown(figures['real_flicker'])}. Below: bicubic, super-resolution, recorded.</p>"
    ), to_png(strip)


def between_section(figures: dict[str, Any], strip: np.ndarray) -> tuple[str, bytes]:
    """-> a table in HTML, a picture as PNG"""
    names = {"network": "in-between frames", "blend": "blending", "repeat": "the frame before again"}
    table = _picture_table(figures, names, {"recorded": "from recorded frames", "decoder": "from the tokenizer's"})
    return (
        f"{table}<p class='small'>{figures['frames']} held-out frames, each made from the two around it, which in play "
        f"are half as far apart; {figures['ms']:.1f} ms each. Flicker: mean change of pixels that stand still, in grey "
        f"levels; in the recordings it is {_shown(figures['real_flicker'])}. Below, where most moves: the frame "
        "before, made, recorded, the frame after.</p>"
    ), to_png(strip)


def _picture_table(figures: dict[str, Any], names: dict[str, str], kinds: dict[str, str]) -> str:
    """names: of the ways, the rows; kinds: of what they were given, the columns"""
    rows = ""
    for key, name in names.items():
        cells = ""
        for kind in kinds:
            found = figures[kind][key]
            cells += "".join(
                f"<td>{'&ndash;' if found is None or found[k] is None else format(found[k], form)}</td>"
                for k, form in (("psnr", ".2f"), ("ssim", ".3f"), ("flicker", ".2f"))
            )
        rows += f"<tr><td>{name}</td>{cells}</tr>"
    head = "<th></th>" + "".join(f"<th>{t}</th>" for t in ("PSNR, dB", "SSIM", "flicker") * len(kinds))
    over = "<th></th>" + "".join(f"<th colspan=3>{kind}</th>" for kind in kinds.values())
    return f"<table><thead><tr>{over}</tr><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def sound_section(figures: dict[str, Any], play: SoundPlay, folder: Path) -> tuple[str, bytes]:
    """Writes FOLDER/sound_recorded_N.mp4 and sound_generated_N.mp4 -> tables in HTML, a plot as PNG"""
    rows = [("silence", figures["silence"]), ("another clip's sound", figures["shuffled"])]
    rows += [("codec alone", figures["codec"])] if figures["codec"] is not None else []
    for name in ("played", "listened"):
        rows.append((f"<b>{_title(name)}</b>", figures[name]["stft_distance"]))
    distances = "".join(f"<tr><td>{name}</td><td>{value:.2f}</td></tr>" for name, value in rows)
    keys = [k for k in figures["played"] if k != "stft_distance"]
    details = "".join(
        f"<tr><td>{escape(k.replace('_', ' '))}</td>"
        + "".join(f"<td>{_shown(figures[name][k])}</td>" for name in ("played", "listened"))
        + "</tr>"
        for k in keys
    )
    videos = ""
    for i in range(min(CLIPS_SHOWN, len(play.real))):
        for kind, frames, sound in (
            ("recorded", play.real_frames[i], play.real[i]),
            ("generated", play.played_frames[i], play.played[i]),
        ):
            name = f"sound_{kind}_{i + 1}.mp4"
            _write_clip(folder / name, frames, sound, play.sample_rate)
            videos += (
                f"<figure><video controls src='{name}'></video><figcaption>{kind}, clip {i + 1}</figcaption></figure>"
            )
    return (
        "<table><thead><tr><th></th><th>distance to the recorded sound, dB</th></tr></thead>"
        f"<tbody>{distances}</tbody></table>"
        f"<table><thead><tr><th></th><th>{_title('played')}</th><th>{_title('listened')}</th></tr></thead>"
        f"<tbody>{details}</tbody></table>"
        f"<p class='small'>{figures['clips']} clips of {figures['clip_frames']} frames, {figures['sample_rate']} Hz, "
        f"{figures['channels']} channels. Onsets by chance: F1 {_shown(figures['shuffled_onset_f1'])}, through the "
        f"codec alone {_shown(figures['codec_onset_f1'])}. The world {'heard' if figures['hears'] else 'cannot hear'} "
        "the sound of the frames that each begins with. Clicks in the recordings: "
        f"{figures['real_click_rate']:.3f}.</p>{videos}"
    ), waveform_plot(play.real[0], play.played[0], play.listened[0], play.sample_rate)


def _title(name: str) -> str:
    return {"played": "generated frames", "listened": "recorded frames"}[name]


def _shown(value: float | None) -> str:
    return "&ndash;" if value is None else f"{value:.3g}"


def _write_clip(path: Path, frames: np.ndarray, sound: np.ndarray, sample_rate: int) -> None:
    """frames (t, h, w, 3) uint8, sound (t, samples, channels)"""
    t, samples, channels = sound.shape
    writer = VideoWriter(
        path,
        frames.shape[2],
        frames.shape[1],
        sample_rate / samples,
        sample_rate=sample_rate,
        channels=channels,
        scale=CLIP_SCALE,
    )
    for frame, heard in zip(frames, sound, strict=True):
        writer.write(frame, heard)
    writer.close()
