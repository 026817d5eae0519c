"""What the player hears: each frame's samples, one after another, through a mixer (pygame's; the window passes it in).

A mixer channel plays one block and holds one more. Blocks wait here until there is room, so the sound of a frame
begins at most `MAX_WAITING` frames after its picture; what would come later still is dropped, and a channel that ran
dry is counted as an underrun and filled up again before it plays on.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

MAX_WAITING = 6  # frames
PREBUFFER = 2  # frames to have before playing starts: one playing, one queued behind it


class SoundOut:
    """push() from the game's thread, pump() from the window's, often. mixer: pygame.mixer, initialised."""

    def __init__(self, mixer: Any, channels: int):
        self._mixer = mixer
        self._channel = mixer.Channel(0)
        self._channels = channels
        self._waiting: deque[bytes] = deque(maxlen=MAX_WAITING)
        self._is_playing = False
        self.is_muted = False
        self.underruns = 0

    def push(self, sound: np.ndarray) -> None:
        """sound (samples, channels) float in [-1, 1]"""
        if sound.shape[1] != self._channels:
            sound = sound.mean(axis=1, keepdims=True).repeat(self._channels, axis=1)
        self._waiting.append((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())

    def pump(self) -> None:
        """Moves waiting blocks to the mixer while it has room."""
        if self._is_playing and not self._channel.get_busy():
            self._is_playing = False
            self.underruns += 1
        if not self._is_playing and len(self._waiting) < PREBUFFER:
            return
        while self._waiting and (not self._is_playing or self._channel.get_queue() is None):
            block = self._mixer.Sound(buffer=self._waiting.popleft())
            if self._is_playing:
                self._channel.queue(block)
            else:
                self._channel.play(block)
                self._is_playing = True

    def quiet(self) -> None:
        """Nothing more to hear for now: a pause is no underrun."""
        self._waiting.clear()
        self._channel.stop()
        self._is_playing = False

    def toggle_mute(self) -> None:
        self.is_muted = not self.is_muted
        self._channel.set_volume(0.0 if self.is_muted else 1.0)
