"""worldgen play: a world in a window, or without one.

worldgen play doom
worldgen play doom --headless --frames 300 --out clip.mp4 --json -
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.bundle import DEFAULT_WORLD
from worldgen.command import say_beside, write_figures
from worldgen.errors import RunError
from worldgen.interrupts import termination_as_interrupt
from worldgen.play.background import InBackground, Recorder
from worldgen.play.familiarity import note_on
from worldgen.play.headless import FRAMES, action_source, run_headless
from worldgen.play.live import NoDisplayError
from worldgen.play.loop import Player
from worldgen.play.opening import lasting_name, open_actions, open_recorder, open_start, open_world, with_clip
from worldgen.play.options import PlayOptions, check_options
from worldgen.play.real_beside import CLIP_SECONDS, RealBeside
from worldgen.play.recorded_clips import PROMPT, RecordedClips
from worldgen.play.report import Progress, compare, report
from worldgen.play.session import Session, SessionLog
from worldgen.play.terminal import check_terminal, play_in_terminal

if TYPE_CHECKING:
    from worldgen.play.window_display import Display
    from worldgen.world import World


def play(options: PlayOptions, load_world: Callable[..., World] | None = None) -> dict[str, Any]:
    """Plays, and returns the figures of the play. load_world: as World.load, which it is by default. Ended by Ctrl-C,
    SIGTERM or SIGHUP, all that was asked to be written is written."""
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
    if options.terminal:
        check_terminal()
    if has_window and not _names_a_game(options):
        from worldgen.play.console import play_console

        try:
            stats = play_console(options, lambda name: open_world(replace(options, world=name), None, load_world))
            write_figures(stats, options.json)
            return stats
        except NoDisplayError as error:
            say(f"{error}: playing without a window")
            has_window = False
    world = open_world(options, session, load_world)
    if options.blind is not None:
        from worldgen.play.window_blind import ask_a_person

        stats = ask_a_person(world, options, say)
        write_figures(stats, options.json)
        return stats
    height, width = world.image_size
    size = f"{world.config.width}x{world.config.height}"
    size += f" shown at {width}x{height}" if (height, width) != (world.config.height, world.config.width) else ""
    say(f"{world.config.name}: {size}, {world.config.fps:g} fps, {world.backend_name}, nfe {world.nfe}")
    display = _open_display(world, options, say) if has_window else None
    try:
        options = with_clip(options, world, display is not None or options.terminal)
        return _play_world(world, options, session, display, say)
    finally:
        if display is not None:
            display.close()


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


def _open_display(world: World, options: PlayOptions, say: Callable[[str], None]) -> Display | None:
    """None where there turns out to be none: before anything is written for it."""
    from worldgen.play.window_display import Display
    from worldgen.play.window_view import first_size

    try:
        return Display(first_size(world, options.beside is not None), options.fullscreen)
    except NoDisplayError as error:
        say(f"{error}: playing without a window")
        return None


def _play_world(
    world: World, options: PlayOptions, session: Session | None, display: Display | None, say: Callable[[str], None]
) -> dict[str, Any]:
    seed = options.seed if session is None else session.seed
    real = RealBeside(RecordedClips(options.beside, world, _clip_frames(world), seed)) if options.beside else None
    start = session.start if session is not None else real.start if real is not None else open_start(world, options)
    note = note_on(world.starts, start[-1]) if isinstance(start, np.ndarray) and session is None else None
    if note:
        say(f"--start {options.start}: {note}" if options.start else note)
    name = options.world or (session.world if session is not None else DEFAULT_WORLD)
    log = SessionLog(world, name=lasting_name(name), seed=seed, start=start)
    choose, length = (real, None) if real is not None else open_actions(world, options, session)
    player = Player(world, seed=seed, start=start, log=log)
    is_led = session is not None or real is not None
    # a replay that is to end by itself ends with its session; others hand over to the keyboard
    max_frames = min(options.frames, length or 0) if options.frames and session else options.frames
    recorder: Recorder | None = None
    seconds: float | None = None
    problem = ""
    errors: list[BaseException] = []
    with _kept(errors):
        recorder = open_recorder(options, world, is_live=display is not None or options.terminal)
        if recorder is not None:
            player.record(recorder)
        if options.terminal:
            seconds, problem = play_in_terminal(
                player,
                choose=choose,
                max_frames=max_frames,
                captures=options.captures,
                hold_rate=options.auto,
                is_led=is_led,
            )
        elif display is not None:
            seconds, problem = _play_in_window(player, display, options, choose, max_frames, real, is_led, note or "")
        else:
            _play_headless(player, options, choose, length, real)
    is_played = player.stats.frames > 0 or not errors  # what failed before its first frame overwrites nothing
    with _kept(errors):
        if recorder is not None:
            recorder.close()
    stats = player.summary(seconds)
    with _kept(errors):
        if is_played:
            write_figures(stats, options.json)
    with _kept(errors):
        if options.record is not None and is_played:
            log.session().save(options.record)
            say(f"wrote {options.record}")
    if errors:
        with suppress(OSError):  # of a terminal that was closed
            for error in errors[1:]:
                say(f"{type(error).__name__}: {error}")
        raise errors[0]
    if isinstance(recorder, InBackground) and recorder.error is not None:
        raise RunError(f"the recording ended early: {recorder.error}")
    if problem:
        raise RunError(problem)
    report(stats, options, say)
    if session is not None:
        compare(session, log.session(), say)
    return stats


@contextmanager
def _kept(errors: list[BaseException]) -> Iterator[None]:
    """What goes wrong inside is kept, so that what follows is done all the same."""
    try:
        yield
    except BaseException as error:
        errors.append(error)


def _clip_frames(world: World) -> int:
    return PROMPT + round(CLIP_SECONDS * world.config.fps)


def _play_in_window(
    player: Player,
    display: Display,
    options: PlayOptions,
    choose: Any,
    max_frames: int | None,
    real: RealBeside | None,
    is_led: bool,
    note: str,
) -> tuple[float, str]:
    """-> seconds played, and Commands.problem. The display is closed: what is written after the play may take long."""
    from worldgen.play.window import Window

    window = Window(
        player,
        choose=choose,
        max_frames=max_frames,
        folder=options.captures,
        display=display,
        companion=real.beside if real is not None else None,
        hold_rate=options.auto,
        is_led=is_led,
        greeting=note,
    )
    try:
        window.run()
    finally:
        display.close()
    return window.live.seconds, window.problem


def _play_headless(
    player: Player,
    options: PlayOptions,
    choose: Any,
    length: int | None,
    real: RealBeside | None,
) -> None:
    if choose is None:
        choose, _ = action_source(player.world, "random", options.seed)
    frames = options.frames or length or FRAMES
    progress = Progress()
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
