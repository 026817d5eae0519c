"""The card of a world: what it was trained on, for how long, on what, measured figures, and what it cannot do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worldgen.bundle import NETWORKS, WEIGHTS
from worldgen.config import WorldConfig
from worldgen.files import write_bytes
from worldgen.measure import machine
from worldgen.training.checkpoint import read_progress
from worldgen.training.findings import findings
from worldgen.training.recipe import STAGES

FADED = 0.5  # seen so much more seldom than in the recordings a thing is missed


def write_card(
    world: Path, figures: Mapping[str, Any] | None, facts: Mapping[str, Any], why_not_measured: str = ""
) -> Path:
    """Writes WORLD/card.md -> its path.

    figures: of evaluate(), None where there are none. facts: of train_world(), {"preset": str, "stages": {name:
    {"steps", "seconds"}}} of its run, and if known "recordings" (what they are, in words), "licence" (of the
    recordings), "hardware" and "notes" (list of str); without a licence or hardware those of the recordings evaluated
    on and of this machine stand there. Stages that were trained before are read from WORLD/training.
    """
    config = WorldConfig.load(world / "world.json")
    parts = [
        f"# {config.name}",
        _summary(config),
        "## Trained on",
        _trained(world, figures, facts),
        "## Measured",
        f"Not measured: {why_not_measured}." if figures is None else _measured(figures),
        "## What it cannot do",
        _list(limits(config, figures)),
        "## Playing it",
        _playing(config),
    ]
    path = world / "card.md"
    write_bytes(path, ("\n\n".join(parts) + "\n").encode())
    return path


def _summary(config: WorldConfig) -> str:
    return (
        f"A playable world: {config.width}x{config.height} pixels at {config.fps:g} frames a second, each frame "
        f"generated from the last {config.context} ({config.context / config.fps:.1f} s) and the player's action."
    )


def _trained(world: Path, figures: Mapping[str, Any] | None, facts: Mapping[str, Any]) -> str:
    data = {"sources": [], "licences": []} if figures is None else figures["data"]
    recordings = facts.get("recordings") or ", ".join(data["sources"]) or "recordings whose source is not known"
    lines = [f"Recordings: {recordings}{_episodes(world)}."]
    lines.append(f"Licence of the recordings: {facts.get('licence') or ', '.join(data['licences']) or 'not stated'}.")
    source = {"recorded": "recorded with the video", "latent": "latent: learned from the video alone"}
    config = WorldConfig.load(world / "world.json")
    lines.append(f"Actions: {source[config.action_source]}.")
    if config.shaping:
        terms = ", ".join(f"{weight:g} for each 1 that {name} rises by" for name, weight in config.shaping.items())
        lines.append(f"Reward: the recorded one, and {terms}.")
    stages = _stages(world, facts)
    if facts.get("preset"):
        of_run = facts.get("stages", {})
        named = f" of {', '.join(of_run)}" if of_run and len(of_run) < len(stages) else ""
        lines.append(f"Preset{named}: {facts['preset']}.")
    if stages:
        done = [f"{name} {s['steps']:,} steps in {_duration(s['seconds'])}" for name, s in stages.items()]
        total = sum(s["seconds"] for s in stages.values())
        lines.append(f"Training: {'; '.join(done)}; {_duration(total)} in all.")
    here = machine()
    hardware = facts.get("hardware") or f"{here['cores']} cores, {here['cpu']}"
    lines.append(f"Hardware: {hardware}.")
    sizes = {n: (world / n / WEIGHTS).stat().st_size / 1e6 for n in NETWORKS if (world / n / WEIGHTS).is_file()}
    if sizes:
        lines.append(f"Weights: {', '.join(f'{name} {size:.1f} MB' for name, size in sizes.items())}.")
    return _list([*lines, *facts.get("notes", [])])


def _stages(world: Path, facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """{name: {"steps", "seconds"}} of all that the world's networks were trained in, in this run or before"""
    given, found = dict(facts.get("stages", {})), {}
    for name in STAGES:
        if name in given:
            found[name] = given[name]
        elif (world / name).is_dir() and (progress := read_progress(world / "training" / name)) is not None:
            found[name] = {"steps": progress.step, "seconds": progress.seconds}
    return found


