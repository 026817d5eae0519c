"""The picture of a window or a region of the desktop."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from worldgen.errors import InputError, RunError

Region = tuple[int, int, int, int]  # left, top, width, height in pixels of the desktop


class WindowGoneError(RunError):
    """The window that was being recorded was closed."""


class Desktop:
    """grab() -> (h, w, 3) uint8 of a region of the desktop."""

    def __init__(self) -> None:
        import mss

        try:
            self._mss: Any = mss.MSS()
        except mss.exception.ScreenShotError as error:
            raise InputError(f"the screen cannot be read ({error}): --screen needs X11, Windows or macOS") from None
        whole = self._mss.monitors[0]
        self.size = (int(whole["width"]), int(whole["height"]))

    def grab(self, region: Region) -> np.ndarray:
        left, top, width, height = region
        shot = self._mss.grab({"left": left, "top": top, "width": width, "height": height})
        return np.frombuffer(shot.raw, np.uint8).reshape(shot.height, shot.width, 4)[..., 2::-1].copy()

    def close(self) -> None:
        self._mss.close()


def parse_region(text: str, size: tuple[int, int]) -> Region:
    """ "LEFT,TOP,WIDTH,HEIGHT", inside a desktop of this size"""
    try:
        left, top, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--region {text}: give LEFT,TOP,WIDTH,HEIGHT in pixels, like 100,100,640,480") from None
    if left < 0 or top < 0 or width < 16 or height < 16 or left + width > size[0] or top + height > size[1]:
        raise InputError(f"--region {text}: not inside the desktop of {size[0]}x{size[1]}, or smaller than 16x16")
    return left, top, width, height


class WindowOnX11:
    """A window found by a part of its title. where() follows it; WindowGoneError once it is closed."""

    def __init__(self, title: str):
        if not sys.platform.startswith("linux"):
            raise InputError(f"--window {title}: windows are found by title on X11 only; give --region here")
        from Xlib import display, error

        self._errors = (error.BadWindow, error.BadDrawable, error.ConnectionClosedError)
        try:
            self._display = display.Display()
        except (error.DisplayError, OSError) as problem:
            raise InputError(f"--window {title}: no X11 display ({problem})") from None
        self._root = self._display.screen().root
        found = self._find(self._root, title.lower())
        if found is None:
            names = ", ".join(repr(name) for name in self._titles(self._root)[:8]) or "none"
            raise InputError(f"--window {title}: no window has that in its title; there are {names}")
        self._window = found

    def where(self) -> Region:
        """The part of the window that is on the desktop."""
        try:
            geometry = self._window.get_geometry()
            corner = self._window.translate_coords(self._root, 0, 0)
        except self._errors:
            raise WindowGoneError("the window was closed") from None
        screen = self._root.get_geometry()
        left, top = max(0, -corner.x), max(0, -corner.y)
        width = min(left + geometry.width, screen.width) - left
        height = min(top + geometry.height, screen.height) - top
        if width < 16 or height < 16:
            raise WindowGoneError("the window has left the desktop")
        return left, top, width, height

    def _find(self, window: Any, title: str) -> Any:
        for child in self._children(window):
            if title in self._title(child).lower():
                return child
            if (found := self._find(child, title)) is not None:
                return found
        return None

    def _titles(self, window: Any) -> list[str]:
        names = []
        for child in self._children(window):
            names += [name] if (name := self._title(child)) else self._titles(child)
        return names

    def _children(self, window: Any) -> list[Any]:
        try:
            return list(window.query_tree().children)
        except self._errors:  # it was closed meanwhile
            return []

    def _title(self, window: Any) -> str:
        try:
            if window.get_attributes().map_state == 0:  # not shown
                return ""
            prop = window.get_full_text_property(self._display.intern_atom("_NET_WM_NAME"))
            return str(prop or window.get_wm_name() or "")
        except self._errors:
            return ""
