"""The keyboard: which keys the game holds, and which the window listens to. Key names are pygame's; no pygame here."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from threading import Lock

from worldgen.actions import ActionMap
from worldgen.legend import legend_keys
from worldgen.play.bindings import Bindings

# What the window can do: its name, the keys for it and the words in the help. The world's own keys always go to the
# world, so everything has a function key (or Esc), and a letter where the world leaves it free.
COMMANDS = (
    ("hud", ("f1", "h"), "figures on/off"),
    ("help", ("f2", "/"), "this help"),
    ("pause", ("f3", "p"), "pause"),
    ("step", ("f6", "n"), "one frame (pauses)"),
    ("restart", ("f4", "r"), "restart with the next seed"),
    ("save", ("f5",), "save this moment"),
    ("load", ("f9",), "back to the saved moment"),
    ("rewind", ("backspace", "home"), "hold to rewind"),
    ("nfe 1", ("1",), "1 denoising step"),
    ("nfe 2", ("2",), "2 denoising steps"),
    ("nfe 4", ("4",), "4 denoising steps"),
    ("next nfe", ("f8",), "next number of steps"),
    ("auto", ("t", "page down"), "less effort when too slow, on/off"),
    ("fork", ("g", "insert"), "fork: two futures side by side"),
    ("record", ("v", "page up"), "record a clip and training data"),
    ("rebind", ("k", "end"), "choose the keys"),
    ("mute", ("f7", "m"), "sound on/off"),
    ("fullscreen", ("f11",), "fullscreen"),
    ("screenshot", ("f12",), "save a picture here"),
    ("quit", ("escape", "f10"), "leave"),
)


def bind_commands(actions: ActionMap, taken: Collection[str] = ()) -> dict[str, str]:
    """Key -> command, without the keys that the world's actions use and those taken besides."""
    not_free = {*legend_keys(actions), *taken}
    return {key: command for command, keys, _ in COMMANDS for key in keys if key not in not_free}


def help_lines(actions: ActionMap, bindings: Bindings | None = None) -> list[str]:
    """The help overlay: the world's actions, then the window's commands."""
    bindings = Bindings.of(actions) if bindings is None else bindings
    bound = bind_commands(actions, bindings.keys)
    lines = []
    for name, keys in zip(actions.names, actions.keys, strict=False):
        joined = ("+" if actions.is_discrete else " / ").join(bindings.key_of(key) for key in keys)
        lines.append(f"{joined or '(no key)':<16} {name}")
    lines = lines[:24] or ["no keys: this world's actions are not a keyboard's"]
    lines.append("")
    for command, keys, words in COMMANDS:
        free = [key for key in keys if bound.get(key) == command]
        if free:
            lines.append(f"{' '.join(free):<16} {words}")
    return [*lines, "", "drop a picture or a clip here to play on from it"]


class HeldKeys:
    """Keys held down, filled by the window's thread and read by the game's. A key tapped between two frames counts
    for the next frame although it is up again.

    by: who holds a key ("keyboard", a gamepad); a key is up when nobody holds it.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._held: set[tuple[str, str]] = set()
        self._tapped: set[str] = set()
        self._pressed_at: float | None = None
        self._lock = Lock()

    def press(self, key: str, by: str = "keyboard") -> None:
        with self._lock:
            self._held.add((by, key))
            self._tapped.add(key)
            if self._pressed_at is None:
                self._pressed_at = self._clock()

    def release(self, key: str, by: str = "keyboard") -> None:
        with self._lock:
            self._held.discard((by, key))

    def release_all(self, by: str | None = None) -> None:
        """Nobody will tell of keys that go up: the window lost the keyboard, or a gamepad was unplugged."""
        with self._lock:
            self._held = {held for held in self._held if by is not None and held[0] != by}
            self._tapped.clear()

    def take(self) -> tuple[set[str], float | None]:
        """The keys of the frame that is due now, and when the first of them that is new was pressed."""
        with self._lock:
            keys = {key for _, key in self._held} | self._tapped
            pressed_at, self._pressed_at = self._pressed_at, None
            self._tapped.clear()
            return keys, pressed_at
