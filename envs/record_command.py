"""The command line of recording: options, a progress bar, one line of what came of it."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO, cast

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from worldgen.envs.record import Progress, record
from worldgen.envs.screen_input import DEFAULT_KEYS
from worldgen.errors import InputError
from worldgen.interrupts import Lasting

SCREEN_ONLY = {"window": None, "region": None, "keys": None, "height": None, "mouse": False, "sound": True}


@dataclass(frozen=True)
class RecordOptions:
    out: Path
    """folder of the recordings; those already there are kept"""
    env: tyro.conf.Positional[str | None] = None
    """the game, source:name: vizdoom:take_cover, pyxel:jump, ale:breakout, gym:CarRacing-v3, toy"""
    frames: int | None = None
    """frames to record in all; a person may play on until the window is closed"""
    play: bool = False
    """play it yourself, in a window, with the game's keys"""
    screen: bool = False
    """record any game on the desktop instead of ENV: its picture, the keys and the mouse"""
    window: str | None = None
    """--screen: the window with this in its title (X11)"""
    region: str | None = None
    """--screen: LEFT,TOP,WIDTH,HEIGHT of the desktop"""
    keys: str | None = None
    """--screen: the keys and buttons to record, like left,right,space,mouse left"""
    mouse: bool = False
    """--screen: the motion of the mouse too; actions are numbers then"""
    sound: bool = True
    """--screen: the sound that the desktop plays too, where it can be heard (PulseAudio, PipeWire, Windows)"""
    height: int | None = None
    """--screen: make larger pictures this high; 240 by default"""
    policy: Literal["random", "sticky", "scripted", "mix"] = "mix"
    """who plays; mix draws one of the others per episode"""
    seed: int = 0
    """the same seed gives the same recordings"""
    fps: float | None = None
    """frames a second (default: the game's own choice)"""
    workers: int = 1
    """processes that play at the same time"""
    json: str | None = None
    """write the figures to this file, or - for standard output"""


def check_record_options(options: RecordOptions) -> None:
    """Raises InputError for what does not go together."""
    if options.screen and (options.env is not None or options.play):
        raise InputError("--screen records the desktop: leave out the game and --play")
    if options.env is None and not options.screen:
        raise InputError("which game? source:name, like vizdoom:take_cover, or --screen; see `worldgen record --help`")
    given = [flag for flag, default in SCREEN_ONLY.items() if getattr(options, flag) is not default]
    if not options.screen and given:
        raise InputError(f"--{'no-' * (given[0] == 'sound')}{given[0]} belongs to --screen")
    if options.frames is None and not (options.play or options.screen):
        raise InputError("--frames: how many to record? (--play and --screen go on until they are stopped)")


def record_the_screen(options: RecordOptions) -> dict[str, Any]:
    """-> the figures of record_screen()"""
    from worldgen.envs.record_screen import record_screen
    from worldgen.envs.screen_sound import open_speakers

    console = _console()
    keys = DEFAULT_KEYS if options.keys is None else [key.strip() for key in options.keys.split(",") if key.strip()]

    def show(num_frames: int) -> None:
        if num_frames == 2:  # what is wrong with the arguments is said before
            console.print("recording the screen: Ctrl-C ends it", highlight=False)

    result = record_screen(
        options.out,
        frames=options.frames,
        fps=15.0 if options.fps is None else options.fps,
        window=options.window,
        region=options.region,
        keys=keys,
        with_motion=options.mouse,
        height=240 if options.height is None else options.height,
        speakers=open_speakers if options.sound else None,
        on_progress=show,
    )
    sound = "with sound" if result["sound_rate"] else "silent"
    if result["sound_problem"]:
        console.print(f"worldgen: {result['sound_problem']}", highlight=False, soft_wrap=True)
    why = "" if result["ended"] in ("frames", "stopped") else f"{result['ended']}: "
    console.print(
        f"{why}{result['frames']} frames of {result['width']}x{result['height']} at {result['game_fps']:g} fps, "
        f"{result['repeated']} of them repeated, {sound}: {result['path']}",
        highlight=False,
        soft_wrap=True,
    )
    return result


def record_with_bar(options: RecordOptions) -> dict[str, Any]:
    """-> the figures of record()"""
    assert options.env is not None and options.frames is not None, "check_record_options comes first"
    console = _console()
    columns = (TextColumn("recording"), BarColumn(), MofNCompleteColumn(), TextColumn("frames, {task.fields[rate]}"))
    bar = Bar(*columns, TimeRemainingColumn(), console=console)
    task = bar.add_task("recording", total=options.frames, rate="")

    def show(progress: Progress) -> None:
        if not bar.live.is_started:
            bar.start()  # with the first frames: what is wrong with the arguments is said before
        bar.update(task, completed=progress.frames, rate=f"{progress.fps:.0f}/s, {progress.episodes} episodes")

    def warn(message: Warning | str, *_: Any, **__: Any) -> None:
        console.print(f"worldgen: {message}", highlight=False, soft_wrap=True)

    with warnings.catch_warnings():
        warnings.showwarning = warn
        try:
            result = record(
                options.env,
                options.out,
                options.frames,
                policy=options.policy,
                seed=options.seed,
                fps=options.fps,
                workers=options.workers,
                on_progress=show,
            )
        finally:
            if bar.live.is_started:
                bar.stop()
    sound = f"{result['sound_seconds']:.0f} s of sound" if result["sound_seconds"] else "no sound"
    console.print(
        f"{'interrupted: ' if result['interrupted'] else ''}{result['frames']} frames of {result['env']} in "
        f"{result['episodes']} episodes, {result['game_fps']:g} fps, {sound}, at {result['fps']:.0f} frames/s: "
        f"{options.out}",
        highlight=False,
        soft_wrap=True,
    )
    return result


def _console() -> Console:
    return Console(file=cast(TextIO, Lasting(sys.stderr)))
