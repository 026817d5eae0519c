"""Writes a play as recordings (contract C1), one file per episode: what a world showed becomes training data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.data.recording import RecordingInfo, RecordingWriter

if TYPE_CHECKING:
    from worldgen.world import Frame, World


class EpisodeRecorder:
    """began(seed, frame) ends the episode before; stepped(action, frame) adds a row and a frame.

    Going back to a saved moment also begins a file, from that moment's frame: a recording never jumps. A file exists
    from its first step on, so moments that were only passed while rewinding leave none.
    """

    def __init__(self, folder: Path, world: World):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._world = world
        self._writer: RecordingWriter | None = None
        self._first: tuple[int, Frame] | None = None

    def began(self, seed: int, frame: Frame) -> None:
        self.close()
        self._first = (seed, frame)

    def stepped(self, action: Any, frame: Frame) -> None:
        if self._writer is None:
            self._writer = self._open()
        self._writer.act(np.asarray(action).tolist(), float(frame.reward), bool(frame.terminated))
        self._writer.write(frame.image, _as_int16(frame.sound))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self) -> RecordingWriter:
        assert self._first is not None, "began() comes first"
        (seed, frame), world = self._first, self._world
        info = RecordingInfo(world.config.fps, world.config.actions, f"worldgen play {world.config.name}", seed)
        writer = RecordingWriter(self._free_path(), info, world.sample_rate, world.channels)
        writer.write(frame.image, _as_int16(frame.sound))
        return writer

    def _free_path(self) -> Path:
        taken = [int(p.stem[5:]) for p in self.folder.glob("play-*.mkv") if p.stem[5:].isdigit()]
        return self.folder / f"play-{max(taken, default=-1) + 1:04d}.mkv"


def _as_int16(sound: np.ndarray | None) -> np.ndarray | None:
    return None if sound is None else (np.clip(sound, -1, 1) * 32767).astype(np.int16)
