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
from worldgen.errors import InputError, RunError
from worldgen.files import check_writable
from worldgen.interrupts import termination_as_interrupt
from worldgen.play.action_source import check_actions
from worldgen.play.background import InBackground, Recorder
from worldgen.play.blind_test import BlindTest, Tally, num_frames
from worldgen.play.clip import ClipRecorder
from worldgen.play.familiarity import note_on
from worldgen.play.headless import FRAMES, action_source, run_headless
from worldgen.play.live import NoDisplayError
from worldgen.play.loop import Player
from worldgen.play.options import PlayOptions, check_options
from worldgen.play.real_beside import CLIP_SECONDS, RealBeside
from worldgen.play.recorded_clips import PROMPT, RecordedClips
from worldgen.play.recorder import EpisodeRecorder
from worldgen.play.session import Session, SessionLog
from worldgen.play.start_image import load_start
from worldgen.play.terminal import play_in_terminal

if TYPE_CHECKING:
    from worldgen.world import World


def play(options: PlayOptions, load_world: Callable[..., World] | None = None) -> dict[str, Any]:
    """Plays, and returns the figures of the play. load_world: as World.load, which it is by default. Ended by SIGTERM,
    all that was asked to be written is written."""
    with termination_as_interrupt():
        return _play(options, load_world)


def _play(options: PlayOptions, load_world: Callable[..., World] | None) -> dict[str, Any]:
    say = say_beside(options.json)
    has_window = not options.headless and not options.terminal and has_display()
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # its greeting would go into --json -
    if not options.headless and not options.terminal and not has_window:
        say("no display here: playing without a window")
    session = Session.load(options.replay) if options.replay is not None else None
    check_options(options, has_window)
    if has_window and not _names_a_game(options):
        from worldgen.play.console import play_console

        try:
            stats = play_console(options, lambda name: _load_world(replace(options, world=name), None, load_world))
            write_figures(stats, options.json)
            return stats
        except NoDisplayError as error:
            say(f"{error}: playing without a window")
            has_window = False
    world = _load_world(options, session, load_world)
    if options.blind is not None:
        return _blind_test(world, options, say)
    options = _with_clip(options, world, has_window or options.terminal)
    height, width = world.image_size
    size = f"{world.config.width}x{world.config.height}"
    size += f" shown at {width}x{height}" if (height, width) != (world.config.height, world.config.width) else ""
    say(f"{world.config.name}: {size}, {world.config.fps:g} fps, {world.backend_name}, nfe {world.nfe}")
    stats = _play_world(world, options, session, has_window, say)
    write_figures(stats, options.json)
    return stats


def _names_a_game(options: PlayOptions) -> bool:
    """Whether what to play is told, so that nobody need be asked."""
    given = (options.world, options.replay, options.start, options.actions, options.frames, options.beside)
    files = (options.blind, options.record, options.recordings, options.out)
    return any(value is not None for value in (*given, *files))


def has_display(environ: dict[str, str] | os._Environ[str] = os.environ, platform: str = sys.platform) -> bool:
    """Whether a window can be tried. A named SDL driver counts, "dummy" too: tests play in it."""
    if not platform.startswith("linux"):
        return True
    return any(environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"))


def _play_world(
    world: World, options: PlayOptions, session: Session | None, has_window: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    seed = options.seed if session is None else session.seed
    real = RealBeside(RecordedClips(options.beside, world, _clip_frames(world), seed)) if options.beside else None
    start = session.start if session is not None else real.start if real is not None else _start(world, options)
    note = note_on(world.starts, start[-1]) if isinstance(start, np.ndarray) and session is None else None
    if note:
        say(f"--start {options.start}: {note}" if options.start else note)
    name = options.world or (session.world if session is not None else DEFAULT_WORLD)
    log = SessionLog(world, name=_lasting_name(name), seed=seed, start=start)
    choose, length = (real, None) if real is not None else _choice(world, options, session)
    is_live = has_window or options.terminal
    recorder = _recorder(options, world, is_live)
    player = Player(world, seed=seed, start=start, log=log, recorder=recorder)
    # a replay that is to end by itself ends with its session; others hand over to the keyboard
    max_frames = min(options.frames, length or 0) if options.frames and session else options.frames
    seconds = None
    try:
        if options.terminal:
            seconds = play_in_terminal(player, choose=choose, max_frames=max_frames, captures=options.captures)
        elif has_window:
            try:
                seconds = _play_in_window(player, options, choose, max_frames, real, note or "")
            except NoDisplayError as error:
                say(f"{error}: playing without a window")
                has_window = is_live = False
                options = _with_clip(options, world, False)
        if not is_live:
            _play_headless(player, options, choose, length, real, say)
    finally:
        player.close()
        if options.record is not None:
            log.session().save(options.record)
            say(f"wrote {options.record}")
    if isinstance(recorder, InBackground) and recorder.error is not None:
        raise RunError(f"the recording ended early: {recorder.error}")
    stats = player.summary(seconds)
    _report(stats, options, say)
    if session is not None:
        _compare(session, log.session(), say)
    return stats


def _clip_frames(world: World) -> int:
    return PROMPT + round(CLIP_SECONDS * world.config.fps)


def _recorder(options: PlayOptions, world: World, is_live: bool) -> Recorder | None:
    """What is written while playing; a headless play writes its clip itself."""
    recorders: list[Recorder] = []
    if options.recordings is not None:
        recorders.append(EpisodeRecorder(options.recordings, world))
    if options.out is not None and is_live:
        recorders.append(ClipRecorder(options.out, world))
    return InBackground(*recorders) if recorders else None


def _play_in_window(
    player: Player, options: PlayOptions, choose: Any, max_frames: int | None, real: RealBeside | None, note: str
) -> float:
    from worldgen.play.window import Window

    window = Window(
        player,
        choose=choose,
        max_frames=max_frames,
        fullscreen=options.fullscreen,
        folder=options.captures,
        companion=real.beside if real is not None else None,
        hold_rate=options.auto,
        greeting=note,
    )
    window.run()
    return window.live.seconds


def _blind_test(world: World, options: PlayOptions, say: Callable[[str], None]) -> dict[str, Any]:
    from worldgen.play.window_blind import BlindWindow
    from worldgen.play.window_display import Display

    assert options.blind is not None
    tally = Tally.load_or_new(options.tally, world)
    clips = RecordedClips(options.blind, world, num_frames(world.config.fps), seed=options.seed + len(tally.answers))
    test = BlindTest(world, clips, seed=options.seed + len(tally.answers))
    display = Display(fullscreen=options.fullscreen)
    try:
        BlindWindow(
            test,
            tally,
            world.config.fps,
            display=display,
            on_answer=lambda: tally.save(options.tally),
            limit=options.frames,
        ).run()
    finally:
        display.close()
    figures = tally.summary()
    say(
        f"{figures['num_right']} right of {figures['num_clips']} clips"
        + (f": {options.tally}" if tally.answers else "")
    )
    write_figures(figures, options.json)
    return figures


def _play_headless(
    player: Player,
    options: PlayOptions,
    choose: Any,
    length: int | None,
    real: RealBeside | None,
    say: Callable[[str], None],
) -> None:
    if choose is None:
        choose, _ = action_source(player.world, "random", options.seed)
    frames = options.frames or length or FRAMES
    progress = _Progress()
    try:
        run_headless(
            player,
            choose,
            frames,
            out=options.out,
            scale=options.scale,
            legend=options.legend,
            on_progress=progress,
            beside=real.beside if real is not None else None,
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
    for path in (options.out, options.recordings):
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
