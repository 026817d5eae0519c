"""Which keys and mouse buttons are held, and how far the mouse moves, while any program is played."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from worldgen.actions import ActionMap
from worldgen.errors import InputError

DEFAULT_KEYS = (
    "left", "right", "up", "down", "space", "w", "a", "s", "d", "return", "left shift", "left ctrl", "mouse left",
    "mouse right",
)  # fmt: skip
MOUSE_MOVES = ("mouse x", "mouse y")

# pynput's names of keys -> pygame's, which a world's keys have
_NAMES = {
    "enter": "return", "shift": "left shift", "shift_l": "left shift", "shift_r": "right shift", "ctrl": "left ctrl",
    "ctrl_l": "left ctrl", "ctrl_r": "right ctrl", "alt": "left alt", "alt_l": "left alt", "alt_r": "right alt",
    "esc": "escape", "page_up": "page up", "page_down": "page down", "caps_lock": "caps lock",
}  # fmt: skip


def screen_actions(keys: Sequence[str], with_motion: bool) -> ActionMap:
    """One button a key, pressed or not. with_motion: values instead, keys 0 or 1 and then the mouse's way during the
    frame in widths and heights of the picture, -1..1."""
    if not keys or len(set(keys)) != len(keys):
        raise InputError(f"--keys {','.join(keys)}: name each key once, at least one")
    if not with_motion:
        return ActionMap("multi_binary", (2,) * len(keys), tuple(keys), tuple((key,) for key in keys))
    names = (*keys, *MOUSE_MOVES)
    low = (0.0,) * len(keys) + (-1.0, -1.0)
    return ActionMap("box", (0,) * len(names), names, low=low, high=(1.0,) * len(names))


def plain_characters(mapping: Sequence[Sequence[int]]) -> dict[tuple[int, bool], str]:
    """mapping: the keysyms that each key of an X11 keyboard types, alone, with Shift, and so on in turn -> what the key
    types alone, by one of its keysyms and whether Shift is held."""
    plain: dict[tuple[int, bool], str] = {}
    for i, typed in enumerate(zip(*mapping, strict=True)):  # what AltGr types comes last: a simpler way goes before
        for keysym, alone in zip(typed, mapping, strict=True):
            if keysym and 32 < alone[0] < 256:  # Latin-1, where a keysym is its character
                plain.setdefault((keysym, i % 2 == 1), chr(alone[0]))
    return plain


class InputLog:
    """take() gives the action of the time since the last take(). A key that was down for any of it counts.

    plain: of plain_characters(). pynput calls a key by what it types, 1 with Shift "!": it is called "1" here, so that
    it is let go whichever of Shift and 1 goes up first."""

    def __init__(self, keys: Sequence[str], with_motion: bool, plain: Mapping[tuple[int, bool], str] | None = None):
        self._keys, self._with_motion, self._plain = tuple(keys), with_motion, plain or {}
        self._held: set[str] = set()
        self._tapped: set[str] = set()
        self._mouse: tuple[int, int] | None = None
        self._moved = [0, 0]
        self._lock = Lock()

    def listen(self) -> None:
        """Hears the keyboard and the mouse of the desktop from now on, until the process ends."""
        check_desktop()
        from pynput import keyboard, mouse

        if sys.platform.startswith("linux"):
            self._plain = plain_characters(_keyboard_mapping())
        self._listeners = (
            keyboard.Listener(
                on_press=lambda key: self.typed(key, True),
                on_release=lambda key: self.typed(key, False),
            ),
            mouse.Listener(
                on_move=lambda x, y, *_: self.moved(x, y),
                on_click=lambda x, y, button, is_down, *_: self.key(f"mouse {button.name}", is_down),
            ),
        )
        for listener in self._listeners:
            listener.start()
            listener.wait()
        self.moved(*mouse.Controller().position)  # where its way begins

    def stop(self) -> None:
        """Not waited for: under X11 a listener notices with the next key only."""
        for listener in self._listeners:
            listener.stop()

    def typed(self, key: Any, is_down: bool) -> None:
        """key: as pynput gives it"""
        has_shift = not self._held.isdisjoint(("left shift", "right shift"))
        self.key(self._plain.get((getattr(key, "vk", None) or 0, has_shift)) or _key_name(key), is_down)

    def key(self, name: str, is_down: bool) -> None:
        with self._lock:
            if is_down:
                self._held.add(name)
                self._tapped.add(name)
            else:
                self._held.discard(name)

    def moved(self, x: int, y: int) -> None:
        """The mouse is at this pixel of the desktop now."""
        with self._lock:
            if self._mouse is not None:
                self._moved[0] += x - self._mouse[0]
                self._moved[1] += y - self._mouse[1]
            self._mouse = (x, y)

    def take(self, width: int, height: int) -> list[Any]:
        """width, height: of the picture on the desktop, in pixels -> an action of screen_actions()"""
        with self._lock:
            down = self._held | self._tapped
            self._tapped.clear()
            moved, self._moved = self._moved, [0, 0]
        pressed = [int(key in down) for key in self._keys]
        if not self._with_motion:
            return pressed
        ways = [min(1.0, max(-1.0, way / size)) for way, size in zip(moved, (width, height), strict=True)]
        return [*(float(p) for p in pressed), *(round(way, 5) for way in ways)]


def check_desktop() -> None:
    """InputError where there is none to record."""
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        raise InputError("--screen hears keys and grabs pictures through X11: no DISPLAY here (on Wayland, XWayland's)")


def _keyboard_mapping() -> list[Sequence[int]]:
    """The keysyms of each key of the desktop's keyboard."""
    from Xlib.display import Display

    desktop = Display()
    first, last = desktop.display.info.min_keycode, desktop.display.info.max_keycode
    mapping = desktop.get_keyboard_mapping(first, last - first + 1)
    desktop.close()
    return list(mapping)


def _key_name(key: Any) -> str:
    """pynput's key -> pygame's name"""
    char = getattr(key, "char", None)
    if char:
        return str(char).lower()
    name = str(getattr(key, "name", "") or "")
    return _NAMES.get(name, name)
