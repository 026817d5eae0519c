"""A game in a terminal, for people on ssh: two pixels a character (the upper half block), keys through the tty.

A terminal tells when a key goes down and repeats, never when it goes up: a key counts as held for as long as its next
repeat takes to come.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from worldgen.errors import InputError
from worldgen.play.area_means import area_means
from worldgen.play.bindings import Bindings
from worldgen.play.commands import Commands
from worldgen.play.live import LivePlayer
from worldgen.play.loop import Player
from worldgen.play.ui_keys import bind_commands

if TYPE_CHECKING:
    from worldgen.play.action_source import ActionSource

FIRST_HOLD, NEXT_HOLD = 0.55, 0.15  # seconds: until a keyboard repeats at all, and between two repeats
ESCAPES = {"[A": "up", "[B": "down", "[C": "right", "[D": "left", "OA": "up", "OB": "down", "OC": "right", "OD": "left"}
PLAIN = {"\r": "return", "\n": "return", " ": "space", "\t": "tab", "\x7f": "backspace", "\x1b": "escape"}
WINDOW_ONLY = ("help", "mute", "fullscreen", "screenshot", "rebind", "fork", "rewind")
SAID_SECONDS = 2.5


def play_in_terminal(
    player: Player,
    *,
    choose: ActionSource | None = None,
    max_frames: int | None = None,
    captures: Path = Path("."),
    hold_rate: bool = True,
    is_led: bool = False,
    out: TextIO | None = None,
) -> tuple[float, str]:
    """Plays until it is left (Esc, q, Ctrl-C) -> seconds played, and Commands.problem. captures: where recordings go.
    choose, hold_rate, is_led: as Window's. InputError where there is no terminal."""
    out = sys.stdout if out is None else out
    check_terminal(out)
    held = TerminalKeys()
    actions = player.world.config.actions
    bindings, _ = Bindings.load(player.world.config.name, actions)
    bound = {**bind_commands(actions, bindings.keys), "q": "quit"}
    bound = {key: command for key, command in bound.items() if key not in bindings.keys}
    autopilot = choose

    def choose_or_keys(player: Player) -> Any:
        nonlocal autopilot
        if autopilot is None:
            pressed = held.now(time.monotonic())
            return actions.from_keys({bindings.keys[key] for key in pressed if key in bindings.keys})
        action = autopilot(player)
        if action is None:
            autopilot = None  # the keys play on
        return action

    said: list[tuple[float, str]] = []

    def say(message: str) -> None:
        said.append((time.monotonic() + SAID_SECONDS, message))

    live = LivePlayer(player, choose_or_keys, max_frames=max_frames, on_notice=say)
    live.governor.is_on, live.governor.may_change_game = hold_rate, choose is None
    live.is_led = is_led
    commands = Commands(live, captures, say)
    with _raw_terminal(out) as fd:
        live.start()
        try:
            show_figures = True
            view, drawn = None, ("", False, True)
            while not live.is_over:
                for key in read_keys(fd, 0.01):
                    if key in bindings.keys:
                        held.press(key, time.monotonic())
                    elif bound.get(key) == "hud":
                        show_figures = not show_figures
                    elif bound.get(key) == "quit":
                        live.is_over = True
                    elif key in bound and bound[key] not in WINDOW_ONLY:
                        commands.run(bound[key])
                new = live.take_view()
                view = new or view
                message = said[-1][1] if said and said[-1][0] > time.monotonic() else ""
                # a paused game has no new frames to be drawn with
                wanted = (message, live.paused, show_figures)
                if view is not None and (new is not None or wanted != drawn):
                    drawn = wanted
                    line = message or (status_line(live, view.action) if show_figures else "")
                    out.write(draw(view.frame.image, *shutil.get_terminal_size(), line))
                    out.flush()
        except KeyboardInterrupt:
            pass
        finally:
            try:
                live.stop()
            finally:
                commands.close()
    return live.seconds, commands.problem


