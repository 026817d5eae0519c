"""A folder of recordings as memory-mapped arrays: decoded once, resampled to one rate and size, read at random.

    cache = open_cache(folder, height=48, width=64)         # builds it on first use
    cache.frames[cache.starts[3] : cache.starts[4]]         # episode 3

It lives in $WORLDGEN_CACHE (~/.cache/worldgen), can be deleted at any time, and is found again by what the files hold
and what was asked for. Row t of everything belongs to frame t, as in a recording (contract C1).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from worldgen.actions import ActionMap
from worldgen.data.decode import VideoNotes, read_sound, resample
from worldgen.data.ingest import (
    REFUSALS,
    FileReport,
    Progress,
    Recording,
    encode_actions,
    find_videos,
    map_files,
    open_recording,
    refusal,
)
from worldgen.data.recording import SIDECAR_SUFFIXES
from worldgen.errors import InputError

CACHE_VERSION = 1
# a build this old was killed
STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Cache:
    """N frames of E episodes, end to end.

    frames: (N, h, w, 3) uint8, memory-mapped.
    sound: (N, samples, channels) int16, memory-mapped; None where none was asked for or no file has any. Silence in
        the episodes without (has_sound (E,) bool).
    actions: (N, width) rows that networks read, NULL where unknown; None where no file has actions.
    reward (N,) float32, terminated (N,) bool, truncated (N,) bool; state: columns (N,) float64, NaN where missing.
    starts: (E + 1,) int64; episode e is frames starts[e] to starts[e + 1]. A file is one episode, or several where
        damage cut it: episode_files (E,) int64 is the file of each, episode_names the name.
    """

    path: Path
    height: int
    width: int
    fps: float
    sample_rate: float | None
    frames: np.ndarray
    sound: np.ndarray | None
    has_sound: np.ndarray
    actions: np.ndarray | None
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    state: dict[str, np.ndarray]
    starts: np.ndarray
    episode_names: tuple[str, ...]
    episode_files: np.ndarray
    action_map: ActionMap | None
    reports: tuple[FileReport, ...]
    notes: tuple[str, ...]

    @property
    def num_frames(self) -> int:
        return len(self.frames)

    @property
    def num_episodes(self) -> int:
        return len(self.episode_names)

    @property
    def lengths(self) -> np.ndarray:
        """(E,) frames of each episode."""
        return np.diff(self.starts)


@dataclass(frozen=True)
class _Settings:
    height: int
    width: int
    fps: float
    samples: int  # per frame; 0 for no sound
    channels: int

    @property
    def sample_rate(self) -> float | None:
        return self.samples * self.fps if self.samples else None


def open_cache(
    folder: Path,
    *,
    height: int,
    width: int,
    fps: float | None = None,
    sample_rate: int | None = None,
    channels: int = 1,
    cache_dir: Path | None = None,
    on_progress: Progress | None = None,
) -> Cache:
    """The cache of a folder, built where it is missing, outdated or damaged.

    fps: None is what most recordings run at. sample_rate: None is no sound; it is moved to the nearest rate of which a
    frame holds a whole number of samples. InputError where no file is usable or their action spaces differ.
    """
    folder = Path(folder)
    videos = find_videos(folder)
    if height < 1 or width < 1 or (fps is not None and not 0 < fps <= 1000):
        raise InputError(f"cannot make {width}x{height} frames at {fps} fps")
    asked = {"height": height, "width": width, "fps": fps, "sample_rate": sample_rate, "channels": channels}
    root = Path(cache_dir or os.environ.get("WORLDGEN_CACHE") or Path.home() / ".cache" / "worldgen").expanduser()
    entry = root / _key(folder, videos, asked)
    cache = load_cache(entry)
    if cache is not None:
        return cache
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the cache folder {root} ({error.strerror}): set WORLDGEN_CACHE") from None
    _remove_stale(root)
    building = root / f".build-{entry.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    building.mkdir()
    try:
        _build(building, folder, videos, asked, on_progress)
        _publish(building, entry)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    cache = load_cache(entry)
    assert cache is not None, entry
    return cache


def load_cache(entry: Path) -> Cache | None:
    """The cache in a folder that _build wrote; None where it is missing or not whole."""
    try:
        meta = json.loads((entry / "meta.json").read_text())
        if meta["version"] != CACHE_VERSION or meta["checksums"] != {
            name: _checksum(entry / name) for name in meta["checksums"]
        }:
            return None
        with np.load(entry / "rows.npz") as file:
            rows = {name: file[name] for name in file.files}
        settings = _Settings(**meta["settings"])
        n = int(rows["starts"][-1])
        frames = np.memmap(entry / "frames.bin", np.uint8, "r", shape=(n, settings.height, settings.width, 3))
        sound = None
        if settings.samples:
            sound = np.memmap(entry / "sound.bin", np.int16, "r", shape=(n, settings.samples, settings.channels))
        return Cache(
            path=entry,
            height=settings.height,
            width=settings.width,
            fps=settings.fps,
            sample_rate=settings.sample_rate,
            frames=frames,
            sound=sound,
            has_sound=rows["has_sound"],
            actions=rows.get("actions"),
            reward=rows["reward"],
            terminated=rows["terminated"],
            truncated=rows["truncated"],
            state={name.removeprefix("state."): rows[name] for name in rows if name.startswith("state.")},
            starts=rows["starts"],
            episode_names=tuple(meta["episode_names"]),
            episode_files=rows["episode_files"],
            action_map=ActionMap.from_json(meta["action_map"]) if meta["action_map"] else None,
            reports=tuple(FileReport.from_json(r) for r in meta["reports"]),
            notes=tuple(meta["notes"]),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _key(folder: Path, videos: list[Path], asked: dict[str, Any]) -> str:
    """Changes with any file's name, size, time of change or sampled content, and with what was asked for."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([CACHE_VERSION, asked], sort_keys=True).encode())
    for video in videos:
        beside = [video.with_suffix(s) for s in (*SIDECAR_SUFFIXES, ".json")]
        for path in [video, *(p for p in beside if p.is_file())]:
            stat = path.stat() if path.exists() else None
            facts = [os.fsencode(path.relative_to(folder)).hex(), stat and [stat.st_size, stat.st_mtime_ns]]
            digest.update(json.dumps(facts).encode())
            if stat is not None:
                digest.update(_checksum(path, num_blocks=8).encode())
    return digest.hexdigest()


