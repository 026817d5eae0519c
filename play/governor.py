"""Holding the rate: less effort for a frame where frames take too long, more again where there is time.

In-between frames go first, then denoising steps, then super-resolution. No waiting and no world here: note() is told
how long each frame took and answers with what to change to.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from worldgen.config import NFE_CHOICES

WINDOW = 24  # frames judged together
TOO_SLOW = 0.9  # of a frame's time: more than that, and frames will be dropped
TOO_SLOW_BETWEEN = 0.5  # with in-between frames: more, and a frame is late for its half of the time
EASY = 0.55  # of a frame's time, as the frame would take with more effort
DEARER = 2.0  # at most so many times longer than a frame of the next lower effort: twice the steps
PATIENCE_SECONDS = 10.0  # of ease before more is tried; doubled each time that it was too much


@dataclass(frozen=True)
class Effort:
    """What goes into a frame: denoising steps, how it is enlarged (World.upscaling), and whether the one half way to it
    is made too."""

    nfe: int
    upscaling: str
    between: bool = False

    def described(self) -> str:
        parts = [f"nfe {self.nfe}"]
        parts += ["no super-resolution"] if self.upscaling == "nearest" else []
        parts += ["in-between frames"] if self.between else []
        return ", ".join(parts)

    def lower(self) -> Effort | None:
        """The next one that takes less time."""
        if self.between:
            return replace(self, between=False)
        fewer = [n for n in NFE_CHOICES if n < self.nfe]
        if fewer:
            return replace(self, nfe=fewer[-1])
        return replace(self, upscaling="nearest") if self.upscaling == "network" else None


class Governor:
    """Chooses between the effort that is `wanted` and lower ones, to keep `fps`. may_change_game: False gives up
    in-between frames alone, as a replay has its own numbers of steps."""

    def __init__(self, fps: float, wanted: Effort):
        self.wanted = wanted
        self.is_on = True
        self.may_change_game = True
        self._period_ms = 1000 / fps
        self._fps = fps
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._easy_frames = 0
        self._patience = PATIENCE_SECONDS
        self._was_raised = False

    def note(self, ms: float, effort: Effort) -> Effort | None:
        """After a frame that took ms with this effort -> the one to go on with, None for no change."""
        if not self.is_on:
            return None
        self._recent.append(ms)
        if len(self._recent) < WINDOW:
            return None
        slow = sorted(self._recent)[int(0.75 * WINDOW)]  # one slow frame is no reason
        lower = effort.lower() if effort.between or self.may_change_game else None
        limit = TOO_SLOW_BETWEEN if effort.between else TOO_SLOW
        if slow > limit * self._period_ms and lower is not None:
            self._patience *= 2 if self._was_raised else 1
            return self._change(lower, False)
        higher = self._higher(effort)
        if higher is not None and not (higher.between or self.may_change_game):
            higher = None
        is_easy = higher is not None and slow * DEARER < EASY * self._period_ms
        self._easy_frames = self._easy_frames + 1 if is_easy else 0
        if higher is not None and self._easy_frames >= self._patience * self._fps:
            return self._change(higher, True)
        return None

    def forget(self) -> None:
        """Judge anew: the effort was changed by hand."""
        self._recent.clear()
        self._easy_frames = 0

    def _higher(self, effort: Effort) -> Effort | None:
        """The one that this is the next lower of, on the way down from the wanted one."""
        higher: Effort | None = self.wanted
        while higher is not None and higher.lower() != effort:
            higher = higher.lower()
        return higher

    def _change(self, effort: Effort, is_raise: bool) -> Effort:
        self.forget()
        self._was_raised = is_raise
        return effort
