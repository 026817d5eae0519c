"""The sound device of the window: SDL's, which asks for samples from a thread of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from pygame._sdl2 import audio, sdl2

from worldgen.play.sound_buffer import SoundBuffer

CHUNK_SECONDS = 0.02  # of a request, and never more than half a frame


class NoSoundError(RuntimeError):
    """There is no sound device here."""


class SoundOut:
    """push() the samples of each frame; they are heard from then on. NoSoundError where there is no device."""

    def __init__(self, sample_rate: int, channels: int, frame_samples: int):
        self.buffer = SoundBuffer(sample_rate, channels, frame_samples)
        self.is_muted = False
        try:
            sdl2.init_subsystem(sdl2.INIT_AUDIO)
            self._device: Any = audio.AudioDevice(
                devicename=None,
                iscapture=False,
                frequency=sample_rate,
                audioformat=audio.AUDIO_S16,
                numchannels=channels,
                chunksize=min(round(CHUNK_SECONDS * sample_rate), frame_samples // 2),
                allowed_changes=0,
                callback=self._fill,
            )
        except RuntimeError as error:  # pygame._sdl2's own error is one
            raise NoSoundError(str(error)) from None
        self._device.pause(0)

    def _fill(self, _: Any, out: memoryview) -> None:
        """The device's thread: out, bytes of int16, is what it plays next."""
        sound = self.buffer.pull(len(out) // (2 * self.buffer.channels))
        if self.is_muted:
            sound[:] = 0
        out[:] = (sound * 32767).astype("<i2").tobytes()

    @property
    def underruns(self) -> int:
        return self.buffer.underruns

    def push(self, sound: np.ndarray) -> None:
        """sound (samples, channels) float in [-1, 1]"""
        self.buffer.push(sound)

    def quiet(self) -> None:
        """Nothing more to hear for now."""
        self.buffer.quiet()

    def toggle_mute(self) -> None:
        self.is_muted = not self.is_muted

    def close(self) -> None:
        self._device.pause(1)
        self._device.close()
