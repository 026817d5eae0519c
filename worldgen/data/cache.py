"""A folder of recordings as memory-mapped arrays: decoded once, resampled to one rate and size, read at random.

    cache = open_cache(folder, height=48, width=64)         # builds it on first use
    cache.frames[cache.starts[3] : cache.starts[4]]         # episode 3

It lives in $WORLDGEN_CACHE (~/.cache/worldgen), can be deleted at any time, and is found again by what the files hold
and what was asked for. Row t of everything belongs to frame t, as in a recording (contract C1).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import struct
import time
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from worldgen.actions import ActionMap
from worldgen.data.cache_build import CACHE_VERSION, build, checksum
from worldgen.data.cache_shard import Settings
from worldgen.data.cache_store import cache_store, require_local
from worldgen.data.ingest import FileReport, find_videos
from worldgen.data.mapped_npz import map_npz
from worldgen.data.progress import Progress
from worldgen.data.sidecar import SIDECAR_SUFFIXES
from worldgen.errors import InputError, RunError

# a build this old, that nobody holds, was killed
STALE_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Cache:
    """N frames of E episodes, end to end.

    frames: (N, h, w, 3) uint8, memory-mapped.
    sound: (N, samples, channels) int16, memory-mapped; None where none was asked for or no file has any. Silence in
        the episodes without (has_sound (E,) bool).
    actions: (N, width) rows that networks read, NULL where unknown; None where no file has actions.
    reward (N,) float32, terminated (N,) bool, truncated (N,) bool; state: columns (N,) float64, NaN where missing; all
        of them memory-mapped too.
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

    def file_reports(self) -> list[FileReport]:
        """(E): what is known of each episode's file."""
        usable = [r for r in self.reports if r.status != "refused"]
        return [usable[file] for file in self.episode_files]


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

    fps: None is what most recordings run at, at most 240. sample_rate: None is no sound; it is moved to the nearest
    rate of which a frame holds a whole number of samples. InputError where no file is usable or their action spaces
    differ.
    """
    folder = Path(folder)
    videos = find_videos(folder)
    if height < 1 or width < 1 or (fps is not None and not 0 < fps <= 1000):
        raise InputError(f"cannot make {width}x{height} frames at {fps} fps")
    asked = {"height": height, "width": width, "fps": fps, "sample_rate": sample_rate, "channels": channels}
    root = cache_root(cache_dir)
    entry = root / _key(folder, videos, asked)
    cache = load_cache(entry)
    if cache is not None:
        return cache
    store = cache_store()
    shared = _key(folder, videos, asked, is_shared=True) if store else ""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the cache folder {root} ({error.strerror}): set WORLDGEN_CACHE") from None
    _remove_stale(root)
    _make_room(root)
    building = root / f".build-{entry.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    building.mkdir()
    try:
        with build_lock(building):
            is_fetched = store is not None and store.fetch(shared, building) and load_cache(building) is not None
            if not is_fetched:
                build(building, folder, videos, asked, on_progress)
        _publish(building, entry)
        if store is not None and not is_fetched:
            store.put(shared, entry)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        size = sum(_size(path) for path in _entries(root)) / 1e9
        raise RunError(
            f"the disk of {root} is full: free space, remove caches there ({size:.1f} GB, all rebuilt when needed), "
            "or set WORLDGEN_CACHE to a folder elsewhere"
        ) from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    cache = load_cache(entry)
    assert cache is not None, entry
    _make_room(root, entry)
    return cache


def cache_root(cache_dir: Path | None = None) -> Path:
    """Where caches are kept: cache_dir, or $WORLDGEN_CACHE, or ~/.cache/worldgen."""
    root = Path(cache_dir or os.environ.get("WORLDGEN_CACHE") or Path.home() / ".cache" / "worldgen")
    return require_local(root).expanduser()


def build_lock(building: Path) -> FileLock:
    """Held while a cache is built: what is not held was left by a process that died."""
    return FileLock(building / ".lock", timeout=0)


def _entries(root: Path) -> list[Path]:
    """The caches of a folder, the one that was not used for longest first."""
    return sorted((p.parent for p in root.glob("*/meta.json")), key=lambda p: (p / "meta.json").stat().st_mtime)


def _size(entry: Path) -> int:
    return sum(p.stat().st_size for p in entry.iterdir() if p.is_file())


def _make_room(root: Path, keep: Path | None = None) -> None:
    """Where WORLDGEN_CACHE_GB limits the folder, removes what was not used for longest; never by itself."""
    if not (limit := os.environ.get("WORLDGEN_CACHE_GB")):
        return
    try:
        most = float(limit) * 1e9
    except ValueError:
        raise InputError(f"WORLDGEN_CACHE_GB is a number of gigabytes, got {limit!r}") from None
    entries = _entries(root)
    total = sum(map(_size, entries))
    for entry in entries:
        if total > most and entry != keep:
            total -= _size(entry)
            shutil.rmtree(entry, ignore_errors=True)


def load_cache(entry: Path) -> Cache | None:
    """The cache in a folder that build wrote; None where it is missing or not whole."""
    try:
        meta = json.loads((entry / "meta.json").read_text(encoding="utf-8"))
        if meta["version"] != CACHE_VERSION or meta["checksums"] != {
            name: checksum(entry / name) for name in meta["checksums"]
        }:
            return None
        rows = map_npz(entry / "rows.npz")
        settings = Settings(**meta["settings"])
        with contextlib.suppress(OSError):
            os.utime(entry / "meta.json")  # used now: see _make_room()
        starts = np.array(rows["starts"])
        n = int(starts[-1])
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
            has_sound=np.array(rows["has_sound"]),
            actions=rows.get("actions"),
            reward=rows["reward"],
            terminated=rows["terminated"],
            truncated=rows["truncated"],
            state={name.removeprefix("state."): rows[name] for name in rows if name.startswith("state.")},
            starts=starts,
            episode_names=tuple(meta["episode_names"]),
            episode_files=np.array(rows["episode_files"]),
            action_map=ActionMap.from_json(meta["action_map"]) if meta["action_map"] else None,
            reports=tuple(FileReport.from_json(r) for r in meta["reports"]),
            notes=tuple(meta["notes"]),
        )
    except (OSError, ValueError, KeyError, TypeError, EOFError, struct.error, zipfile.BadZipFile):
        return None


def _key(folder: Path, videos: list[Path], asked: dict[str, Any], is_shared: bool = False) -> str:
    """Changes with any file's name, size, time of change or sampled content, and with what was asked for. is_shared:
    without the times, which differ between machines, and with more samples instead."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([CACHE_VERSION, asked], sort_keys=True).encode())
    for video in videos:
        beside = [video.with_suffix(s) for s in (*SIDECAR_SUFFIXES, ".json")]
        for path in [video, *(p for p in beside if os.path.isfile(p))]:
            stat = path.stat() if os.path.isfile(path) else None  # a pipe would never end
            times = [] if stat is None or is_shared else [stat.st_mtime_ns]
            facts = [os.fsencode(path.relative_to(folder)).hex(), stat and [stat.st_size, *times]]
            digest.update(json.dumps(facts).encode())
            if stat is not None:
                with contextlib.suppress(OSError):  # it is refused for that when it is opened
                    digest.update(checksum(path, num_blocks=256 if is_shared else 8).encode())
    return digest.hexdigest()


def _remove_stale(root: Path) -> None:
    for path in root.glob(".build-*"):
        try:
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                with build_lock(path):
                    pass
                shutil.rmtree(path, ignore_errors=True)
        except (OSError, Timeout):  # another process builds it, whatever the clock says
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
