"""The sound device of the window: SDL's, which asks for samples from a thread of its own."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pygame
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
            self._close = _sdl().SDL_CloseAudioDevice
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
        except (RuntimeError, OSError, AttributeError) as error:  # pygame._sdl2's own error is a RuntimeError
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
        """SDL waits here for the device's thread, which may be waiting for Python's lock: pygame's own close() would
        keep that lock and wait for ever."""
        self._close(ctypes.c_uint32(self._device.deviceid))
        self._device.close()  # forgets the number


def _sdl() -> ctypes.CDLL:
    """The library that pygame calls; ctypes lets go of Python's lock while it is in it."""
    if sys.platform == "win32":
        return ctypes.CDLL(str(Path(pygame.__file__).with_name("SDL2.dll")))
    return ctypes.CDLL(audio.__file__)  # with all that it is linked with