def _checksum(path: Path, num_blocks: int = 256) -> str:
    """Of a file's size and up to num_blocks of its blocks, ends included: milliseconds for any size."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(str(size).encode())
        for offset in np.unique(np.linspace(0, max(0, size - 4096), num_blocks).astype(np.int64)):
            file.seek(int(offset))
            digest.update(file.read(4096))
    return digest.hexdigest()


def _remove_stale(root: Path) -> None:
    for path in root.glob(".build-*"):
        try:
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
        except OSError:
            continue


def _publish(building: Path, entry: Path) -> None:
    """Moves a finished build into place. Whoever built the same meanwhile has the same bytes: the first one stays."""
    for _ in range(10):
        try:
            building.rename(entry)
            return
        except OSError:
            if load_cache(entry) is not None:
                return
            try:
                entry.rename(building.with_name(f"{building.name}-damaged"))
            except OSError:
                continue
            shutil.rmtree(building.with_name(f"{building.name}-damaged"), ignore_errors=True)
    raise InputError(f"cannot write the cache {entry}: remove it")


def _build(
    building: Path, folder: Path, videos: list[Path], asked: dict[str, Any], on_progress: Progress | None
) -> None:
    opened = [
        r if isinstance(r, (Recording, FileReport)) else refusal(path, r)
        for path, r in zip(videos, map_files(_open_or_refuse, videos, videos), strict=True)
    ]
    reports: list[FileReport | None] = [r if isinstance(r, FileReport) else None for r in opened]
    usable = [(i, r) for i, r in enumerate(opened) if isinstance(r, Recording)]
    _require_some(folder, reports, len(usable))
    action_map = common_actions([r for _, r in usable])
    settings, notes = _settle([r for _, r in usable], asked)

    jobs = [(r, settings, action_map, building / f"file{i}") for i, r in usable]
    paths = [r.path for _, r in usable]
    shards = []
    for (i, _), result in zip(usable, map_files(_write_shard, jobs, paths, on_progress), strict=True):
        if isinstance(result, Exception):
            result = refusal(videos[i], result)
        reports[i] = result
        if result.status != "refused":
            shards.append((building / f"file{i}", str(videos[i].relative_to(folder))))
    _require_some(folder, reports, len(shards))
    episode_names = _join(building, [path for path, _ in shards], [name for _, name in shards], action_map)
    names = ["frames.bin", "rows.npz", *(["sound.bin"] if settings.samples else [])]
    meta = {
        "version": CACHE_VERSION,
        "settings": settings.__dict__,
        "episode_names": episode_names,
        "action_map": action_map.to_json() if action_map else None,
        "reports": [r.to_json() for r in reports if r],
        "notes": notes,
        "checksums": {name: _checksum(building / name) for name in names},
    }
    (building / "meta.json").write_text(json.dumps(meta))


def _open_or_refuse(path: Path) -> Recording | FileReport:
    try:
        return open_recording(path)
    except REFUSALS as error:
        return refusal(path, error)


def _require_some(folder: Path, reports: list[FileReport | None], num_usable: int) -> None:
    if not num_usable:
        first = next(r for r in reports if r)
        raise InputError(f"{folder}: none of its {len(reports)} videos is usable; {first.path}: {first.reason}")


def _settle(recordings: list[Recording], asked: dict[str, Any]) -> tuple[_Settings, list[str]]:
    rates = Counter(round(r.facts.fps, 3) for r in recordings)
    # the most common; of equals the one with more frames behind it
    frames = {rate: sum(r.facts.num_frames for r in recordings if round(r.facts.fps, 3) == rate) for rate in rates}
    common = max(rates, key=lambda rate: (rates[rate], frames[rate]))
    fps = asked["fps"] or next(r.facts.fps for r in recordings if round(r.facts.fps, 3) == common)
    notes = []
    others = {rate: n for rate, n in rates.items() if abs(rate - fps) > 1e-3}
    if others:
        listed = ", ".join(f"{n} at {rate:g} fps" for rate, n in sorted(others.items()))
        notes.append(f"resampled to {fps:g} fps: {listed}")
    samples = 0
    if asked["sample_rate"] is not None:
        if any(r.facts.has_sound for r in recordings):
            samples = max(1, round(asked["sample_rate"] / fps))
            if abs(samples * fps - asked["sample_rate"]) > 0.5:
                rate = asked["sample_rate"]
                notes.append(f"sound at {samples * fps:g} Hz, {samples} samples a frame, instead of {rate}")
            num_silent = sum(not r.facts.has_sound for r in recordings)
            if num_silent:
                notes.append(f"{num_silent} of {len(recordings)} files have no sound: silence there")
        else:
            notes.append("no file has sound")
    return _Settings(asked["height"], asked["width"], float(fps), samples, asked["channels"]), notes


def common_actions(recordings: list[Recording]) -> ActionMap | None:
    """The action space of a folder: what its NAME.json say, else what fits all its sidecars. None without actions."""
    known = [(r, r.action_map) for r in recordings if r.action_map is not None]
    stated = [(r, m) for r, m in known if not r.is_inferred]
    inferred = [(r, m) for r, m in known if r.is_inferred]
    if stated:
        first, space = stated[0]
        for other, its_space in stated[1:]:
            if _facts(its_space) != _facts(space):
                raise _differ(first, space, other, its_space)
        for other, its_space in inferred:
            try:
                encode_actions(space, other.sidecar.actions if other.sidecar else [], other.path)
            except InputError:
                raise _differ(first, space, other, its_space) from None
        return space
    if not inferred:
        return None
    first, space = inferred[0]
    for other, its_space in inferred[1:]:
        kinds = {space.kind, its_space.kind}
        is_same_kind = len(kinds) == 1 or kinds == {"multi_binary", "multi_discrete"}
        if not is_same_kind or len(space.sizes) != len(its_space.sizes):
            raise _differ(first, space, other, its_space)
    spaces = [m for _, m in inferred]
    sizes = tuple(max(column) for column in zip(*(m.sizes for m in spaces), strict=True))
    if space.kind == "box":
        low = tuple(min(column) for column in zip(*(m.low for m in spaces), strict=True))
        high = tuple(max(column) for column in zip(*(m.high for m in spaces), strict=True))
        return ActionMap("box", sizes, low=low, high=high)
    is_mixed = len({m.kind for m in spaces}) > 1
    return ActionMap("multi_discrete" if is_mixed else space.kind, sizes)


def _facts(space: ActionMap) -> tuple[Any, ...]:
    """What two recordings of one game share; keys are a matter of taste."""
    return space.kind, space.sizes, space.names, space.low, space.high


def _differ(a: Recording, space: ActionMap, b: Recording, other: ActionMap) -> InputError:
    left, right = space.describe(), other.describe()
    if left == right:
        left, right = f"{left} named {list(space.names)}", f"{right} named {list(other.names)}"
    return InputError(
        f"{a.path} and {b.path} have different action spaces ({left} and {right}): train them as two worlds"
    )


def _write_shard(job: tuple[Recording, _Settings, ActionMap | None, Path]) -> FileReport:
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
        rows = _rows(recording, action_map, np.array(shown), keep)
        rows["has_sound"] = np.array(recording.facts.has_sound)
        np.savez(shard.with_suffix(".npz"), **cast(Any, rows))
        return recording.report(seen)
    except REFUSALS as error:
        if isinstance(error, OSError) and error.errno == 28:  # a full disk is not the file's fault
            raise InputError(f"{shard.parent.parent}: the disk is full; free space or set WORLDGEN_CACHE") from None
        return refusal(recording.path, error)


def _sound_rows(recording: Recording, settings: _Settings, n: int) -> np.ndarray:
    """(n, samples, channels) int16: the sound heard while each output frame is on screen."""
    rows = np.zeros((n * settings.samples, settings.channels), np.int16)
    rate = round(settings.samples * settings.fps)
    sound = read_sound(recording.path, rate, settings.channels, recording.facts)
    if sound is not None:
        rows[: len(sound)] = sound[: len(rows)]
    return rows.reshape(n, settings.samples, settings.channels)


def _rows(
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


def _join(building: Path, shards: list[Path], names: list[str], action_map: ActionMap | None) -> list[str]:
    """Joins the shards into frames.bin, sound.bin and rows.npz and removes them. Returns the episodes' names."""
    parts = []
    for shard in shards:
        with np.load(shard.with_suffix(".npz")) as file:
            parts.append({name: file[name] for name in file.files})
    for kind in ("frames", "sound"):
        if not shards[0].with_suffix(f".{kind}").exists():
            continue
        with (building / f"{kind}.bin").open("wb") as out:
            for shard in shards:
                _move(shard.with_suffix(f".{kind}"), out)
    counts = [int(part["lengths"].sum()) for part in parts]
    lengths = np.concatenate([part["lengths"] for part in parts])
    pieces = [len(part["lengths"]) for part in parts]
    rows = {
        "starts": np.append(0, np.cumsum(lengths)).astype(np.int64),
        "episode_files": np.repeat(np.arange(len(shards)), pieces),
        "has_sound": np.repeat([bool(part["has_sound"]) for part in parts], pieces),
    }
    columns = [*dict.fromkeys(name for part in parts for name in part if name.startswith("state."))]
    for name in ["reward", "terminated", "truncated", *(["actions"] if action_map else []), *columns]:
        missing = [np.full(count, np.nan) for count in counts]
        rows[name] = np.concatenate([part.get(name, gap) for part, gap in zip(parts, missing, strict=True)])
    np.savez(building / "rows.npz", **cast(Any, rows))
    for shard in shards:
        shard.with_suffix(".npz").unlink()
    return [
        name if count == 1 else f"{name}#{piece}"
        for name, count in zip(names, pieces, strict=True)
        for piece in range(count)
    ]


def _move(path: Path, out: BinaryIO) -> None:
    with path.open("rb") as file:
        shutil.copyfileobj(file, out, 1 << 20)
    path.unlink()
