"""What a play says of itself: its progress, its figures, and whether a replay was one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from worldgen.interrupts import Lasting
from worldgen.play.options import PlayOptions
from worldgen.play.session import Session


def report(stats: dict[str, Any], options: PlayOptions, say: Callable[[str], None]) -> None:
    line = "{frames} frames in {seconds:.1f} s ({fps:.1f} fps, {dropped} dropped)"
    line += "; a frame takes {frame_ms_p50:.1f} ms p50, {frame_ms_p95:.1f} p95, {frame_ms_p99:.1f} p99"
    say(line.format(**stats))
    for path in (options.out, options.recordings):
        if path is not None:
            say(f"wrote {path}")


def compare(session: Session, replayed: Session, say: Callable[[str], None]) -> None:
    difference = session.first_difference(replayed)
    count = min(len(session.checksums), len(replayed.checksums))
    if difference is None:
        say(f"replayed {count} frames: identical to the session, bit for bit")
    else:
        say(
            f"replayed {count} frames: frame {difference} is the first to differ "
            f"(played on {session.backend} nfe {session.nfe}, replayed on {replayed.backend} nfe {replayed.nfe})"
        )


class Progress:
    """Frames, rate and time left, on a terminal only."""

    def __init__(self) -> None:
        self._began = self._shown = time.monotonic()
        self._is_shown = False

    def __call__(self, done: int, frames: int) -> None:
        now = time.monotonic()
        if now - self._shown < 0.25 or not sys.stderr.isatty():
            return
        self._shown, self._is_shown = now, True
        rate = done / (now - self._began)
        self._say(f"\r{done}/{frames} frames, {rate:.0f}/s, {(frames - done) / rate:.0f} s left ")

    def close(self) -> None:
        if self._is_shown:
            self._say("\r" + " " * 60 + "\r")

    def _say(self, text: str) -> None:
        Lasting(sys.stderr).write(text)
