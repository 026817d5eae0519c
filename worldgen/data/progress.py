"""How far reading a folder of recordings is."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

# (files done, files in all, the file just done)
Progress = Callable[[int, int, Path], None]
EVERY_SECONDS = 10.0


def say_progress(say: Callable[[str], None]) -> Progress:
    """A line now and then, with rate and time left, both since the first file was done: the processes that read begin
    seconds late. Nothing of what is done within seconds."""
    shown = 0.0
    first: tuple[int, float] | None = None

    def on_progress(done: int, total: int, _: Path) -> None:
        nonlocal shown, first
        now = time.monotonic()
        if first is None:
            first, shown = (done, now), now
        if now - shown < EVERY_SECONDS or done == total:
            return
        shown, rate = now, (done - first[0]) / (now - first[1])
        left = int((total - done) / rate)
        say(f"  {done}/{total} files read, {rate:.1f}/s, {left // 60}:{left % 60:02d} left")

    return on_progress
