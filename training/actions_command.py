"""worldgen actions: what each action of a world does, and what it is called.

worldgen actions worlds/mine                                  # clips of every code, side by side
worldgen actions worlds/mine --name 3=jump --key 3=space      # a person names one
worldgen actions worlds/mine --data recordings/ --bind        # 200 labelled frames name them all
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from worldgen.actions import ActionMap
from worldgen.bundle import DEFAULT_WORLD, WEIGHTS, find_world
from worldgen.config import WorldConfig
from worldgen.errors import InputError
from worldgen.files import check_folder_writable, write_bytes
from worldgen.naming import parse_keys, parse_names, rename_actions
from worldgen.training.action_clips import effects, play_every_action, sheet, write_video
from worldgen.training.button_map import button_map_figures, names_and_keys
from worldgen.training.code_scores import action_classes, code_usage
from worldgen.training.held_out import HeldOut, open_held_out
from worldgen.training.sheet import to_png
from worldgen.world import World

Say = Callable[[str], None]
MAX_LABELS = 200
MIN_KNOWN = 50  # frames with a recorded action: fewer fit and score nothing


@dataclass(frozen=True)
class ActionsOptions:
    world: Annotated[str, tyro.conf.Positional] = DEFAULT_WORLD
    """a bundled world or a world's folder"""
    out: Path | None = None
    """folder for sheet.png and clips.mp4; by default NAME-actions, or nothing where actions are only named"""
    starts: int = 4
    """how many different starts"""
    frames: int = 12
    """how long each action is held"""
    name: tuple[str, ...] = ()
    """call actions so: 3=jump 0=idle"""
    key: tuple[str, ...] = ()
    """press them so: 3=space 5=left+space, 0= for no key"""
    data: Path | None = None
    """recordings: how often each code is used in them; with recorded actions, which buttons the codes are"""
    labels: int = MAX_LABELS
    """frames of them whose recorded action may be seen, 200 at most"""
    bind: bool = False
    """name the codes after those buttons and put them on their keys"""
    backend: str = "auto"
    """auto, onnxruntime or torch"""
    seed: int = 0
    json: str | None = None
    """write the figures to this file, or - for standard output"""


def actions_of(options: ActionsOptions, data: Path | None, say: Say) -> dict[str, Any]:
    """data: the recordings, on this machine"""
    folder = find_world(options.world)
    config = WorldConfig.load(folder / "world.json")
    _check(options, config)
    figures: dict[str, Any] = {"world": config.name, "action_source": config.action_source}
    if data is not None:
        figures |= _of_recordings(options, folder, config, data, say)
    if options.name or options.key:
        rename_actions(folder, parse_names(options.name), parse_keys(options.key))
    config = WorldConfig.load(folder / "world.json")
    if options.out is not None or not (options.name or options.key or options.bind):
        figures |= _clips(options, folder, config, say)
    keys = config.actions.keys or [()] * len(config.actions.names)
    figures["actions"] = [
        {"action": i, "name": name, "keys": list(keys[i])} for i, name in enumerate(config.actions.names)
    ]
    for i, name in enumerate(config.actions.names):
        say(f"  {i}  {name:20} {' + '.join(keys[i]) or 'no key':16} {_line(figures, name)}")
    return figures


def _check(options: ActionsOptions, config: WorldConfig) -> None:
    for flag, value in (("--starts", options.starts), ("--frames", options.frames)):
        if value < 1:
            raise InputError(f"{flag} is at least 1, got {value}")
    if not 1 <= options.labels <= MAX_LABELS:
        raise InputError(f"--labels is 1 to {MAX_LABELS} frames, got {options.labels}")
    if options.bind and options.data is None:
        raise InputError("--bind takes the buttons of recordings: give them with --data DIR")
    if options.data is not None and config.action_source != "latent":
        raise InputError(
            f"--data looks for the meaning of latent actions, and those of {config.name} were recorded with the video"
        )


