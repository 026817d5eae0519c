"""Pacing: when the next frame is due, and how many were missed. No waiting here, so a test can bring its own clock."""

from __future__ import annotations


class Pacer:
    """A frame is due every 1 / fps seconds from the first `tick`.

    A late frame does not move the ones after it, so the rate holds on average; once a whole period or more has passed
    without a frame those ticks are given up (they are not caught up in a burst) and counted as missed.
    """

    def __init__(self, fps: float):
        self.period = 1.0 / fps
        self._due: float | None = None

    def wait(self, now: float) -> float:
        """Seconds until the next frame is due; 0 when it is."""
        return 0.0 if self._due is None else max(0.0, self._due - now)

    def tick(self, now: float) -> int:
        """A frame starts now -> the number of ticks that passed without one since the last."""
        if self._due is None:
            self._due = now + self.period
            return 0
        missed = max(0, int((now - self._due) / self.period))
        self._due += (missed + 1) * self.period
        return missed

    def rest(self) -> None:
        """Forget the schedule: after a pause, nothing was missed."""
        self._due = None
