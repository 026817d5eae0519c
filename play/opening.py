"""What a play begins with: the world, its start, who chooses the actions, and what is written meanwhile."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.bundle import DEFAULT_WORLD
from worldgen.errors import InputError
from worldgen.files import check_writable
from worldgen.play.action_source import check_actions
from worldgen.play.background import InBackground, Recorder
from worldgen.play.clip import ClipRecorder
from worldgen.play.headless import action_source
from worldgen.play.options import PlayOptions
from worldgen.play.recorder import EpisodeRecorder
from worldgen.play.session import Session
from worldgen.play.start_image import load_start

if TYPE_CHECKING:
    from worldgen.world import World


def open_world(options: PlayOptions, session: Session | None, load: Callable[..., World] | None = None) -> World:
    """load: as World.load, which it is by default. A session is replayed by the world it was played on, as it was
    played, but for what the options say."""
    if load is None:
        from worldgen.world import World

        load = World.load
    name, backend, nfe = options.world or DEFAULT_WORLD, options.backend, options.nfe
    upscale, sound = options.upscale, options.sound
    if session is not None:
        name = options.world or session.world
        backend = session.backend if backend == "auto" else backend
        nfe = session.nfe if nfe is None else nfe
        upscale = upscale and session.upscaling != "off"
        sound = session.sound if sound is None else sound
    # a blind test compares with recordings of the world's own rate
    between = options.between and options.blind is None
    world = load(name, backend=backend, nfe=nfe, upscale=upscale, between=between, sound=sound)
    if session is not None:
        session.require(world)
        if session.upscaling == "nearest" and upscale:
            world.upscaling = "nearest"
    return world


def open_start(world: World, options: PlayOptions) -> int | np.ndarray | None:
    """As World.reset takes it."""
    is_own = options.start is None or (options.start.isdecimal() and not Path(options.start).exists())
    if is_own and not world.num_starts:
        flag = "" if options.start is None else f"--start {options.start}: "
        raise InputError(f"{flag}{world.config.name} has no starts of its own: give a picture or clip, --start FILE")
    if options.start is None:
        return None
    if is_own:
        index = int(options.start)
        if index >= world.num_starts:
            raise InputError(f"--start {index}: {world.config.name} has starts 0..{world.num_starts - 1}")
        return index
    return load_start(Path(options.start), world.config.height, world.config.width, world.config.fps)


def open_actions(world: World, options: PlayOptions, session: Session | None) -> tuple[Any, int | None]:
    """-> what chooses actions (None: the keyboard, or at random where there is none) and how many it has."""
    if session is not None:
        check_actions(session.actions, world.config.actions, str(options.replay))
        return session.replay(), len(session.actions)
    if options.actions is None:
        return None, None
    return action_source(world, options.actions, options.seed)


def open_recorder(options: PlayOptions, world: World, is_live: bool) -> Recorder | None:
    """What is written while playing; a headless play writes its clip itself."""
    recorders: list[Recorder] = []
    if options.recordings is not None:
        recorders.append(EpisodeRecorder(options.recordings, world))
    if options.out is not None and is_live:
        recorders.append(ClipRecorder(options.out, world, scale=options.scale, legend=options.legend))
    return InBackground(*recorders) if recorders else None


def with_clip(options: PlayOptions, world: World, has_window: bool) -> PlayOptions:
    """Where there was no display, a clip shows what would have been seen."""
    if has_window or options.headless or options.out is not None:
        return options
    out = Path(f"worldgen-{re.sub('[^A-Za-z0-9_-]+', '-', world.config.name)}.mp4")
    check_writable(out, "the clip")
    return replace(options, out=out)


def lasting_name(world: str) -> str:
    """A world's folder as it is called from any folder; a bundled name, as find_world() takes it, stays as it is."""
    return str(Path(world).resolve()) if (Path(world) / "world.json").is_file() else world
