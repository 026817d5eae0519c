"""Music of a library: it follows the scene, one track fading into the next. Torch-free."""

from __future__ import annotations

import numpy as np

from worldgen.sound_library import SoundLibrary

FADE_SECONDS = 1.0
PATIENCE_SECONDS = 0.4  # for which another track must be asked for before it begins


class MusicPlayer:
    """Its state is an array, (b, 6) float32 of each game: the track (-1: none) and how far it is in samples; the same
    of the one before; how far the fade between them is; for how many frames another track has been asked for."""

    WIDTH = 6

    def __init__(self, library: SoundLibrary):
        self._library = library
        self._fade = round(FADE_SECONDS * library.sample_rate)
        self._patience = PATIENCE_SECONDS * library.sample_rate / library.samples

    def empty(self, b: int) -> np.ndarray:
        """No track, and nothing to fade from."""
        return np.tile(np.array([-1, 0, -1, 0, self._fade, 0], np.float32), (b, 1))

    def play(self, state: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
        """The next frame of one game: state (6,), wanted: the track that fits the scene, -1 for none
        -> (samples, channels) float32, state"""
        track, at, before, before_at, faded, asked = state.tolist()
        n = self._library.samples
        asked = asked + 1 if wanted != track else 0
        if asked > self._patience and faded >= self._fade:
            track, at, before, before_at, faded, asked = wanted, 0, track, at, 0, 0
        angle = np.minimum(1, (faded + np.arange(n)) / self._fade)[:, None] * (np.pi / 2)  # of equal power
        out = np.sin(angle) * self._read(int(track), int(at)) + np.cos(angle) * self._read(int(before), int(before_at))
        faded = min(self._fade, faded + n)
        before = before if faded < self._fade else -1
        after = [track, self._after(int(track), at + n), before, self._after(int(before), before_at + n), faded, asked]
        return out.astype(np.float32), np.array(after, np.float32)

    def _read(self, track: int, at: int) -> np.ndarray:
        n, channels = self._library.samples, self._library.channels
        if track < 0:
            return np.zeros((n, channels), np.float32)
        clip = self._library.music(track)
        return clip[(at + np.arange(n)) % len(clip)].astype(np.float32) / 32768

    def _after(self, track: int, at: float) -> float:
        return at % len(self._library.music(track)) if track >= 0 else 0
