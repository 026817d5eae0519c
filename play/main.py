"""worldgen play: a world in a window, or without one.

worldgen play doom
worldgen play doom --headless --frames 300 --out clip.mp4 --json -
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.bundle import DEFAULT_WORLD
from worldgen.command import say_beside, write_figures
from worldgen.errors import InputError
from worldgen.files import check_writable
from worldgen.play.action_source import check_actions
from worldgen.play.headless import FRAMES, action_source, run_headless
from worldgen.play.live import NoDisplayError
from worldgen.play.loop import Player
from worldgen.play.options import PlayOptions, check_options
from worldgen.play.recorder import EpisodeRecorder
from worldgen.play.session import Session, SessionLog
from worldgen.play.start_image import load_start

if TYPE_CHECKING:
    from worldgen.world import World


def play(options: PlayOptions, load_world: Callable[..., World] | None = None) -> dict[str, Any]:
    """Plays, and returns the figures of the play. load_world: as World.load, which it is by default."""
    say = say_beside(options.json)
    has_window = not options.headless and has_display()
    if not options.headless and not has_window:
        say("no display here: playing without a window")
    session = Session.load(options.replay) if options.replay is not None else None
    check_options(options, has_window)
    world = _load_world(options, session, load_world)
    options = _with_clip(options, world, has_window)
    height, width = world.image_size
    size = f"{world.config.width}x{world.config.height}"
    size += f" shown at {width}x{height}" if (height, width) != (world.config.height, world.config.width) else ""
    say(f"{world.config.name}: {size}, {world.config.fps:g} fps, {world.backend_name}, nfe {world.nfe}")
    stats = _play_world(world, options, session, has_window, say)
    write_figures(stats, options.json)
    return stats


def has_display(environ: dict[str, str] | os._Environ[str] = os.environ, platform: str = sys.platform) -> bool:
    """Whether a window can be tried. A named SDL driver counts, "dummy" too: tests play in it."""
    if not platform.startswith("linux"):
        return True
    return any(environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"))


def _play_world(
    world: World, options: PlayOptions, session: Session | None, has_window: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    seed = options.seed if session is None else session.seed
    start = _start(world, options) if session is None else session.start
    log = None
    if options.record is not None or session is not None:
        name = options.world or (session.world if session is not None else DEFAULT_WORLD)
        log = SessionLog(world, name=_lasting_name(name), seed=seed, start=start)
    choose, length = _choice(world, options, session)
    recorder = EpisodeRecorder(options.recordings, world) if options.recordings is not None else None
    player = Player(world, seed=seed, start=start, log=log, recorder=recorder)
    seconds = None
    try:
        if has_window:
            try:
                # a replay that is to end by itself ends with its session; others hand over to the keyboard
                max_frames = min(options.frames, length or 0) if options.frames and session else options.frames
                seconds = _play_in_window(player, options, choose, max_frames)
            except NoDisplayError as error:
                say(f"{error}: playing without a window")
                has_window, options = False, _with_clip(options, world, False)
        if not has_window:
            _play_headless(player, options, choose, length, say)
    finally:
        player.close()
        if options.record is not None and log is not None:
            log.session().save(options.record)
    stats = player.summary(seconds)
    _report(stats, options, say)
    if session is not None and log is not None and not has_window:
        _compare(session, log.session(), say)
    return stats


def _play_in_window(player: Player, options: PlayOptions, choose: Any, max_frames: int | None) -> float:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # its greeting would go into --json -
    from worldgen.play.window import Window

    window = Window(player, choose=choose, max_frames=max_frames, fullscreen=options.fullscreen)
    window.run()
    return window.live.seconds


def _play_headless(
    player: Player, options: PlayOptions, choose: Any, length: int | None, say: Callable[[str], None]
) -> None:
    if choose is None:
        choose, _ = action_source(player.world, "random", options.seed)
    frames = options.frames or length or FRAMES
    progress = _Progress()
    try:
        run_headless(
            player, choose, frames, out=options.out, scale=options.scale, legend=options.legend, on_progress=progress
        )
    finally:
        progress.close()


def _choice(world: World, options: PlayOptions, session: Session | None) -> tuple[Any, int | None]:
    """-> what chooses actions (None: the keyboard, or at random where there is none) and how many it has."""
    if session is not None:
        check_actions(session.actions, world.config.actions, str(options.replay))
        return session.replay(), len(session.actions)
    if options.actions is None:
        return None, None
    return action_source(world, options.actions, options.seed)


def _load_world(options: PlayOptions, session: Session | None, load: Callable[..., World] | None) -> World:
    if load is None:
        from worldgen.world import World

        load = World.load
    name, backend, nfe = options.world or DEFAULT_WORLD, options.backend, options.nfe
    if session is not None:
        name = options.world or session.world
        backend = session.backend if backend == "auto" else backend
        nfe = session.nfe if nfe is None else nfe
    world = load(name, backend=backend, nfe=nfe, upscale=options.upscale, sound=options.sound)
    if session is not None:
        session.require(world)
    return world


def _with_clip(options: PlayOptions, world: World, has_window: bool) -> PlayOptions:
    """Where there was no display, a clip shows what would have been seen."""
    if has_window or options.headless or options.out is not None:
        return options
    out = Path(f"worldgen-{re.sub('[^A-Za-z0-9_-]+', '-', world.config.name)}.mp4")
    check_writable(out, "the clip")
    return replace(options, out=out)


def _start(world: World, options: PlayOptions) -> int | np.ndarray | None:
    if options.start is None:
        return None
    if options.start.isdecimal() and not Path(options.start).exists():
        index = int(options.start)
        if index >= world.num_starts:
            raise InputError(f"--start {index}: {world.config.name} has starts 0..{world.num_starts - 1}")
        return index
    return load_start(Path(options.start), world.config.height, world.config.width, world.config.fps)


def _lasting_name(world: str) -> str:
    """A folder's name holds from any folder; a bundled name stays as it is."""
    return str(Path(world).resolve()) if Path(world).is_dir() else world


