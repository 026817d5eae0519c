"""A recording of the screen as it is written: a frame waits until the sound that belongs to it has come."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.data.recording import RecordingInfo, RecordingWriter
from worldgen.envs.screen_sound import SystemSound

ON_ITS_WAY_SECONDS = 0.1  # the sound of the last frames


@dataclass
class Shot:
    """A frame (h, w, 3) uint8, from when on it was on screen, and what was pressed on it. None: not known yet."""

    picture: np.ndarray
    moment: float
    action: Any = None
    is_cut: bool = False


class ScreenRecording:
    """show() a frame, act() on it, and so on; close() writes what waits. sound: None makes a silent recording."""

    def __init__(self, path: Path, info: RecordingInfo, sound: SystemSound | None = None):
        rate, channels = (None, 1) if sound is None else (sound.sample_rate, sound.channels)
        self._writer = RecordingWriter(path, info, rate, channels)
        self._sound = sound
        self._waiting: deque[Shot] = deque()
        self.num_frames = 0

    def show(self, picture: np.ndarray, moment: float) -> None:
        self._waiting.append(Shot(picture, moment))
        self.num_frames += 1

    def act(self, action: Any, is_cut: bool = False) -> None:
        """is_cut: the frame that it leads to is the last, of a game that goes on."""
        self._waiting[-1].action, self._waiting[-1].is_cut = action, is_cut
        self._write()

    def close(self) -> None:
        if self._sound is not None and self._waiting:
            time.sleep(ON_ITS_WAY_SECONDS)
        self._write(is_over=True)
        self._writer.close()

    def __enter__(self) -> ScreenRecording:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, is_over: bool = False) -> None:
        while self._waiting and (is_over or self._waiting[0].action is not None):
            shot = self._waiting[0]
            sound = None if self._sound is None else self._sound.frame(shot.moment)
            if self._sound is not None and sound is None and not is_over:
                return  # still to come
            self._waiting.popleft()
            self._writer.write(shot.picture, sound)
            if shot.action is not None:
                self._writer.act(shot.action, truncated=shot.is_cut)