def check_terminal(out: TextIO | None = None) -> None:
    """Raises InputError where no game can be shown and no key be heard."""
    if not (sys.stdin.isatty() and (sys.stdout if out is None else out).isatty()):
        raise InputError("--terminal draws on a terminal and reads its keys: this is none (a pipe or a file?)")
    try:
        import termios  # noqa: F401
    except ImportError:
        raise InputError("--terminal needs a POSIX terminal: play in a window, or in WSL") from None


class TerminalKeys:
    """Keys that are held, as far as a terminal can tell."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def press(self, key: str, now: float) -> None:
        self._until[key] = now + (NEXT_HOLD if self._until.get(key, 0.0) > now else FIRST_HOLD)

    def now(self, now: float) -> set[str]:
        return {key for key, until in self._until.items() if until > now}


def draw(image: np.ndarray, columns: int, lines: int, status: str = "") -> str:
    """image (h, w, 3) uint8 -> what a terminal of this size is sent to show it, with a line of text under it.

    Larger pictures are reduced by averaging, smaller ones stay; a line of characters holds two of pixels."""
    height, width, _ = image.shape
    shrink = max(1.0, width / max(1, columns), height / max(1, 2 * (lines - 1)))
    w, h = max(1, int(width / shrink)), max(2, 2 * int(height / shrink / 2))
    small = _reduced(image, h, w)
    out = ["\x1b[H"]
    for top, bottom in zip(small[0::2], small[1::2], strict=True):
        before = None
        for a, b in zip(top.tolist(), bottom.tolist(), strict=True):
            if (a, b) != before:
                out.append("\x1b[38;2;{};{};{}m\x1b[48;2;{};{};{}m".format(*a, *b))
                before = (a, b)
            out.append("▀")
        out.append("\x1b[0m\x1b[K\r\n")
    return "".join(out) + status[:columns] + "\x1b[K\x1b[J"


def status_line(live: LivePlayer, action: Any) -> str:
    player = live.player
    name = "" if action is None else player.world.config.actions.name(action)
    seconds = live.seconds
    fps = player.stats.frames / seconds if seconds > 0 else 0.0
    state = "paused, " if live.paused else ""
    return (
        f"{name:<20} {state}{fps:.1f} fps, {player.stats.percentile(50, recent=True):.0f} ms, "
        f"{player.stats.dropped} dropped, {live.effort.described()}; p pause, q leave"
    )


def read_keys(fd: int, seconds: float) -> Iterator[str]:
    """The keys typed within a moment, by pygame's names; unknown escape sequences are skipped."""
    ready, _, _ = select.select([fd], [], [], seconds)
    if not ready:
        return
    text = os.read(fd, 1024).decode("utf-8", "ignore")
    i = 0
    while i < len(text):
        if text[i] == "\x1b" and text[i + 1 : i + 3] in ESCAPES:
            yield ESCAPES[text[i + 1 : i + 3]]
            i += 3
        elif text[i] == "\x1b" and i + 1 < len(text) and text[i + 1] in "[O":
            i += 2
            while i < len(text) and not text[i].isalpha() and text[i] != "~":
                i += 1
            i += 1
        else:
            yield PLAIN.get(text[i], text[i].lower())
            i += 1


def _reduced(image: np.ndarray, h: int, w: int) -> np.ndarray:
    """By the mean of each area -> (h, w, 3) uint8"""
    height, width, _ = image.shape
    if h >= height and w >= width:
        return image[: 2 * (height // 2)]
    return area_means(image, h, w).astype(np.uint8)


@contextmanager
def _raw_terminal(out: TextIO) -> Iterator[int]:
    """The tty gives keys one by one and unseen, on a screen of its own; all is put back afterwards."""
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        out.write("\x1b[?1049h\x1b[?25l\x1b[2J")
        yield fd
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        out.write("\x1b[0m\x1b[?25h\x1b[?1049l")
        out.flush()
