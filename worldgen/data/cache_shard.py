"""One recording of a cache: its frames, sound and rows at the cache's rate and size, pieces end to end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from worldgen.actions import ActionMap
from worldgen.data.decode import VideoNotes, resample
from worldgen.data.ingest import REFUSALS, FileReport, Recording, refusal
from worldgen.data.recorded_actions import encode_actions
from worldgen.data.sound import sound_blocks
from worldgen.errors import InputError


@dataclass(frozen=True)
class Settings:
    height: int
    width: int
    fps: float
    samples: int  # per frame; 0 for no sound
    channels: int

    @property
    def sample_rate(self) -> float | None:
        return self.samples * self.fps if self.samples else None


def write_shard(job: tuple[Recording, Settings, ActionMap | None, Path]) -> FileReport:
    """Decodes one recording into PATH.frames, PATH.sound and PATH.npz: its episodes, end to end."""
    recording, settings, action_map, shard = job
    seen = VideoNotes()
    try:
        shown, is_missing = [], []
        has_end = recording.sidecar is not None and bool(recording.sidecar.terminated[-2:].any())
        with shard.with_suffix(".frames").open("wb") as file:
            for row, frame, missing in resample(
                recording.path, recording.facts, settings.fps, settings.width, settings.height, seen, show_last=has_end
            ):
                shown.append(row)
                is_missing.append(missing)
                if not missing:
                    file.write(frame.data)
        keep = ~np.array(is_missing)
        if keep.sum() < 2:
            raise InputError(f"{recording.path}: {keep.sum()} frame of it is usable")
        if settings.samples:
            _sound_rows(recording, settings, len(shown))[keep].tofile(shard.with_suffix(".sound"))
        rows = output_rows(recording, action_map, np.array(shown), keep)
        rows["has_sound"] = np.array(recording.facts.has_sound)
        np.savez(shard.with_suffix(".npz"), **cast(Any, rows))
        return recording.report(seen)
    except REFUSALS as error:
        if isinstance(error, OSError) and error.errno == 28:  # a full disk is not the file's fault
            raise
        return refusal(recording.path, error)


def _sound_rows(recording: Recording, settings: Settings, n: int) -> np.ndarray:
    """(n, samples, channels) int16: the sound heard while each output frame is on screen."""
    rows = np.zeros((n * settings.samples, settings.channels), np.int16)
    rate, length = round(settings.samples * settings.fps), 0
    for block in sound_blocks(recording.path, rate, settings.channels, recording.facts):
        rows[length : length + len(block)] = block[: max(0, len(rows) - length)]
        length += len(block)
    return rows.reshape(n, settings.samples, settings.channels)


def output_rows(
    recording: Recording, action_map: ActionMap | None, shown: np.ndarray, keep: np.ndarray
) -> dict[str, np.ndarray]:
    """The rows of the output frames that are kept. shown: the source row on screen at each output; an output has that
    row's action, and what happened from there until the source row of the next output."""
    n = len(shown)
    cuts = np.flatnonzero(np.diff(np.append(-2, np.flatnonzero(keep))) > 1)  # where a piece starts, in kept rows
    out: dict[str, np.ndarray] = {"lengths": np.diff(np.append(cuts, keep.sum()))}
    num_rows = int(recording.facts.rows[-1]) + 1
    sidecar = recording.sidecar
    if action_map is not None:
        rows = action_map.null(n)
        if sidecar is not None and recording.action_map is not None:
            rows = encode_actions(action_map, sidecar.actions, recording.path)[shown]
        out["actions"] = rows[keep]
    if sidecar is None:
        zeros = np.zeros(int(keep.sum()))
        return out | {"reward": zeros.astype(np.float32), "terminated": zeros > 0, "truncated": zeros > 0}
    # the last output of a piece ends with its own source row: what followed is not in the piece
    stop = np.append(shown[1:], num_rows)
    is_piece_end = keep & ~np.append(keep[1:], True)
    stop = np.where(is_piece_end, shown + 1, stop)

    def total(values: np.ndarray) -> np.ndarray:
        sums = np.append(0.0, np.cumsum(values, dtype=np.float64))
        return (sums[stop] - sums[shown])[keep]

    out["reward"] = total(sidecar.reward).astype(np.float32)
    out["terminated"] = total(sidecar.terminated) > 0
    out["truncated"] = total(sidecar.truncated) > 0
    return out | {f"state.{name}": values[shown][keep] for name, values in sidecar.state.items()}