def _clips(options: ActionsOptions, folder: Path, config: WorldConfig, say: Say) -> dict[str, Any]:
    out = options.out or Path(f"{config.name}-actions")
    check_folder_writable(out, "--out")
    world = World.load(folder, backend=options.backend, batch=options.starts, upscale=False, sound="off")
    clips = play_every_action(world, options.frames, options.seed)
    figures: dict[str, Any] = {"effects": effects(clips)}
    notes = {name: f"changes {f['effect']:.1f} grey levels" for name, f in figures["effects"].items()}
    if config.action_source == "latent" and (folder / "latent_action" / WEIGHTS).is_file():
        from worldgen.training.read_codes import read_codes

        figures["read_back"] = read_codes(folder, clips)
        for name, f in figures["read_back"].items():
            notes[name] += f", read as {f['read_as']}: {f['consistency']:.0%}"
    elif config.action_source == "latent":
        say("  consistency is not measured: there is no latent_action network in the world's folder to read codes with")
    write_bytes(out / "sheet.png", to_png(sheet(clips, notes)))
    write_video(out / "clips.mp4", clips, config.fps)
    say(f"{out / 'sheet.png'} and clips.mp4: {options.starts} starts, each action held for {options.frames} frames")
    return figures | {"sheet": str(out / "sheet.png"), "clips": str(out / "clips.mp4")}


def _of_recordings(options: ActionsOptions, folder: Path, config: WorldConfig, data: Path, say: Say) -> dict[str, Any]:
    held_out = open_held_out(folder, config, data, say)
    if held_out.facts["actions"] != "latent":
        raise InputError(f"{folder} has no latent_action network to read codes with: train it, or use the whole folder")
    num_codes = config.actions.sizes[0]
    rows = np.concatenate([np.arange(start, stop - 1) for start, stop in held_out.segments])
    codes = held_out.actions[rows, 0]
    usage = code_usage(codes, num_codes)
    figures: dict[str, Any] = {"usage": usage}
    say(f"  {usage['perplexity']:.1f} of {num_codes} codes in use (perplexity), over {len(rows)} frames")
    if unused := [config.actions.names[c] for c in usage["unused"]]:
        say(f"  never used there: {', '.join(unused)}")
    found = _buttons(held_out, rows)
    if isinstance(found, str):
        if options.bind:
            raise InputError(f"--bind: {found}")
        say(f"  no button map: {found}")
        return figures
    is_known, pressed, buttons = found
    rows, codes = rows[is_known], codes[is_known]
    is_fitted = held_out.half(rows)
    fitted, figures["button_map"] = button_map_figures(
        codes, pressed, buttons.names, is_fitted, num_codes, config.actions.names, options.labels, options.seed
    )
    f = figures["button_map"]
    say(
        f"  buttons read off codes: {f['accuracy']:.0%} right with {f['labels']} labels, {f['accuracy_all']:.0%} with "
        f"all ({f['ratio']:.0%} of it), guessing {f['chance']:.0%}"
    )
    for name, button in f["buttons"].items():
        right = ", ".join(f"{code} (right in {f['codes'][code]['share']:.0%})" for code in button["codes"])
        say(f"    {name:16} {right if button['is_own'] else 'no code means it; nearest ' + button['codes'][0]}")
    if options.bind:
        rename_actions(folder, *names_and_keys(fitted, buttons, config.actions))
    return figures


def _buttons(held_out: HeldOut, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, ActionMap] | str:
    """Of the frames (n,): whose action is known (n,) bool, which button each of those is, and the buttons"""
    cache = held_out.cache
    if cache.actions is None or cache.action_map is None:
        return "no actions are recorded beside these videos"
    recorded = np.asarray(cache.actions)[rows]
    is_known = (recorded != cache.action_map.null()).any(-1)
    if is_known.sum() < MIN_KNOWN:
        return f"only {is_known.sum()} frames have a recorded action"
    found = action_classes(recorded[is_known], cache.action_map)
    return found if isinstance(found, str) else (is_known, *found)


def _line(figures: dict[str, Any], name: str) -> str:
    if "effects" not in figures:
        return ""
    said = f"changes {figures['effects'][name]['effect']:.1f} grey levels"
    if "read_back" in figures:
        f = figures["read_back"][name]
        said += f", read as {f['read_as']} in {f['consistency']:.0%} of its frames"
    return said
