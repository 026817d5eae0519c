"""The keyboard: which keys the game holds, and which the window listens to. Key names are pygame's; no pygame here."""

from __future__ import annotations

from collections.abc import Collection
from threading import Lock

from worldgen.actions import ActionMap
from worldgen.legend import legend_keys

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
    ("mute", ("f7", "m"), "sound on/off"),
    ("fullscreen", ("f11",), "fullscreen"),
    ("screenshot", ("f12",), "save a picture here"),
    ("quit", ("escape", "f10"), "quit"),
)


def bind_commands(actions: ActionMap) -> dict[str, str]:
    """Key -> command, without the keys that the world's actions use."""
    taken = set(legend_keys(actions))
    return {key: command for command, keys, _ in COMMANDS for key in keys if key not in taken}


def help_lines(actions: ActionMap) -> list[str]:
    """The help overlay: the world's actions, then the window's commands."""
    bound = bind_commands(actions)
    lines = []
    for name, keys in zip(actions.names, actions.keys, strict=False):
        joined = ("+" if actions.is_discrete else " / ").join(keys)
        lines.append(f"{joined or '(no key)':<16} {name}")
    lines = lines[:24] or ["no keys: this world's actions are not a keyboard's"]
    lines.append("")
    for command, keys, words in COMMANDS:
        free = [key for key in keys if bound.get(key) == command]
        if free:
            lines.append(f"{' '.join(free):<16} {words}")
    return lines


class HeldKeys:
    """Keys held down, filled by the window's thread and read by the game's. A key tapped between two frames counts
    for the next frame although it is up again."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._tapped: set[str] = set()
        self._lock = Lock()

    def press(self, key: str) -> None:
        with self._lock:
            self._held.add(key)
            self._tapped.add(key)

    def release(self, key: str) -> None:
        with self._lock:
            self._held.discard(key)

    def release_all(self) -> None:
        """The window lost the keyboard: it will not be told of keys that go up."""
        with self._lock:
            self._held.clear()
            self._tapped.clear()

    def take(self) -> Collection[str]:
        """The keys of the frame that is due now."""
        with self._lock:
            keys = self._held | self._tapped
            self._tapped.clear()
            return keys
