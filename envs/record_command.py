"""The command line of recording: options, a progress bar, one line of what came of it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from worldgen.envs.record import Progress, record


@dataclass(frozen=True)
class RecordOptions:
    env: tyro.conf.Positional[str]
    """the game, source:name: vizdoom:take_cover, pyxel:jump, ale:breakout, gym:CarRacing-v3, toy"""
    out: Path
    """folder of the recordings; those already there are kept"""
    frames: int
    """frames to record in all"""
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


def record_with_bar(options: RecordOptions) -> dict[str, Any]:
    """-> the figures of record()"""
    console = Console(stderr=True)
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
