"""How far reading a folder of recordings is."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

# (files done, files in all, the file just done)
Progress = Callable[[int, int, Path], None]
EVERY_SECONDS = 10.0


def say_progress(say: Callable[[str], None]) -> Progress:
    """A line now and then, with rate and time left; nothing of what is done within seconds."""
    began = shown = time.monotonic()

    def on_progress(done: int, total: int, _: Path) -> None:
        nonlocal shown
        now = time.monotonic()
        if now - shown < EVERY_SECONDS or done == total:
            return
        shown, left = now, (now - began) / done * (total - done)
        say(f"  {done}/{total} files read, {done / (now - began):.1f}/s, {int(left) // 60}:{int(left) % 60:02d} left")

    return on_progress
