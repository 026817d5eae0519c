"""Clips of real recordings to play a world beside: the pictures, and the actions that were pressed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.actions import check_same_actions
from worldgen.data.decode import resample
from worldgen.data.ingest import find_videos, open_recording
from worldgen.errors import InputError
from worldgen.play.action_source import check_actions

if TYPE_CHECKING:
    from worldgen.world import World

PROMPT = 4  # frames the world is shown before it plays
FURTHEST_SECONDS = 60.0  # into a file that a clip begins: what lies before must be decoded


@dataclass(frozen=True)
class RecordedClip:
    """frames (t, h, w, 3) uint8 as the world shows its own; prompt (PROMPT, h', w', 3) the first of them as it takes
    them; actions: t - 1 of them, i led from frame i to i + 1."""

    path: Path
    offset: int
    frames: np.ndarray
    prompt: np.ndarray
    actions: list[Any]


class RecordedClips:
    """Clips of the recordings in a folder (or of one file), at random but the same for a seed. The next one is read
    while the last is played. InputError where the first file fits the world no better than any other, or none can."""

    def __init__(self, path: Path, world: World, num_frames: int, seed: int = 0):
        if world.config.action_source == "latent":
            raise InputError(
                f"the actions of {world.config.name} are latent, so it cannot play recorded ones: choose a world "
                "that was trained with --actions recorded"
            )
        self._world, self._num_frames = world, num_frames
        self._paths = [path] if path.is_file() else find_videos(path)
        self._rng = np.random.default_rng(seed)
        self._waiting: Queue[RecordedClip | Exception] = Queue(1)
        self._first: RecordedClip | None = next(self._read())  # what is wrong is said at once
        threading.Thread(target=self._fill, name="worldgen clips", daemon=True).start()

    def next(self) -> RecordedClip:
        if self._first is not None:
            clip, self._first = self._first, None
            return clip
        found = self._waiting.get()
        if isinstance(found, Exception):
            raise found
        return found

    def _fill(self) -> None:
        try:
            for clip in self._read():
                self._waiting.put(clip)
        except Exception as error:
            self._waiting.put(error)

    def _read(self) -> Iterator[RecordedClip]:
        problem = InputError("no recording")
        failures = 0
        while failures < 20:
            path = self._paths[int(self._rng.integers(len(self._paths)))]
            try:
                clip = self._clip(path)
            except InputError as error:
                problem, failures = error, failures + 1
                continue
            failures = 0
            yield clip
        raise problem

    def _clip(self, path: Path) -> RecordedClip:
        world, recording = self._world, open_recording(path)
        fps, actions = world.config.fps, recording.sidecar.actions if recording.sidecar is not None else []
        if not actions:
            raise InputError(f"{path}: no actions were recorded with it, so a world cannot be played beside it")
        if recording.action_map is not None and not recording.is_inferred:  # else only the rows can be checked
            check_same_actions(world.config.actions, recording.action_map)
        total = int(recording.facts.seconds * fps)
        wanted = min(self._num_frames, total)
        if wanted <= PROMPT:
            raise InputError(f"{path}: {total} frames at {fps:g} fps are too few to play beside")
        offset = int(self._rng.integers(max(1, min(total - wanted, int(FURTHEST_SECONDS * fps)))))
        height, width = world.image_size
        shown, rows = self._frames(recording, offset, wanted, width, height)
        size = (world.config.width, world.config.height)
        prompt = shown[:PROMPT]
        if size != (width, height):
            prompt, _ = self._frames(recording, offset, PROMPT, *size)
        pressed = check_actions([actions[row] for row in rows[:-1]], world.config.actions, str(path))
        return RecordedClip(path, offset, shown, prompt, pressed)

    def _frames(self, recording: Any, offset: int, n: int, width: int, height: int) -> tuple[np.ndarray, list[int]]:
        frames, rows = [], []
        decoded = resample(recording.path, recording.facts, self._world.config.fps, width, height)
        for i, (row, frame, _) in enumerate(decoded):
            if i >= offset:
                frames.append(frame.copy())
                rows.append(row)
            if len(frames) == n:
                return np.stack(frames), rows
        raise InputError(f"{recording.path}: ends before frame {offset + n}")
