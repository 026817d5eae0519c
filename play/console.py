"""`worldgen play` in a window, without a world: the start screen, a game, and the start screen again."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.errors import InputError
from worldgen.interrupts import Lasting
from worldgen.play.familiarity import note_on
from worldgen.play.loop import Player
from worldgen.play.opening import lasting_name
from worldgen.play.options import PlayOptions
from worldgen.play.preview import PREVIEW
from worldgen.play.session import SessionLog
from worldgen.play.shelf import find_worlds

if TYPE_CHECKING:
    from worldgen.play.window_display import Display
    from worldgen.play.window_menu import Choice
    from worldgen.world import World


def play_console(options: PlayOptions, load: Callable[[str], World]) -> dict[str, Any]:
    """-> the figures of the last game; {} when none was played. load: a world by its name. A recording that ended early
    ends nothing: it is said on standard error and on the start screen."""
    from worldgen.play.window_display import Display
    from worldgen.play.window_menu import Menu

    worlds = find_worlds(options.worlds)
    if not worlds:
        raise InputError("no world here: train one with `worldgen train DIR --out WORLD`, or give --worlds FOLDER")
    display = Display(fullscreen=options.fullscreen)
    stats: dict[str, Any] = {}
    try:
        menu = Menu(display, worlds, load)
        choice = menu.run()
        while choice is not None:
            stats, problem, is_closed = _play_choice(choice, options, display)
            choice = None if is_closed else menu.run(choice.world, problem)
    finally:
        display.close()
        for thread in threading.enumerate():  # a process that ended while an engine is being loaded would crash
            if thread.name == PREVIEW:
                thread.join()
    return stats


def _play_choice(choice: Choice, options: PlayOptions, display: Display) -> tuple[dict[str, Any], str, bool]:
    """-> the figures, Commands.problem, and whether the window was closed"""
    from worldgen.play.window import Window

    world, start = choice.world, choice.start
    note = note_on(world.starts, start[-1]) if isinstance(start, np.ndarray) else None
    log = SessionLog(world, name=lasting_name(choice.found.name), seed=options.seed, start=start)
    player = Player(world, seed=options.seed, start=start, log=log)
    window = Window(player, display=display, folder=options.captures, hold_rate=options.auto, greeting=note or "")
    window.run()
    if window.problem:
        Lasting(sys.stderr).write(f"{window.problem}\n")
    return player.summary(window.live.seconds), window.problem, window.is_closed
