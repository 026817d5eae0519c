"""A desktop of its own for programs with windows: an X server in memory, and a person who looks and presses keys."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


@contextmanager
def x_server(width: int = 1024, height: int = 820) -> Iterator[str]:
    """-> its DISPLAY"""
    if shutil.which("Xvfb") is None:
        raise SystemExit("needs Xvfb (Debian: apt-get install xvfb)")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{width}x{height}x24", "-noreset"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as lines:
            yield f":{lines.readline().strip()}"
    finally:
        server.terminate()
        server.wait()


class Person:
    """At the desktop with this DISPLAY."""

    def __init__(self, display: str):
        from Xlib.display import Display

        self._display = Display(display)
        self._root = self._display.screen().root

    def key(self, name: str, is_down: bool) -> None:
        """name: of the X keysym"""
        from Xlib import XK, X
        from Xlib.ext import xtest

        code = self._display.keysym_to_keycode(XK.string_to_keysym(name))
        xtest.fake_input(self._display, X.KeyPress if is_down else X.KeyRelease, code)
        self._display.sync()

    def window(self, title: str, seconds: float = 60.0):
        """The window with this in its title, once it is there; it is given the keyboard."""
        from Xlib import X

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for window in self._root.query_tree().children:
                if title in self._title(window) and window.get_attributes().map_state == X.IsViewable:
                    window.set_input_focus(X.RevertToPointerRoot, X.CurrentTime)
                    self._display.sync()
                    return window
            time.sleep(0.01)
        raise TimeoutError(f"no window {title!r}")

    def _title(self, window) -> str:
        from Xlib.error import BadWindow

        try:
            name = window.get_full_text_property(self._display.intern_atom("_NET_WM_NAME"))
            return str(name or window.get_wm_name() or "")
        except BadWindow:  # it was closed meanwhile
            return ""

    def look(self) -> np.ndarray:
        """The whole desktop (h, w, 3) uint8"""
        from Xlib import X

        size = self._root.get_geometry()
        raw = self._root.get_image(0, 0, size.width, size.height, X.ZPixmap, 0xFFFFFFFF).data
        return np.frombuffer(raw, np.uint8).reshape(size.height, size.width, 4)[..., 2::-1]

    def screenshot(self, path: Path) -> None:
        import av

        av.VideoFrame.from_ndarray(np.ascontiguousarray(self.look()), format="rgb24").save(str(path))
