"""What an evaluation is doing, line by line: each stage as it begins, and how far a long one is, with rate and time
left."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY_SECONDS = 10.0
# (done, total): called again and again while something long goes on
OnProgress = Callable[[int, int], None]


def unheard(done: int, total: int) -> None:
    """For whoever does not want to know."""


def part_of(on_progress: OnProgress, begin: int, total: int) -> OnProgress:
    """For a part of something of `total`, before which `begin` is done"""
    return lambda done, _: on_progress(begin + done, total)


class Watch:
    """watch = Watch(print); watch.stage("a long game"); watch.progress("frames")(done, total) now and then"""

    def __init__(self, say: Callable[[str], None]):
        self._say = say
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def stage(self, what: str) -> None:
        """A line that says what begins now, and how long it has been since the very beginning."""
        self._say(f"  {_clock(self.seconds):>6}  {what}")

    def progress(self, unit: str) -> OnProgress:
        """What reports progress in such units: a line every EVERY_SECONDS, none for what is done sooner."""
        began = shown = time.monotonic()

        def on_progress(done: int, total: int) -> None:
            nonlocal shown
            now = time.monotonic()
            if now - shown < EVERY_SECONDS or not 0 < done < total:
                return
            shown, rate = now, done / (now - began)
            self._say(f"          {done}/{total} {unit}, {rate:.3g}/s, {_clock((total - done) / rate)} left")

        return on_progress


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
