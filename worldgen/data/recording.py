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
from worldgen.data.video import VideoWriter
from worldgen.errors import InputError
from worldgen.files import write_json

VIDEO_SUFFIXES = (".mkv", ".mp4", ".webm", ".mov")
SIDECAR_SUFFIXES = (".jsonl", ".parquet", ".csv")


@dataclass(frozen=True)
class RecordingInfo:
    """NAME.json: the facts of one recording."""

    fps: float
    actions: ActionMap
    source: str
    seed: int | None = None
    licence: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "fps": self.fps,
            "action_space": self.actions.to_json(),
            "source": self.source,
            "seed": self.seed,
            "licence": self.licence,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> RecordingInfo:
        return cls(
            fps=float(raw["fps"]),
            actions=ActionMap.from_json(raw["action_space"]),
            source=str(raw.get("source", "")),
            seed=raw.get("seed"),
            licence=str(raw.get("licence", "")),
        )


class RecordingWriter:
    """Writes one episode. Rows reach the disk as they happen and mkv needs no trailer, so a killed recording is usable.

    write(frame, sound) shows a frame; act(action, ...) closes it with the action chosen on it; close() pads the end.
    """

    def __init__(self, path: Path, info: RecordingInfo, sample_rate: int | None = None, channels: int = 1):
        """path: of the .mkv; its folder is made. Refuses to overwrite."""
        self.path = Path(path)
        if self.path.exists():
            raise InputError(f"{self.path} already exists: choose another --out or remove it")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.info = info
        self._sample_rate, self._channels = sample_rate, channels
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
            height, width, _ = frame.shape
            self._video = VideoWriter(
                self.path, width, height, self.info.fps, sample_rate=self._sample_rate, channels=self._channels
            )
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
            padding = (
                self._padding if self._padding is not None else self.info.actions.decode(self.info.actions.null() * 0)
            )
            self.act(padding)
        self._rows.close()
        if self._video is not None:
            self._video.close()

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True)
class Sidecar:
    """The rows beside a video, one per frame. actions: as recorded, None where unknown; the rest (t,) arrays."""

    actions: list[Any]
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    state: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.actions)


def find_sidecar(video: Path) -> Path | None:
    return next((p for s in SIDECAR_SUFFIXES if (p := video.with_suffix(s)).is_file()), None)


def read_info(video: Path) -> RecordingInfo | None:
    """NAME.json beside a video; None where there is none."""
    path = video.with_suffix(".json")
    if not path.is_file():
        return None
    try:
        return RecordingInfo.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a recording's facts ({error}); see `Train your own` in the README, or remove it"
        ) from None


def read_sidecar(path: Path) -> Sidecar:
    """Reads .jsonl, .parquet or .csv. Raises InputError with the file and row on malformed content."""
    if path.suffix == ".jsonl":
        rows = _read_jsonl(path)
    elif path.suffix == ".csv":
        rows = _read_csv(path)
    else:
        rows = _read_parquet(path)
    if rows and "action" not in rows[0]:
        raise InputError(f"{path}: no 'action' column; it has {sorted(rows[0])}")
    known = {"action", "reward", "terminated", "truncated"}
    extra = [k for k in (rows[0] if rows else {}) if k not in known]
    try:
        return Sidecar(
            actions=[row.get("action") for row in rows],
            reward=np.array([float(row.get("reward") or 0.0) for row in rows], np.float32),
            terminated=np.array([bool(row.get("terminated")) for row in rows], bool),
            truncated=np.array([bool(row.get("truncated")) for row in rows], bool),
            state={k: np.array([_number(row.get(k)) for row in rows], np.float64) for k in extra},
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _read_jsonl(path: Path) -> list[dict[str, Any]]:
    rows = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for i, line in enumerate(lines):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if i == len(lines) - 1:  # the recorder was killed inside its last row
                break
            raise InputError(f"{path}, row {i}: {error}") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}, row {i}: expected an object, got {line[:60]!r}")
        rows.append(row)
    return rows


def _read_csv(path: Path) -> list[dict[str, Any]]:
    import csv

    def value(text: str | None) -> Any:
        if text is None or text == "":
            return None
        try:
            return json.loads(text.lower() if text in ("True", "False") else text)
        except json.JSONDecodeError:
            return text

    with path.open(newline="", encoding="utf-8") as file:
        return [{k: value(v) for k, v in row.items() if k is not None} for row in csv.DictReader(file)]


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        from worldgen.errors import MissingExtraError

        raise MissingExtraError(f"reading {path.name}", "train") from None
    import pyarrow

    try:
        return parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise InputError(f"{path}: not a parquet file ({error})") from None
