"""The recording format (contract C1): NAME.mkv, NAME.jsonl with one row a frame, NAME.json.

Row t is the action chosen while frame t is on screen and held for the whole frame; it leads to frame t + 1.
`reward`, `terminated` and `truncated` of row t belong to t -> t + 1. T frames, T rows; the last row is padding.
The sound of frame t is what the game made on the way to frame t; it is heard while frame t is shown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from worldgen.actions import ActionMap
from worldgen.data.sidecar import parse_json, read_text
from worldgen.data.video import VideoWriter
from worldgen.errors import InputError
from worldgen.files import write_json

MAX_FPS = 1000
VIDEO_SUFFIXES = (".mkv", ".mp4", ".webm", ".mov")


@dataclass(frozen=True)
class RecordingInfo:
    """NAME.json: the facts of one recording. fps, actions: None where it says none."""

    fps: float | None
    actions: ActionMap | None
    source: str
    seed: int | None = None
    licence: str = ""

    def to_json(self) -> dict[str, Any]:
        fps = {} if self.fps is None else {"fps": self.fps}
        space = {"action_space": self.actions.to_json()} if self.actions else {}
        return {**fps, **space, "source": self.source, "seed": self.seed, "licence": self.licence}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> RecordingInfo:
        if "fps" not in raw and "action_space" not in raw:
            raise ValueError("neither fps nor action_space in it")
        fps = float(raw["fps"]) if "fps" in raw else None
        if fps is not None and not 0 < fps <= MAX_FPS:
            raise ValueError(f"fps is above 0 and at most {MAX_FPS}, got {fps:g}")
        return cls(
            fps=fps,
            actions=ActionMap.from_json(raw["action_space"]) if "action_space" in raw else None,
            source=str(raw.get("source", "")),
            seed=raw.get("seed"),
            licence=str(raw.get("licence", "")),
        )


class RecordingWriter:
    """Writes one episode. Rows reach the disk as they happen and mkv needs no trailer, so a killed recording is usable.

    write(frame, sound) shows a frame; act(action, ...) closes it with the action chosen on it; close() pads the end.
    """

    def __init__(
        self,
        path: Path,
        info: RecordingInfo,
        sample_rate: int | None = None,
        channels: int = 1,
        cleaned_from: str = "",
    ):
        """path: of the .mkv; its folder is made. cleaned_from: as of VideoWriter. Refuses to overwrite."""
        self.path = Path(path)
        if self.path.exists():
            raise InputError(f"{self.path} already exists: choose another --out or remove it")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.info = info
        self._sample_rate, self._channels, self._cleaned_from = sample_rate, channels, cleaned_from
        self._video: VideoWriter | None = None
        self._rows: IO[str] = self.path.with_suffix(".jsonl").open("w", encoding="utf-8")
        self._padding: Any = None
        self._is_open_row = False
        self.num_frames = 0
        write_json(self.path.with_suffix(".json"), info.to_json())

    def write(
        self, frame: np.ndarray, sound: np.ndarray | None = None, state: Mapping[str, float] | None = None
    ) -> None:
        """frame (h, w, 3) uint8; sound (samples, channels) int16, sample_rate / fps of them."""
        assert not self._is_open_row, "every frame is closed by act() before the next write()"
        if self._video is None:
            assert self.info.fps is not None, "a recording that is written has a rate"
            height, width, _ = frame.shape
            self._video = VideoWriter(
                self.path, width, height, self.info.fps, sample_rate=self._sample_rate, channels=self._channels,
                cleaned_from=self._cleaned_from,
            )  # fmt: skip
        self._video.write(frame, sound)
        self._state = dict(state or {})
        self._is_open_row = True
        self.num_frames += 1

    def act(self, action: Any, reward: float = 0.0, terminated: bool = False, truncated: bool = False) -> None:
        """Closes the frame on screen: the action chosen on it and what the step it caused gave."""
        assert self._is_open_row, "act() follows write()"
        row = {"action": action, "reward": reward, "terminated": terminated, "truncated": truncated, **self._state}
        self._rows.write(json.dumps(row) + "\n")
        self._rows.flush()
        self._padding = action
        self._is_open_row = False

    def close(self) -> None:
        if self._rows.closed:
            return
        if self._is_open_row:
            padding, space = self._padding, self.info.actions
            self.act(space.decode(space.null() * 0) if padding is None and space is not None else padding)
        self._rows.close()
        if self._video is not None:
            self._video.close()

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_info(video: Path) -> RecordingInfo | None:
    """NAME.json beside a video; None where there is none."""
    path = video.with_suffix(".json")
    if not path.is_file():
        return None
    try:
        return RecordingInfo.from_json(parse_json(read_text(path)))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: not a recording's facts ({error}); see `Train your own` in the README, or remove it"
        ) from None
