"""The report of an evaluation: one page (images inside it), a side-by-side video next to it."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldgen.config import WorldConfig
from worldgen.files import write_bytes
from worldgen.training import (
    control,
    counterfactual,
    distribution,
    held_out,
    inverse_dynamics,
    large_picture,
    outcomes,
    picture,
    shuffle,
    sound_figures,
    stability,
)
from worldgen.training.plots import control_plot, horizon_plot, stability_plot
from worldgen.training.replay import Replay
from worldgen.training.report_outputs import large_picture_section, sound_section
from worldgen.training.sheet import contact_sheet, long_sheet, sheet_clips, to_png, write_side_by_side
from worldgen.training.stability import LongPlay

if TYPE_CHECKING:
    from worldgen.training.evaluate import Extras

VIDEO = "side_by_side.mp4"
VIDEO_SECONDS = 40

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1e222a; background: #fff; margin: 2rem auto; max-width: 1180px;
  padding: 0 1.5rem; }
h1 { font-size: 1.7rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.facts, figcaption, .small { color: #6a707c; font-size: .88rem; }
ul { margin: .4rem 0; padding-left: 1.2rem; }
.verdict { background: #f4f6f9; border-left: 4px solid #2e86ab; padding: .7rem 1rem; margin: 1rem 0; }
.notes { background: #fff8e6; border-left: 4px solid #e0a800; padding: .7rem 1rem; margin: 1rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .6rem; text-align: right; vertical-align: top; border-bottom: 1px solid #e6e8ec;
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
    long_play: LongPlay | None = None,
    extras: Extras | None = None,
) -> Path:
    """Writes FOLDER/report.html and FOLDER/side_by_side.mp4, with sounds FOLDER/sound_*.mp4 -> the page"""
    folder.mkdir(parents=True, exist_ok=True)
    clips = sheet_clips(replay)
    longest = max(1, int(VIDEO_SECONDS * config.fps / (replay.num_frames + config.fps / 2)))
    write_side_by_side(folder / VIDEO, replay, [i for i, _ in clips][:longest], config.actions, config.fps)
    parts = [
        _head(figures),
        _section("Picture", _picture_table(figures), _plot(horizon_plot(replay, config.fps))),
        _section("Recorded and generated", _video(), *(_sheet(replay, i, why, config) for i, why in clips)),
    ]
    if figures["control"]:
        parts.append(
            _section(
                "Control",
                _control(figures["control"]),
                _inverse_dynamics(figures["inverse_dynamics"]),
                _plot(control_plot(figures["control"])),
            )
        )
    if figures["counterfactual"]:
        parts.append(_section("What would have happened", _counterfactual(figures["counterfactual"])))
    if figures["stability"] and long_play is not None:
        parts.append(
            _section(
                "A long game",
                _stability(figures["stability"]),
                _plot(stability_plot(figures["stability"])),
                f"<figure>{_image(to_png(long_sheet(long_play.frames)), 'sheet')}<figcaption>each row one game, above "
                "each column the frame</figcaption></figure>",
            )
        )
    parts.append(_section("Distributions", _distribution(figures["distribution"])))
    if figures["outcomes"]:
        parts.append(_section("Reward and end", _pairs(figures["outcomes"])))
    if figures["large_picture"] and extras is not None and extras.large_picture is not None:
        table, strip = large_picture_section(figures["large_picture"], extras.large_picture)
        parts.append(_section("Super-resolution", table, f"<figure>{_image(strip, 'sheet')}</figure>"))
    if figures["sound"] and extras is not None and extras.sound is not None:
        table, plot = sound_section(figures["sound"], extras.sound, folder)
        parts.append(_section("Sound", table, _plot(plot)))
    parts += [_section("Cost", _cost(figures["cost"])), _section("What the figures mean", _glossary(figures))]
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


COLUMNS = (
    ("frames", None),
    ("PSNR, dB", "psnr"),
    ("last frame\nrepeated", "copy_last_psnr"),
    ("skill", "skill"),
    ("tokenizer\nalone", "reconstruction_psnr"),
    ("SSIM", "ssim"),
    ("last frame\nrepeated", "copy_last_ssim"),
    ("PSNR on\nchanged pixels", "psnr_changed"),
    ("last frame\nrepeated", "copy_last_psnr_changed"),
    ("tokenizer\nalone", "reconstruction_psnr_changed"),
    ("sharpness", "gradient_energy_ratio"),
    ("motion", "changed_pixel_ratio"),
)


def _picture_table(figures: dict[str, Any]) -> str:
    head = "".join(f"<th>{title.replace(chr(10), '<br>')}</th>" for title, _ in COLUMNS)
    rows = []
    for h, figure in figures["horizons"].items():
        cells = [f"<td>{h}<br><small>{int(h) / figures['fps']:.2f} s</small></td>"]
        cells += [_cell(key, figure) for _, key in COLUMNS[1:] if key]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f"<p class='small'>{escape(figures['averages'])} Small: its 90 % interval. Sharpness and "
        "motion: generated over recorded, 1 is right.</p>"
    )


def _cell(key: str, figure: dict[str, Any]) -> str:
    value = figure[key]
    if value is None:
        return "<td>&ndash;</td>"
    if key == "skill":
        bounds = figure["skill_90"]
        spread = f"<br><small>{bounds[0]:+.2f} to {bounds[1]:+.2f}</small>" if bounds else ""
        return f"<td class='{'good' if value > 0 else 'bad'}'>{value:+.2f}{spread}</td>"
    return f"<td>{value:.3f}</td>" if "ssim" in key else f"<td>{value:.2f}</td>"


def _control(figures: dict[str, Any]) -> str:
    bounds = figures["delta_psnr_90"]
    spread = f" (90 % interval {bounds[0]:+.2f} to {bounds[1]:+.2f})" if bounds else ""
    text = (
        f"Delta PSNR after {figures['at']} frames: <b>{figures['delta_psnr']:+.2f} dB</b>{spread}: "
        f"{figures['psnr_recorded']:.2f} dB under the recorded actions, {figures['psnr_random']:.2f} dB under random "
        "ones, from the same prompts with the same noise."
    )
    if figures["recognised"] is not None:
        text += (
            f" In {figures['recognised']:.0%} of the clips the true next frame is nearest to the one made under the "
            f"action that was recorded; guessing gives {figures['recognised_chance']:.0%}."
        )
    if figures.get("action_shuffle_ratio") is not None:
        bounds = figures["action_shuffle_ratio_90"]
        spread = f" (90 % interval {bounds[0]:.2f} to {bounds[1]:.2f})" if bounds else ""
        text += (
            " Predicting the next true frame under another clip's action has "
            f"<b>{figures['action_shuffle_ratio']:.2f}</b>{spread} times the error of predicting it under its own; 1 "
            "would be a world that ignores actions."
        )
    return f"<p>{text}</p>"


def _inverse_dynamics(figures: dict[str, Any] | None) -> str:
    if figures is None:
        return ""
    rows: list[tuple[Any, ...]] = [
        ("all, recorded actions", *(figures[f"accuracy_{k}"] for k in ("recorded", "real", "restored"))),
        ("all, random actions", figures["accuracy_random"], None, None),
        ("guessing", figures["chance"], figures["chance"], figures["chance"]),
    ]
    for name, shares in (figures["per_action"] or {}).items():
        rows.append((escape(name), shares["recorded"], shares["real"], None))
        rows.append((f"{escape(name)}, random actions", shares["random"], None, None))
    return (
        "<p>Share of actions read rightly off two neighbouring frames, by a small network that learned it from real "
        "ones:</p>" + _table(("", "generated", "recorded", "tokenizer alone"), rows)
    )


def _counterfactual(figures: dict[str, Any]) -> str:
    keys = ("psnr_random", "copy_last_psnr_random", "psnr_if_actions_are_ignored", "psnr_recorded")
    rows = [(h, *(f[k] for k in keys), f["games_left"]) for h, f in figures["horizons"].items()]
    columns = (
        "frames",
        "random actions,\nPSNR, dB",
        "last frame\nrepeated",
        "the real game under\nthe recorded actions",
        "recorded\nactions",
        "games left",
    )
    return (
        f"<p>The real game was forked at {figures['forks']} places of the recordings and played on under random "
        "actions, and so was the world:</p>" + _table(columns, rows)
    )


def _stability(figures: dict[str, Any]) -> str:
    spread = figures["real_kernel_ratio_range"]
    chance = f"1, by chance {spread[0]:.2f} to {spread[1]:.2f}" if spread else "&ndash;"
    rows = [
        ("distance to real frames", figures["kernel_ratio"], figures["reconstruction_kernel_ratio"], chance),
        ("sharpness", figures["gradient_energy_ratio"], figures["reconstruction_gradient_energy_ratio"], "1"),
        ("motion", figures["changed_pixel_ratio"], None, "1"),
    ]
    return (
        f"<p>{figures['games']} games of {figures['frames']} frames under random actions that are held for a while; "
        f"the last {figures['last']} frames:</p>" + _table(("", "generated", "tokenizer alone", "recorded"), rows)
    )


def _distribution(figures: dict[str, Any]) -> str:
    names = {"frame": "single frames", "clip": "clips", "change": "changes from frame to frame"}
    rows = [(name, figures[k], figures[f"{k}_codec"], figures[f"{k}_real"]) for k, name in names.items()]
    columns = ("", "generated", "tokenizer alone", "between two halves\nof the recordings")
    return (
        "<p>In-domain Frechet distances to the recorded clips, on features that need no download; not FID and not FVD. "
        "0 is best; 1 is the variance of the recordings.</p>" + _table(columns, rows)
    )


def _table(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    head = "".join(f"<th>{c.replace(chr(10), '<br>')}</th>" for c in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_shown(v)}</td>' for v in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _shown(value: Any) -> str:
    if value is None:
        return "&ndash;"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _cost(cost: dict[str, Any]) -> str:
    machine, engine = cost["machine"], cost["engine"]
    load = "" if machine["load_average"] is None else f", load average {machine['load_average']:g}"
    shown = {
        "milliseconds a frame, median": f"{cost['ms_p50']:.2f}",
        "p95": f"{cost['ms_p95']:.2f}",
        "p99": f"{cost['ms_p99']:.2f}",
        "seconds until the first frame": f"{cost['load_seconds']:.2f}",
        "peak memory, MB": "unknown" if cost["peak_megabytes"] is None else f"{cost['peak_megabytes']:.0f}",
    }
    if cost["gpu_megabytes"] is not None:
        shown["GPU memory, MB"] = f"{cost['gpu_megabytes']:.0f}"
    return _pairs(shown) + (
        f"<p class='small'>One game, {cost['frames']} frames, nfe {cost['nfe']}, {engine['backend']} on "
        f"{escape(str(engine['device']))} with {engine['threads']} threads; {escape(machine['cpu'])}, "
        f"{machine['cores']} cores{load}. In a process of its own.</p>"
    )


def _pairs(values: dict[str, Any]) -> str:
    def shown(value: Any) -> str:
        if value is None:
            return "&ndash;"
        return f"{value:.4g}" if isinstance(value, float) else escape(str(value))

    rows = "".join(f"<tr><td>{escape(k.replace('_', ' '))}</td><td>{shown(v)}</td></tr>" for k, v in values.items())
    return f"<table>{rows}</table>"


def _glossary(figures: dict[str, Any]) -> str:
    parts = [("horizons", picture.KEYS), ("data", held_out.KEYS)]
    parts += [("control", control.KEYS | shuffle.KEYS)] if figures["control"] else []
    parts += [("inverse_dynamics", inverse_dynamics.KEYS)] if figures["inverse_dynamics"] else []
    parts += [("counterfactual", counterfactual.KEYS)] if figures["counterfactual"] else []
    parts += [("distribution", distribution.KEYS)]
    parts += [("stability", stability.KEYS)] if figures["stability"] else []
    parts += [("outcomes", outcomes.KEYS)] if figures["outcomes"] else []
    parts += [("large_picture", large_picture.KEYS)] if figures["large_picture"] else []
    parts += [("sound", sound_figures.KEYS)] if figures["sound"] else []
    blocks = []
    for name, keys in parts:
        terms = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in keys.items())
        blocks.append(f"<details><summary>{name}</summary><dl>{terms}</dl></details>")
    return "<p class='small'>The keys of figures.json.</p>" + "".join(blocks)


def _video() -> str:
    return (
        f"<video controls loop muted playsinline src='{VIDEO}'></video>"
        f"<p class='small'>{VIDEO}: recorded on the left, generated on the right, the action that led to the frame "
        "under them. Above each column of the sheets, how many frames after the prompt it is. The clips are spread "
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


def _section(title: str, *parts: str) -> str:
    return f"<h2>{title}</h2>" + "\n".join(parts)
