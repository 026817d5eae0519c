"""Writes a play as recordings (contract C1), one file per episode: what a world showed becomes training data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.data.recording import RecordingInfo, RecordingWriter

if TYPE_CHECKING:
    from worldgen.world import Frame, World


class EpisodeRecorder:
    """began(seed, frame) opens an episode and ends the one before; stepped(action, frame) adds to it.

    Going back to a saved moment also begins a file, from that moment's frame: a recording never jumps.
    """

    def __init__(self, folder: Path, world: World):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._world = world
        self._writer: RecordingWriter | None = None

    def began(self, seed: int, frame: Frame) -> None:
        self.close()
        world = self._world
        info = RecordingInfo(world.config.fps, world.config.actions, f"worldgen play {world.config.name}", seed)
        self._writer = RecordingWriter(self._free_path(), info, world.sample_rate, world.channels)
        self._writer.write(frame.image, _as_int16(frame.sound))

    def stepped(self, action: Any, frame: Frame) -> None:
        assert self._writer is not None, "began() comes first"
        self._writer.act(np.asarray(action).tolist(), float(frame.reward), bool(frame.terminated))
        self._writer.write(frame.image, _as_int16(frame.sound))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _free_path(self) -> Path:
        taken = [int(p.stem[5:]) for p in self.folder.glob("play-*.mkv") if p.stem[5:].isdigit()]
        return self.folder / f"play-{max(taken, default=-1) + 1:04d}.mkv"


def _as_int16(sound: np.ndarray | None) -> np.ndarray | None:
    return None if sound is None else (np.clip(sound, -1, 1) * 32767).astype(np.int16)
