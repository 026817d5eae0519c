"""The sound between the game and the sound device: each frame's samples, in step with its picture, without clicks.

The game pushes the samples of a frame as its picture exists; the device pulls as many as it plays next. What waits here
is never more than two frames, so the sound is at most that much behind. The device's clock and the game's are
two clocks: the samples of a frame are stretched by up to half a percent, which nobody hears, to hold the level.
Where the game is late the sound fades out, is counted as an underrun, and fades in again.
"""

from __future__ import annotations

import threading

import numpy as np

START_FRAMES, START_SECONDS = 0.75, 0.025  # waiting ahead of the first frame, the longer of the two: for uneven frames
MAX_FRAMES = 2.0  # waiting at most
MAX_STRETCH = 0.005
FADE_SECONDS = 0.004


class SoundBuffer:
    """push() from the game's thread, pull() from the device's. channels c; frame_samples: of one frame."""

    def __init__(self, sample_rate: int, channels: int, frame_samples: int):
        self.sample_rate, self.channels = sample_rate, channels
        self.underruns = 0
        self._frame = frame_samples
        self._ahead = round(min(max(START_FRAMES * frame_samples, START_SECONDS * sample_rate), frame_samples))
        self._fade = max(1, round(FADE_SECONDS * sample_rate))
        self._samples = np.zeros((0, channels), np.float32)
        self._last = np.zeros(channels, np.float32)  # what the device played last: a fade begins there
        self._level = float(self._frame + self._ahead)  # waiting right after a push, averaged
        self._is_playing, self._must_fade_in = False, True
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Samples waiting."""
        return len(self._samples)

    def push(self, sound: np.ndarray) -> None:
        """sound (samples, channels) float in [-1, 1]; other numbers of channels are mixed."""
        if sound.shape[1] != self.channels:
            sound = sound.mean(axis=1, keepdims=True).repeat(self.channels, axis=1)
        sound = np.clip(sound, -1, 1).astype(np.float32)
        with self._lock:
            if not self._is_playing:
                self._is_playing, self._must_fade_in = True, True
                self._samples = np.zeros((self._ahead, self.channels), np.float32)
                self._level = float(self._frame + self._ahead)
            sound = _stretched(sound, self._level - (self._frame + self._ahead))
            if self._must_fade_in:
                n = min(self._fade, len(sound))
                sound[:n] *= np.linspace(0, 1, n, dtype=np.float32)[:, None]
                self._must_fade_in = False
            self._samples = self._without_excess(np.concatenate([self._samples, sound]))
            self._level += 0.05 * (len(self._samples) - self._level)

    def pull(self, n: int) -> np.ndarray:
        """The next n samples -> (n, channels) float32"""
        with self._lock:
            out = np.zeros((n, self.channels), np.float32)
            have = self._samples[:n]
            out[: len(have)] = have
            self._samples = self._samples[n:]
            if len(have):
                self._last = have[-1].copy()
            if len(have) < n:
                if self._is_playing:
                    self.underruns += 1
                    self._is_playing = False
                fade = out[len(have) : len(have) + self._fade]
                fade[:] = self._last * np.linspace(1, 0, self._fade + 1, dtype=np.float32)[1 : len(fade) + 1, None]
                self._last = self._last * 0
            return out

    def quiet(self) -> None:
        """A pause: fades out now, and is no underrun."""
        with self._lock:
            n = min(self._fade, len(self._samples))
            self._samples = self._samples[:n] * np.linspace(1, 0, n, dtype=np.float32)[:, None]
            self._is_playing = False

    def _without_excess(self, samples: np.ndarray) -> np.ndarray:
        """At most MAX_FRAMES of samples: the oldest go, and the cut is faded over."""
        excess = len(samples) - round(MAX_FRAMES * self._frame)
        if excess <= 0:
            return samples
        kept = samples[excess:].copy()
        n = min(self._fade, len(kept))
        up = np.linspace(0, 1, n, dtype=np.float32)[:, None]
        kept[:n] = samples[:n] * (1 - up) + kept[:n] * up
        return kept


def _stretched(sound: np.ndarray, too_much: float) -> np.ndarray:
    """A little shorter where too much is waiting, a little longer where too little."""
    n = len(sound)
    change = int(np.clip(round(0.02 * too_much), -MAX_STRETCH * n, MAX_STRETCH * n))
    if change == 0 or n < 2:
        return sound.copy()
    at = np.linspace(0, n - 1, n - change)
    whole = np.minimum(at.astype(np.int64), n - 2)
    part = (at - whole)[:, None].astype(np.float32)
    return sound[whole] * (1 - part) + sound[whole + 1] * part
