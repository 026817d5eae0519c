"""The player: actions in, frames out, counted and timed. No window, no files and no pacing here.

    player = Player(World.load("doom"), seed=0)
    frame = player.step(action)                 # player.frame is always the frame on screen

An episode that ends restarts by itself: the terminated frame is shown like any other, and the step after it takes no
action but begins the next episode, with the next seed and the same start. So a list of actions, one a frame, replays
a whole afternoon of episodes.
"""

from __future__ import annotations

import time
from array import array
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from worldgen.play.background import Recorder
    from worldgen.play.session import Entry, SessionLog
    from worldgen.world import Frame, World

RECENT = 120  # frames that the figures of the last moments look back on


class Same(Enum):
    """The start that there was."""

    SAME = 0


SAME = Same.SAME


class Stats:
    """What was played so far. frames: that steps returned, first frames of later episodes included."""

    def __init__(self) -> None:
        self.frames = 0
        self.dropped = 0
        self.sound_samples = 0
        self.frame_ms = array("d")
        self.recent_ms: deque[float] = deque(maxlen=RECENT)

    def timed(self, ms: float) -> None:
        self.frame_ms.append(ms)
        self.recent_ms.append(ms)

    def percentile(self, p: float, recent: bool = False) -> float:
        values = list(self.recent_ms) if recent else self.frame_ms
        return float(np.percentile(values, p)) if len(values) else 0.0


@dataclass(frozen=True)
class SavePoint:
    """A moment to come back to: the world's state, the frame on screen, and where the game and its log stood."""

    state: Any
    frame: Frame
    seed: int
    start: int | np.ndarray | None
    position: int
    entry: Entry | None


class Player:
    """Plays one world of batch 1.

    seed, start: as World.reset takes them. log: notes everything that a replay needs. recorder: writes the episodes.
    position: steps since the episode's first frame. seconds: time spent in the world, resets included; what callers do
    with a frame is not in it.
    """

    def __init__(
        self,
        world: World,
        *,
        seed: int = 0,
        start: int | np.ndarray | None = None,
        log: SessionLog | None = None,
        recorder: Recorder | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self.world = world
        self.seed = seed
        self.stats = Stats()
        self.seconds = 0.0
        self.log = log
        self.start, self.recorder, self.position = start, recorder, 0
        self._clock = clock
        self.frame = self._begin(seed)

    def step(self, action: Any) -> Frame:
        """The next frame. After a terminated frame: the first frame of the next episode, whatever the action."""
        if bool(self.frame.terminated):
            self.frame = self._begin(self.seed + 1)
        else:
            before = self._clock()
            frame = self.world.step(action)
            elapsed = self._clock() - before
            self.stats.timed(1000 * elapsed)
            self.seconds += elapsed
            self.frame = self._with_sound(frame)
            self.position += 1
            if self.recorder is not None:
                self.recorder.stepped(action, self.frame)
        self.stats.frames += 1
        if self.frame.sound is not None:
            self.stats.sound_samples += len(self.frame.sound)
        if self.log is not None:
            self.log.stepped(action, self.frame)
        return self.frame

    def restart(self, seed: int | None = None, start: int | np.ndarray | None | Same = SAME) -> Frame:
        """Begins an episode now; the next seed unless one is given. start: from now on, as World.reset takes it."""
        seed = self.seed + 1 if seed is None else seed
        before = self.start
        self.start = before if isinstance(start, Same) else start
        try:
            self.frame = self._begin(seed)
        except BaseException:
            self.start = before
            raise
        if self.log is not None:
            self.log.changed(restart=seed, **({} if isinstance(start, Same) else {"start": start}))
        return self.frame

    @property
    def nfe(self) -> int:
        return self.world.nfe

    def set_nfe(self, nfe: int) -> None:
        self.world.nfe = nfe
        if self.log is not None:
            self.log.changed(nfe=nfe)

    def set_upscaling(self, upscaling: str) -> None:
        """As World.upscaling."""
        self.world.upscaling = upscaling
        if self.log is not None:
            self.log.changed(upscaling=upscaling)

    def record(self, recorder: Recorder) -> None:
        """From the frame on screen on."""
        self.recorder = recorder
        recorder.began(self.seed, self.frame)

    def save(self) -> SavePoint:
        return self._point(self.world.snapshot())

    def mark(self) -> SavePoint:
        """A lighter save(), for unwind() to undo the one step that follows."""
        return self._point(self.world.mark())

    def load(self, point: SavePoint) -> Frame:
        """Back to a moment: what was played since is gone from the session, as if it had never happened."""
        self.world.restore(point.state)
        return self._back_at(point)

    def unwind(self, point: SavePoint) -> Frame:
        """Undoes the step that was played since mark()."""
        self.world.unwind(point.state)
        return self._back_at(point)

    def _point(self, state: Any) -> SavePoint:
        entry = self.log.last if self.log is not None else None
        return SavePoint(state, self.frame, self.seed, self.start, self.position, entry)

    def _back_at(self, point: SavePoint) -> Frame:
        self.frame, self.seed, self.start, self.position = point.frame, point.seed, point.start, point.position
        if self.log is not None:
            self.log.last = point.entry
            if self.log.nfe != self.world.nfe:
                self.log.changed(nfe=self.world.nfe)
            if self.log.upscaling != self.world.upscaling:
                self.log.changed(upscaling=self.world.upscaling)
        if self.recorder is not None:
            self.recorder.began(self.seed, self.frame)
        return self.frame

    def close(self) -> None:
        if self.recorder is not None:
            self.recorder.close()

    def _begin(self, seed: int) -> Frame:
        before = self._clock()
        frame = self._with_sound(self.world.reset(seed=seed, start=self.start))
        self.seconds += self._clock() - before
        self.seed, self.position = seed, 0
        if self.recorder is not None:
            self.recorder.began(seed, frame)
        return frame

    def _with_sound(self, frame: Frame) -> Frame:
        """Silence where a world that has sound gives none with a frame (a first one), so that both stay level."""
        rate = self.world.sample_rate
        if rate is None or frame.sound is not None:
            return frame
        samples = round(rate / self.world.config.fps)
        return replace(frame, sound=np.zeros((samples, self.world.channels), np.float32))

    def summary(self, seconds: float | None = None) -> dict[str, Any]:
        """The figures of a play. seconds: that it took, if not just the world's own (a paced game waits)."""
        seconds = self.seconds if seconds is None else seconds
        stats, (height, width) = self.stats, self.world.image_size
        rate = self.world.sample_rate
        return {
            "frames": stats.frames,
            "seconds": round(seconds, 4),
            "fps": round(stats.frames / seconds, 3) if seconds > 0 else 0.0,
            "frame_ms_p50": round(stats.percentile(50), 3),
            "frame_ms_p95": round(stats.percentile(95), 3),
            "frame_ms_p99": round(stats.percentile(99), 3),
            "dropped": stats.dropped,
            "sound_seconds": round(stats.sound_samples / rate, 4) if rate else 0.0,
            "width": int(width),
            "height": int(height),
            "backend": self.world.backend_name,
            "nfe": int(self.world.nfe),
            "between": bool(self.world.shows_between),
        }
