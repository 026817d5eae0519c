"""The sound that the desktop plays, in step with the frames of a recording.

A thread reads it from the loopback of the speakers (PulseAudio and PipeWire's monitor, Windows' loopback) in blocks
that come a little late and unevenly; each frame is given the samples that were heard while it was on screen.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from worldgen.errors import RunError

SAMPLE_RATE, CHANNELS = 24_000, 2  # about: a frame holds a whole number of samples
BLOCK_SECONDS = 0.02
OFF_SECONDS = 0.01  # a device's clock may run away from ours by that much before it is followed
HOLE_SECONDS = 0.5  # without a block, and its time was silent
LOOK_BACK_SECONDS = 5.0
ANSWER_SECONDS = 15.0  # a silent PulseAudio sink may take seconds to give its first block

Speakers = Callable[[int, int], AbstractContextManager[Any]]


class TimedSound:
    """add() blocks as they come; take() the samples that were heard from a moment on."""

    def __init__(self, sample_rate: int, channels: int = CHANNELS):
        self.sample_rate, self.channels = sample_rate, channels
        self._blocks: deque[np.ndarray] = deque()
        self._first, self._end = 0, 0  # number of the first sample that is kept, and of the next to come
        self._began: float | None = None  # when sample 0 was heard
        self._is_in_use = False
        self._estimates: deque[tuple[float, float]] = deque()
        self._lock = threading.Lock()

    def add(self, block: np.ndarray, now: float) -> None:
        """block (samples, channels) float32, the last of which was heard a moment before now."""
        with self._lock:
            seconds = len(block) / self.sample_rate
            if self._began is not None:
                late = now - seconds - (self._began + self._end / self.sample_rate)
                if late > HOLE_SECONDS:
                    self._append(np.zeros((round(late * self.sample_rate), self.channels), np.float32))
            self._append(block)
            self._estimates.append((now, now - self._end / self.sample_rate))
            while self._estimates[0][0] < now - LOOK_BACK_SECONDS:
                self._estimates.popleft()
            began = min(estimate for _, estimate in self._estimates)  # the block that was least late
            if self._began is None or not self._is_in_use or abs(began - self._began) > OFF_SECONDS:
                self._began = began

    def take(self, moment: float, samples: int) -> np.ndarray | None:
        """(samples, channels) float32 from a moment on, which is after the last one asked for; None while they are
        still to come."""
        with self._lock:
            if self._began is None:
                return None
            start = round((moment - self._began) * self.sample_rate)
            if start + samples > self._end:
                return None
            self._is_in_use = True
            while self._blocks and self._first + len(self._blocks[0]) <= start:
                self._first += len(self._blocks.popleft())
            out = np.zeros((samples, self.channels), np.float32)
            at = self._first
            for block in self._blocks:
                low, high = max(start, at), min(start + samples, at + len(block))
                if low < high:
                    out[low - start : high - start] = block[low - at : high - at]
                at += len(block)
            return out

    def _append(self, block: np.ndarray) -> None:
        self._blocks.append(block)
        self._end += len(block)


class SystemSound:
    """Listens from listen() to stop(). frame(moment) is the sound of the frame that was on screen from then on.

    speakers: opens what is read, (sample rate, channels) -> a context manager of something with record(samples).
    """

    def __init__(self, fps: float, speakers: Speakers, clock: Callable[[], float] = time.perf_counter):
        self.samples = round(SAMPLE_RATE / fps)
        self.sample_rate, self.channels = round(self.samples * fps), CHANNELS
        self.error: Exception | None = None
        self._clock, self._speakers = clock, speakers
        self._sound = TimedSound(self.sample_rate)
        self._opened, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._read, name="worldgen system sound", daemon=True)

    def listen(self) -> None:
        """RunError where there is nothing to be heard."""
        self._thread.start()
        if not self._opened.wait(ANSWER_SECONDS):
            self.error = TimeoutError("the sound server does not answer")
        if self.error is not None:
            self.stop()
            raise RunError(f"the system's sound cannot be recorded: {str(self.error) or 'no sound server answers'}")

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join(1)

    def frame(self, moment: float) -> np.ndarray | None:
        """(samples, channels) float32; None while it is still to come. Silence where it never came."""
        sound = self._sound.take(moment, self.samples)
        is_lost = not self._thread.is_alive() or self._clock() - moment > 2 * HOLE_SECONDS + self.samples / SAMPLE_RATE
        return np.zeros((self.samples, self.channels), np.float32) if sound is None and is_lost else sound

    def _read(self) -> None:
        block = round(BLOCK_SECONDS * self.sample_rate)
        try:
            with self._speakers(self.sample_rate, self.channels) as recorder:
                self._sound.add(recorder.record(block), self._clock())
                self._opened.set()
                while not self._stopped.is_set():
                    self._sound.add(recorder.record(block), self._clock())
        except Exception as error:  # the library raises what each system's does; it is said
            self.error = error
        finally:
            self._opened.set()


def open_speakers(sample_rate: int, channels: int) -> AbstractContextManager[Any]:
    """The loopback of the speakers that are in use."""
    try:
        import soundcard
    except ImportError:
        raise RunError("pip install 'worldgen[screen]'") from None
    speaker = soundcard.default_speaker()
    names = (speaker.id, f"{speaker.id}.monitor")
    loopbacks = [m for m in soundcard.all_microphones(include_loopback=True) if m.isloopback and m.id in names]
    if not loopbacks:
        raise RunError(f"{speaker.name} gives no loopback here")
    block = round(BLOCK_SECONDS * sample_rate)
    return loopbacks[0].recorder(samplerate=sample_rate, channels=channels, blocksize=block)
