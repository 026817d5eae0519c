"""Building a cache: each recording decoded into a shard by a process of its own, the shards joined."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from worldgen.actions import ActionMap
from worldgen.config import MAX_WORLD_FPS
from worldgen.data.cache_shard import Settings, write_shard
from worldgen.data.common_actions import common_actions
from worldgen.data.ingest import REFUSALS, FileReport, Recording, duplicate, look_once, open_recording, refusal
from worldgen.data.map_files import map_files
from worldgen.data.mapped_npz import add_array, map_npz
from worldgen.data.progress import Progress
from worldgen.errors import InputError

CACHE_VERSION = 3


def build(
    building: Path, folder: Path, videos: list[Path], asked: dict[str, Any], on_progress: Progress | None
) -> None:
    """Writes frames.bin, sound.bin, rows.npz and meta.json into an empty folder. InputError where no video is usable or
    their action spaces differ."""
    looks, same = look_once(
        videos, lambda some: map_files(_open_or_refuse, some, some), lambda result: isinstance(result, Recording)
    )
    opened: list[Recording | FileReport] = []
    for video in videos:
        result = duplicate(video, same[video]) if video in same else looks[video]
        opened.append(refusal(video, result) if isinstance(result, Exception) else result)
    reports: list[FileReport | None] = [r if isinstance(r, FileReport) else None for r in opened]
    usable = [(i, r) for i, r in enumerate(opened) if isinstance(r, Recording)]
    _require_some(folder, reports, len(usable))
    action_map = common_actions([r for _, r in usable])
    settings, notes = _settle([r for _, r in usable], asked)

    shard_jobs = [(r, settings, action_map, building / f"file{i}") for i, r in usable]
    paths = [r.path for _, r in usable]
    shards = []
    for (i, _), result in zip(usable, map_files(write_shard, shard_jobs, paths, on_progress), strict=True):
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
        "checksums": {name: checksum(building / name) for name in names},
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


def _settle(recordings: list[Recording], asked: dict[str, Any]) -> tuple[Settings, list[str]]:
    rates = Counter(round(r.facts.fps, 3) for r in recordings)
    # the most common; of equals the one with more frames behind it
    frames = {rate: sum(r.facts.num_frames for r in recordings if round(r.facts.fps, 3) == rate) for rate in rates}
    common = max(rates, key=lambda rate: (rates[rate], frames[rate]))
    own = next(r.facts.fps for r in recordings if round(r.facts.fps, 3) == common)
    fps = asked["fps"] or min(own, MAX_WORLD_FPS)
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
    return Settings(asked["height"], asked["width"], float(fps), samples, asked["channels"]), notes


def _join(building: Path, shards: list[Path], names: list[str], action_map: ActionMap | None) -> list[str]:
    """Joins the shards into frames.bin, sound.bin and rows.npz and removes them. Returns the episodes' names."""
    for kind in ("frames", "sound"):
        if not shards[0].with_suffix(f".{kind}").exists():
            continue
        with (building / f"{kind}.bin").open("wb") as out:
            for shard in shards:
                _move(shard.with_suffix(f".{kind}"), out)
    parts = [map_npz(shard.with_suffix(".npz")) for shard in shards]
    counts = [int(part["lengths"].sum()) for part in parts]
    lengths = np.concatenate([part["lengths"] for part in parts])
    pieces = [len(part["lengths"]) for part in parts]
    rows = {
        "starts": np.append(0, np.cumsum(lengths)).astype(np.int64),
        "episode_files": np.repeat(np.arange(len(shards)), pieces),
        "has_sound": np.repeat([bool(part["has_sound"]) for part in parts], pieces),
    }
    columns = [*dict.fromkeys(name for part in parts for name in part if name.startswith("state."))]
    with zipfile.ZipFile(building / "rows.npz", "w") as archive:
        for name, row in rows.items():
            add_array(archive, name, len(row), [row])
        for name in ["reward", "terminated", "truncated", *(["actions"] if action_map else []), *columns]:
            values = (part.get(name, np.full(n, np.nan)) for part, n in zip(parts, counts, strict=True))
            add_array(archive, name, sum(counts), values)
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


def checksum(path: Path, num_blocks: int = 256) -> str:
    """Of a file's size and up to num_blocks of its blocks, ends included: milliseconds for any size."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest.update(str(size).encode())
        for offset in np.unique(np.linspace(0, max(0, size - 4096), num_blocks).astype(np.int64)):
            file.seek(int(offset))
            digest.update(file.read(4096))
    return digest.hexdigest()