def _report(stats: dict[str, Any], options: PlayOptions, say: Callable[[str], None]) -> None:
    line = "{frames} frames in {seconds:.1f} s ({fps:.1f} fps, {dropped} dropped)"
    line += "; a frame takes {frame_ms_p50:.1f} ms p50, {frame_ms_p95:.1f} p95, {frame_ms_p99:.1f} p99"
    say(line.format(**stats))
    for path in (options.out, options.record, options.recordings):
        if path is not None:
            say(f"wrote {path}")


def _compare(session: Session, replayed: Session, say: Callable[[str], None]) -> None:
    difference = session.first_difference(replayed)
    count = min(len(session.checksums), len(replayed.checksums))
    if difference is None:
        say(f"replayed {count} frames: identical to the session, bit for bit")
    else:
        say(
            f"replayed {count} frames: frame {difference} is the first to differ "
            f"(played on {session.backend} nfe {session.nfe}, replayed on {replayed.backend} nfe {replayed.nfe})"
        )


class _Progress:
    """Frames, rate and time left, on a terminal only."""

    def __init__(self) -> None:
        self._began = self._shown = time.monotonic()
        self._is_shown = False

    def __call__(self, done: int, frames: int) -> None:
        now = time.monotonic()
        if now - self._shown < 0.25 or not sys.stderr.isatty():
            return
        self._shown, self._is_shown = now, True
        rate = done / (now - self._began)
        print(f"\r{done}/{frames} frames, {rate:.0f}/s, {(frames - done) / rate:.0f} s left ", end="", file=sys.stderr)

    def close(self) -> None:
        if self._is_shown:
            print("\r" + " " * 60, end="\r", file=sys.stderr)
