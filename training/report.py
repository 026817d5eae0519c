"""The report of an evaluation: one page (images inside it), a side-by-side video next to it."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.config import WorldConfig
from worldgen.files import write_bytes
from worldgen.training.glossary import GLOSSARY, TITLES
from worldgen.training.plots import control_plot, horizon_plot, stability_plot
from worldgen.training.replay import Replay
from worldgen.training.report_outputs import between_section, large_picture_section, sound_section
from worldgen.training.report_tables import (
    by_nfe,
    control_text,
    cost,
    counterfactual,
    distribution,
    inverse_dynamics,
    kinematics,
    latent_actions,
    objects,
    outcomes,
    per_action,
    picture,
    presence,
    stability,
    standard,
)
from worldgen.training.sheet import contact_sheet, long_sheet, sheet_clips, to_png, write_side_by_side

if TYPE_CHECKING:
    from worldgen.training.evaluate import Extras

VIDEO = "side_by_side.mp4"
VIDEO_SECONDS = 40

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1e222a; background: #fff; margin: 2rem auto; max-width: 1320px;
  padding: 0 1.5rem; }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.facts, figcaption, .small { color: #6a707c; font-size: .88rem; }
ul { margin: .4rem 0; padding-left: 1.2rem; }
.verdict { background: #f4f6f9; border-left: 4px solid #2e86ab; padding: .7rem 1rem; margin: 1rem 0; }
.notes { background: #fff8e6; border-left: 4px solid #e0a800; padding: .7rem 1rem; margin: 1rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .5rem; text-align: right; vertical-align: top; border-bottom: 1px solid #e6e8ec;
  white-space: nowrap; }
th { font-weight: 600; font-size: .86rem; border-bottom: 2px solid #c9cdd4; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; }
td.good { color: #16794a; font-weight: 600; } td.bad { color: #b3261e; font-weight: 600; }
td small { color: #6a707c; }
img { max-width: 100%; } img.sheet { image-rendering: pixelated; }
video { max-width: 100%; background: #101014; }
figure { margin: 1rem 0; } dt { font-family: ui-monospace, monospace; font-size: .84rem; margin-top: .35rem; }
dd { margin: 0 0 0 1.4rem; font-size: .88rem; color: #444a55; }
"""


def write_report(
    folder: Path,
    figures: dict[str, Any],
    replay: Replay,
    config: WorldConfig,
    long_games: np.ndarray | None = None,
    extras: Extras | None = None,
) -> Path:
    """Writes FOLDER/report.html and FOLDER/side_by_side.mp4, with sounds FOLDER/sound_*.mp4 -> the page"""
    folder.mkdir(parents=True, exist_ok=True)
    clips = sheet_clips(replay)
    longest = max(1, int(VIDEO_SECONDS * config.fps / (replay.num_frames + config.fps / 2)))
    write_side_by_side(folder / VIDEO, replay, [i for i, _ in clips][:longest], config.actions, config.fps)
    sections: list[tuple[str, list[str]]] = [
        ("Picture", [picture(figures), _plot(horizon_plot(figures["curve"], config.fps))]),
        ("Recorded and generated", [_video(), *(_sheet(replay, i, why, config) for i, why in clips)]),
    ]
    if control := figures["control"]:
        codes = latent_actions(figures.get("latent_actions"))
        found = [control_text(control, figures["timing"]), per_action(control), _plot(control_plot(control))]
        sections.append(("Control", [*found, inverse_dynamics(figures["inverse_dynamics"]), codes]))
    if figures["counterfactual"]:
        sections.append(("What would have happened", [counterfactual(figures["counterfactual"])]))
    if figures["objects"]:
        sections.append(("Objects", [objects(figures["objects"]), kinematics(figures["objects"])]))
    if figures["presence"]:
        sections.append(("What is there", [presence(figures["presence"])]))
    if figures["stability"] and long_games is not None:
        sheet = _image(to_png(long_sheet(long_games)), "sheet")
        caption = "<figcaption>each row one game of the first group, above each column the frame</figcaption>"
        shown = [stability(figures["stability"]), _plot(stability_plot(figures["stability"]))]
        sections.append(("Long games", [*shown, f"<figure>{sheet}{caption}</figure>"]))
    sections.append(("Distributions", [distribution(figures["distribution"]), standard(figures["standard"])]))
    if figures["outcomes"]:
        sections.append(("Reward and end", [outcomes(figures["outcomes"])]))
    if figures["large_picture"] and extras is not None and extras.large_picture is not None:
        about, strip = large_picture_section(figures["large_picture"], extras.large_picture)
        sections.append(("Super-resolution", [about, f"<figure>{_image(strip, 'sheet')}</figure>"]))
    if figures["between"] and extras is not None and extras.between is not None:
        about, strip = between_section(figures["between"], extras.between)
        sections.append(("In-between frames", [about, f"<figure>{_image(strip, 'sheet')}</figure>"]))
    if figures["sound"] and extras is not None and extras.sound is not None:
        about, plot = sound_section(figures["sound"], extras.sound, folder)
        sections.append(("Sound", [about, _plot(plot)]))
    sections.append(("Cost", [by_nfe(figures["by_nfe"], figures["nfe"]), cost(figures["cost"])]))
    sections.append(("What the figures mean", [_glossary(figures)]))
    parts = [_head(figures), *(f"<h2>{name}</h2>" + "\n".join(body) for name, body in sections)]
    title = escape(f"{figures['world']}: evaluation")
    page = f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
    page += f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    path = folder / "report.html"
    write_bytes(path, page.encode())
    return path