def _episodes(world: Path) -> str:
    try:
        raw = json.loads((world / "training" / "data.json").read_text(encoding="utf-8"))
        return f", {len(raw['train'])} episodes trained on and {len(raw['held_out'])} held out"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _measured(figures: Mapping[str, Any]) -> str:
    data, engine = figures["data"], figures["engine"]
    held = "held-out recordings" if data["is_held_out"] else "recordings that may have been trained on"
    where = (
        f"On {data['clips']} clips from {data['clip_episodes']} episodes of {held}, nfe {figures['nfe']}, "
        f"{engine['backend']} {engine['version']}, weights `{figures['hash']}`. {figures['averages']}"
    )
    rows = [
        "| frames | seconds | PSNR | last frame repeated | skill | tokenizer alone | SSIM | sharpness | motion |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for h, f in figures["horizons"].items():
        cells = [
            h, f"{int(h) / figures['fps']:.2f}", _number(f["psnr"]), _number(f["copy_last_psnr"]),
            _number(f["skill"], "+.2f"), _number(f["reconstruction_psnr"]), _number(f["ssim"], ".3f"),
            _number(f["gradient_energy_ratio"]), _number(f["changed_pixel_ratio"]),
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    said = _list([*findings(dict(figures)), *figures["notes"]])
    return f"{where}\n\n" + "\n".join(rows) + f"\n\n{said}"


def limits(config: WorldConfig, figures: Mapping[str, Any] | None) -> list[str]:
    """What a player would find missing or broken, from the facts and the figures."""
    seconds = config.context / config.fps
    said = [
        f"It remembers {seconds:.1f} s: what has been out of sight for longer comes back different.",
        "It knows only situations like those recorded; anything else it makes up.",
    ]
    if figures is None:
        said.append("How close it is to the game, and whether it does what it is told, has not been measured.")
    else:
        said += _measured_limits(config, figures)
    if not (config.has_reward or config.has_terminated):
        said.append("It gives no reward and never ends a game.")
    if config.sound == "off":
        said.append("It has no sound.")
    if config.action_source == "latent":
        said.append("Its actions are codes without names: what each does is for the player to find out.")
    return said


def _measured_limits(config: WorldConfig, figures: Mapping[str, Any]) -> list[str]:
    said = []
    horizons = {int(h): f for h, f in figures["horizons"].items()}
    if lost := [h for h in horizons if all(f["skill"] <= 0 for later, f in horizons.items() if later >= h)]:
        said.append(
            f"From frame {min(lost)} on ({min(lost) / config.fps:.1f} s), a frozen picture is closer to the recorded "
            "game than what it generates under the same actions."
        )
    last = horizons[max(horizons)]
    if (codec := last["reconstruction_psnr"]) < 32:
        said.append(f"Small things vanish: its tokenizer alone restores a frame at {codec:.1f} dB.")
    presence = figures.get("presence") or {"things": {}}
    for name, thing in presence["things"].items():
        for frames, f in list(thing["frames"].items())[1:]:  # the first is one frame of each clip: that says little
            if f["seen_recorded"] > 0.05 and f["seen"] < FADED * min(f["seen_recorded"], f["seen_codec"]):
                said.append(
                    f"The {name} fades: seen in {f['seen']:.0%} of frames {frames}, in the recordings in "
                    f"{f['seen_recorded']:.0%}, in these through the tokenizer alone in {f['seen_codec']:.0%}."
                )
                break
    control = figures["control"]
    if control is None:
        said.append("Whether it does what it is told has not been measured.")
    elif control["delta_psnr"] < 0.5:
        said.append("It hardly does what it is told.")
    return said


def _playing(config: WorldConfig) -> str:
    keys = config.actions.keys or [()] * len(config.actions.names)
    pairs = zip(config.actions.names, keys, strict=True)
    return _list([f"{name}: {' + '.join(f'`{key}`' for key in held) or 'no key'}" for name, held in pairs])


def _number(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else format(value, form)


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )


def _list(items: list[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
