"""Measures a world against held-out recordings: picture, control, reward and end, cost.

    worldgen eval worlds/mine --data recordings/ --json figures.json --report report/

Everything is played through World, on the engine that people play on. The figures are a dict, one part per kind of
metric. What every key means stands in one place: glossary.py, `python -m worldgen.training.glossary` prints it.

A figure that does not exist (a PSNR over no pixels) is null. PSNR averages squared errors, never decibels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.backends import open_backend
from worldgen.bundle import find_world
from worldgen.config import NFE_CHOICES, WorldConfig
from worldgen.data.shaping import missing_column
from worldgen.errors import InputError
from worldgen.files import write_json
from worldgen.measure import measure_in_new_process
from worldgen.training.between_figures import between_figures
from worldgen.training.control import AT, control_figures
from worldgen.training.counterfactual import MakeGame, counterfactual_figures
from worldgen.training.distribution import distribution_figures
from worldgen.training.encoders import Encoders
from worldgen.training.findings import findings
from worldgen.training.held_out import HeldOut, open_held_out
from worldgen.training.horizons import far_figures, near_and_far, reachable
from worldgen.training.inverse_dynamics import inverse_dynamics_figures
from worldgen.training.large_picture import large_picture_figures
from worldgen.training.latent_action_figures import latent_action_figures
from worldgen.training.nfe import nfe_figures
from worldgen.training.objects import object_figures
from worldgen.training.outcomes import outcome_figures
from worldgen.training.picture import picture_curve, picture_figures
from worldgen.training.presence import presence_figures
from worldgen.training.replay import Replay, replay
from worldgen.training.rollout import PROMPT, random_actions, replace_played
from worldgen.training.shuffle import shuffle_figures
from worldgen.training.sound_figures import SoundPlay, sound_figures
from worldgen.training.stability import GROUPS, group_size, stability_figures
from worldgen.training.timing import timing_figures
from worldgen.training.watch import Watch
from worldgen.world import World

MAX_BATCH = 32  # clips side by side
COST_FRAMES = 100
AVERAGES = (
    "PSNR is of the squared error averaged over all pixels and clips (the error is averaged, not the decibels); SSIM "
    "is averaged over windows and frames; intervals resample whole episodes."
)


@dataclass(frozen=True)
class Extras:
    """What the report shows of the other outputs: strips of enlarged and of in-between frames (h, w, 3), and sounds."""

    large_picture: np.ndarray | None = None
    between: np.ndarray | None = None
    sound: SoundPlay | None = None


def evaluate(
    world_name: str | Path,
    data: Path,
    *,
    backend: str = "auto",
    nfe: int | None = None,
    clips: int = 32,
    horizons: Sequence[int] = (1, 4, 16, 64, 256, 1000),
    stability: int = 0,
    make_game: MakeGame | None = None,
    encoders: Encoders | None = None,
    seed: int = 0,
    report: Path | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """-> the figures; with `report` also a page with plots, contact sheets and a video in that folder.

    stability: frames of the long games; 1100 compares frames 900-1100 with the game, 0 leaves them out.
    make_game: opens the real game that a recording names, (source, fps) -> game, to fork it and to ask it where its
    objects are; as envs' catalogue does. encoders: a user's networks for the standard distances.
    Raises InputError when nothing is held out or the recordings do not suit the world.
    """
    watch = Watch(say)
    if clips < 1:
        raise InputError(f"--clips is at least 1, got {clips}")
    if stability < 0:
        raise InputError(f"--stability is a number of frames, or 0 to leave the long games out, got {stability}")
    if encoders is not None:
        encoders.check()
    folder = find_world(world_name)
    config = WorldConfig.load(folder / "world.json")
    held_out = open_held_out(folder, config, Path(data), say)
    near, far = near_and_far(reachable(held_out, horizons))
    starts = held_out.clips(clips, PROMPT + max(near))

    def load(batch: int) -> World:
        return World.load(folder, backend=backend, batch=batch, nfe=nfe, upscale=False, sound="off")

    world = load(min(MAX_BATCH, len(starts)))
    facts = held_out.facts
    say(f"{config.name}: {len(starts)} clips of {PROMPT} + {max(near)} frames on {world.backend_name}, nfe {world.nfe}")
    say(f"  {facts['episodes']} episodes of {data}, {facts['frames']} frames; {facts['actions']} actions")
    figures, played = measure(world, held_out, starts, near, seed, watch)
    rows = starts[:, None] + np.arange(PROMPT + max(near))
    if figures["control"] is not None:
        watch.stage("predicting frames under other clips' actions")
        figures["control"] |= shuffle_figures(
            open_backend(folder, backend), config, held_out.frames(rows), held_out.actions[rows], played.episode, seed
        )
    watch.stage("reading actions off the frames")
    read = inverse_dynamics_figures(world, held_out, starts, played, seed, watch.progress("training steps"))
    _keep(figures, "inverse_dynamics", read, "inverse dynamics are not measured")
    if config.action_source == "latent":
        watch.stage("comparing codes with the actions that were recorded")
        scored = latent_action_figures(
            folder, held_out, config.actions.sizes[0], seed, watch.progress("training steps")
        )
        _keep(figures, "latent_actions", scored, "latent actions are not scored")
    if make_game is not None:
        watch.stage("forking the real game")
        forked = counterfactual_figures(world, held_out, Path(data), starts, make_game, seed, watch.progress("forks"))
        _keep(figures, "counterfactual", forked, "the real game was not forked")
        watch.stage("looking for the game's objects")
        seen = object_figures(held_out, Path(data), starts, played, make_game, watch.progress("clips"))
        _keep(figures, "objects", seen, "objects are not measured")
        watch.stage("learning to see the game's objects")
        there = presence_figures(
            held_out, Path(data), starts, played, make_game, watch.progress("training steps"), seed
        )
        _keep(figures, "presence", there, "whether objects are there is not measured")
    for horizon in far:
        watch.stage(f"far horizon: {horizon} frames")
        at, curve = far_figures(load, held_out, horizon, seed, watch.progress("frames"))
        figures["horizons"] |= at
        figures["curve"] += curve
    long_games = None
    if stability:
        games = group_size(held_out)
        watch.stage(f"long games: {GROUPS} times {games} of {stability} frames")
        figures["stability"], long_games = stability_figures(
            load(games), held_out, stability, seed, watch.progress("frames")
        )
    else:
        figures["notes"].append(
            "no long game was played: what becomes of the world after the last horizon is not known"
        )
    extras = Extras()
    if "upscale" in world.graphs:
        watch.stage("enlarging frames")
        enlarged = large_picture_figures(world, held_out, Path(data))
        if isinstance(enlarged, str):
            figures["notes"].append(f"super-resolution is not measured: {enlarged}")
        else:
            figures["large_picture"], strip = enlarged
            extras = replace(extras, large_picture=strip)
    if "between" in world.graphs:
        watch.stage("making in-between frames")
        figures["between"], strip = between_figures(world, held_out)
        extras = replace(extras, between=strip)
    loud_world = World.load(folder, backend=backend, batch=min(MAX_BATCH, len(starts)), nfe=nfe, upscale=False)
    if loud_world.sample_rate is not None:
        watch.stage("listening")
        heard = sound_figures(folder, loud_world, held_out, Path(data), seed)
        if isinstance(heard, str):
            figures["notes"].append(f"sound is not measured: {heard}")
        else:
            figures["sound"], sounds = heard
            extras = replace(extras, sound=sounds)
            if loud_world.sound == "generated" and "sound_events" in loud_world.graphs:
                other = World.load(
                    folder, backend=backend, batch=loud_world.batch, nfe=nfe, upscale=False, sound="retrieved"
                )
                heard = sound_figures(folder, other, held_out, Path(data), seed)
                figures["retrieved_sound"] = None if isinstance(heard, str) else heard[0]
    if encoders is not None and encoders:
        watch.stage("standard distances, with the encoders given")
        figures["standard"] = encoders.figures(played, watch.progress("frames"))
    watch.stage("time and memory, in a process of its own")
    for steps in NFE_CHOICES:
        is_own = steps == world.nfe
        cost = measure_in_new_process(folder, backend=backend, nfe=steps, frames=COST_FRAMES, between=is_own)
        figures["by_nfe"][str(steps)] |= {k: cost[k] for k in ("ms_p50", "ms_p95")}
        if is_own:
            figures["cost"] = cost
    figures["seconds"] = round(watch.seconds, 1)
    figures = for_json(figures)
    figures["findings"] = findings(figures)  # a figure that does not exist is None
    for line in table(figures) + figures["findings"]:
        say(f"  {line}")
    for note in figures["notes"]:
        say(f"  note: {note}")
    if report is not None:
        from worldgen.training.report import write_report

        page = write_report(Path(report), figures, played, config, long_games, extras)
        write_json(Path(report) / "figures.json", figures)
        say(f"report: {page}")
    return figures


def _keep(figures: dict[str, Any], part: str, found: dict[str, Any] | str, otherwise: str) -> None:
    """Figures into their part, or why there are none into the notes."""
    if isinstance(found, str):
        figures["notes"].append(f"{otherwise}: {found}")
    else:
        figures[part] = found


def measure(
    world: World,
    held_out: HeldOut,
    starts: np.ndarray,
    horizons: Sequence[int],
    seed: int = 0,
    watch: Watch | None = None,
) -> tuple[dict[str, Any], Replay]:
    """The figures of a world that is already open, without its cost; starts (b,): frames at which the clips begin."""
    watch = watch or Watch(lambda text: None)
    rows = starts[:, None] + np.arange(PROMPT + max(horizons))
    frames, actions, episode = held_out.frames(rows), held_out.actions[rows], held_out.episode_of(starts)
    if not held_out.has_actions:
        actions = replace_played(actions, random_actions(world, actions, seed))
    watch.stage("playing held-out clips")
    played = replay(world, frames, actions, episode, max(horizons), seed, watch.progress("frames"))
    notes = list(held_out.notes)
    if (num_left := len(set(episode.tolist()))) == 1:
        notes.append(
            "all clips come from one episode: no interval can be given, and the figures hold for that one only"
        )
    control = outcomes = timing = None
    if held_out.has_actions:
        timing = timing_figures(played)
        if max(horizons) >= AT:
            watch.stage("playing other actions")
            control = control_figures(
                world, held_out, frames, actions, played.made, episode, seed, watch.progress("actions held")
            )
        else:
            notes.append(f"control is measured {AT} frames after the prompt, further than any horizon here")
        watch.stage("rewards and ends")
        outcomes = outcome_figures(world, held_out, 8 * len(starts), seed, watch.progress("windows"))
        if missing := missing_column(held_out.cache.state, world.config.shaping):
            notes.append(f"rewards are not measured: these recordings do not hold {missing}, which shapes them")
    watch.stage("1, 2 and 4 steps a frame")
    by_nfe = nfe_figures(world, played, frames[:, :PROMPT], actions, seed)
    watch.stage("distances of distributions")
    config = world.config
    figures = {
        "world": config.name,
        "hash": world.hash,
        "engine": world.engine,
        "nfe": world.nfe,
        "seed": seed,
        "fps": config.fps,
        "width": config.width,
        "height": config.height,
        "context": config.context,
        "data": held_out.facts | {"clips": len(starts), "clip_episodes": num_left},
        "horizons": picture_figures(played, horizons),
        "by_nfe": by_nfe,
        "curve": picture_curve(played),
        "timing": timing,
        "control": control,
        "outcomes": outcomes,
        "inverse_dynamics": None,
        "latent_actions": None,
        "counterfactual": None,
        "objects": None,
        "presence": None,
        "distribution": distribution_figures(played, seed),
        "standard": None,
        "stability": None,
        "large_picture": None,
        "between": None,
        "sound": None,
        "retrieved_sound": None,
        "averages": AVERAGES,
        "notes": notes,
    }
    return figures, played


def table(figures: dict[str, Any]) -> list[str]:
    """The picture at each horizon, for a terminal."""
    lines = ["frames      psnr  copy-last   skill   codec    ssim  on changed pixels (skill)  sharpness  motion"]
    for h, f in figures["horizons"].items():
        changed = (
            "none changed" if f["psnr_changed"] is None else f"{f['psnr_changed']:.2f} ({f['skill_changed']:+.2f})"
        )
        motion = "-" if f["changed_pixel_ratio"] is None else f"{f['changed_pixel_ratio']:.2f}"
        sharp = "-" if f["gradient_energy_ratio"] is None else f"{f['gradient_energy_ratio']:.2f}"
        lines.append(
            f"{h:>6}{f['psnr']:10.2f}{f['copy_last_psnr']:11.2f}{f['skill']:+8.2f}{f['reconstruction_psnr']:8.2f}"
            f"{f['ssim']:8.3f}{changed:>27}{sharp:>11}{motion:>8}"
        )
    return lines


def for_json(value: Any) -> Any:
    """JSON has no NaN and no numpy: a figure that does not exist is None. Five decimals are kept."""
    if isinstance(value, dict):
        return {k: for_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value
