"""Holding the rate: fewer denoising steps where a frame takes too long, more again where there is time.

No waiting and no world here: note() is told how long each frame took and answers with what to change to.
"""

from __future__ import annotations

from collections import deque

from worldgen.config import NFE_CHOICES

WINDOW = 24  # frames judged together
TOO_SLOW = 0.9  # of a frame's time: more than that, and frames will be dropped
EASY = 0.55  # of a frame's time, as the frame would take with more steps
PATIENCE_SECONDS = 10.0  # of ease before more steps are tried; doubled each time that they were too many


class Governor:
    """Chooses between `wanted` denoising steps and fewer, to keep `fps`."""

    def __init__(self, fps: float, wanted: int):
        self.wanted = wanted
        self.is_on = True
        self._period_ms = 1000 / fps
        self._fps = fps
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._easy_frames = 0
        self._patience = PATIENCE_SECONDS
        self._was_raised = False

    def note(self, ms: float, nfe: int) -> int | None:
        """After a frame that took ms with nfe steps -> the number to go on with, None for no change."""
        if not self.is_on:
            return None
        self._recent.append(ms)
        if len(self._recent) < WINDOW:
            return None
        slow = sorted(self._recent)[int(0.75 * WINDOW)]  # one slow frame is no reason
        lower = [n for n in NFE_CHOICES if n < nfe]
        higher = [n for n in NFE_CHOICES if nfe < n <= self.wanted]
        if slow > TOO_SLOW * self._period_ms and lower:
            self._patience *= 2 if self._was_raised else 1
            return self._change(lower[-1], False)
        is_easy = bool(higher) and slow * higher[0] / nfe < EASY * self._period_ms
        self._easy_frames = self._easy_frames + 1 if is_easy else 0
        if higher and self._easy_frames >= self._patience * self._fps:
            return self._change(higher[0], True)
        return None

    def forget(self) -> None:
        """Judge anew: the number of steps was changed by hand."""
        self._recent.clear()
        self._easy_frames = 0

    def _change(self, nfe: int, is_raise: bool) -> int:
        self.forget()
        self._was_raised = is_raise
        return nfe