def _head(figures: dict[str, Any]) -> str:
    data, engine = figures["data"], figures["engine"]
    held = "held out from training" if data["is_held_out"] else "of which nobody knows whether it was trained on"
    facts = [
        f"{figures['width']}x{figures['height']} at {figures['fps']:g} fps, looking back {figures['context']} frames "
        f"({figures['context'] / figures['fps']:.1f} s)",
        f"{data['clips']} clips from {data['clip_episodes']} of {data['episodes']} episodes, {held}; "
        f"{data['prompt']} true frames, then its own, under {data['actions']} actions",
        f"{engine['backend']} {engine['version']} on {engine['device']}, nfe {figures['nfe']}, seed {figures['seed']}, "
        f"weights {figures['hash']}",
    ]
    notes = f"<div class='notes'><b>To keep in mind</b>{_list(figures['notes'])}</div>" if figures["notes"] else ""
    return (
        f"<h1>{escape(figures['world'])}</h1><p class='facts'>{'<br>'.join(map(escape, facts))}</p>"
        f"<div class='verdict'>{_list(figures['findings'])}</div>{notes}"
    )


def _glossary(figures: dict[str, Any]) -> str:
    blocks = []
    for part, keys in GLOSSARY.items():
        if part and not figures.get(part.split(".")[0]):
            continue
        terms = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in keys.items())
        blocks.append(
            f"<details><summary>{part or 'figures'}: {escape(TITLES[part])}</summary><dl>{terms}</dl></details>"
        )
    return "<p class='small'>The keys of figures.json.</p>" + "".join(blocks)


def _video() -> str:
    return (
        f"<video controls loop muted playsinline src='{VIDEO}'></video>"
        f"<p class='small'>{VIDEO}: recorded on the left, generated on the right, the keys that led to the frame under "
        "them. Above each column of the sheets, how many frames after the prompt it is. The clips are spread "
        "evenly over the recordings, not chosen by how they look, and the worst of all comes last.</p>"
    )


def _sheet(replay: Replay, clip: int, why: str, config: WorldConfig) -> str:
    image = _image(to_png(contact_sheet(replay, clip, config.actions)), "sheet")
    return f"<figure>{image}<figcaption>clip {clip + 1} of {len(replay.real)}, {why}</figcaption></figure>"


def _plot(png: bytes) -> str:
    return f"<figure>{_image(png, 'plot')}</figure>"


def _image(png: bytes, kind: str) -> str:
    return f"<img class='{kind}' alt='' src='data:image/png;base64,{base64.b64encode(png).decode()}'>"


def _list(items: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"
