"""Frames of the recordings at (nearly) their own size: what super-resolution learns from and is measured against.

Only some are decoded, clips spread evenly over a choice of files, and kept beside the training state.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldgen.data.cache import Cache
from worldgen.data.dataset import Segments
from worldgen.data.decode import resample
from worldgen.data.ingest import open_recording
from worldgen.errors import InputError
from worldgen.files import write_json

MAX_SCALE = 4
DECODED_PER_KEPT = 3  # frames: a file is decoded from its beginning, so fewer files with denser clips are faster


@dataclass(frozen=True)
class NativeClips:
    """rows (p,): frames of the cache at which the clips begin. frames: (p, t, H, W, 3) uint8."""

    rows: np.ndarray
    frames: np.ndarray


def best_scale(cache: Cache, max_scale: int = MAX_SCALE) -> int:
    """How many times larger than the world's frame most recorded frames are, at most max_scale; 1: not larger."""
    frames: Counter[int] = Counter()
    for report, length in zip(cache.file_reports(), cache.lengths.tolist(), strict=True):
        frames[min(report.width // cache.width, report.height // cache.height)] += length
    return max(1, min(frames.most_common(1)[0][0], max_scale))


def is_large(cache: Cache, scale: int) -> np.ndarray:
    """(E,) bool: the episodes of files that are `scale` times the world's frame or larger"""
    reports = cache.file_reports()
    return np.array([r.width >= scale * cache.width and r.height >= scale * cache.height for r in reports])


def native_clips(
    cache: Cache,
    data: Path,
    segments: Segments,
    scale: int,
    count: int,
    length: int,
    folder: Path | None = None,
    say: Callable[[str], None] = print,
) -> NativeClips:
    """About `count` clips of `length` frames from the segments, `scale` times the size of the cache's frames.

    folder: where to keep them for the next time. Raises InputError when no file is large enough.
    """
    height, width = scale * cache.height, scale * cache.width
    chosen = _choose(cache, data, segments, scale, count, length, say)
    rows = np.concatenate([r for _, r in chosen])
    shape = (len(rows), length, height, width, 3)
    frames: np.ndarray
    key = {"data": cache.path.name, "shape": list(shape), "rows": hashlib.sha256(rows.tobytes()).hexdigest()}
    if folder is None:
        frames = np.empty(shape, np.uint8)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        path, facts = folder / "native.u8", folder / "native.json"
        try:
            if json.loads(facts.read_text()) == key and path.stat().st_size == int(np.prod(shape)):
                return NativeClips(rows, np.memmap(path, np.uint8, "r", shape=shape))
        except (OSError, ValueError):
            pass
        facts.unlink(missing_ok=True)
        frames = np.memmap(path, np.uint8, "w+", shape=shape)
    say(f"decoding {len(rows)} clips of {length} frames at {width}x{height} from {len(chosen)} files")
    done = 0
    for file, wanted in chosen:
        _read_file(cache, file, wanted, frames[done : done + len(wanted)])
        done += len(wanted)
    if folder is not None:
        if isinstance(frames, np.memmap):
            frames.flush()
        write_json(facts, key)
    return NativeClips(rows, frames)


def episode_files(cache: Cache, data: Path) -> list[Path | None]:
    """Of each episode; None where it has gone. A file that damage cut in pieces names its episodes NAME#0, NAME#1."""
    out: list[Path | None] = []
    for name in cache.episode_names:
        file = data / name
        if not file.is_file():
            file = data / name.rsplit("#", 1)[0]
        out.append(file if file.is_file() else None)
    return out


def _choose(
    cache: Cache, data: Path, segments: Segments, scale: int, count: int, length: int, say: Callable[[str], None]
) -> list[tuple[Path, np.ndarray]]:
    """-> files and the rows of the cache at which their clips begin"""
    by_file: dict[Path, list[tuple[int, int]]] = {}
    files, is_usable = episode_files(cache, data), is_large(cache, scale)
    too_small = set()
    for start, stop in segments:
        episode = int(np.searchsorted(cache.starts, start, side="right")) - 1
        file = files[episode]
        if file is None or stop - start < length:
            continue
        if not is_usable[episode]:
            too_small.add(file)
            continue
        by_file.setdefault(file, []).append((start, stop))
    size = f"{scale * cache.width}x{scale * cache.height}"
    if not by_file:
        raise InputError(f"{data}: no recording is {size} or larger, {scale} times the world's frame")
    if too_small:
        say(f"  {len(too_small)} recordings are smaller than {size}: left out")
    order = sorted(by_file, key=lambda f: hashlib.blake2b(f.name.encode(errors="surrogateescape")).digest())
    picked, total = [], 0
    for file in order:
        if total >= DECODED_PER_KEPT * count * length:
            break
        picked.append(file)
        total += sum(stop - start for start, stop in by_file[file])
    stride = max(length, total // count)
    return [
        (file, np.concatenate([np.arange(a, b - length + 1, stride) for a, b in by_file[file]]))
        for file in sorted(picked)
    ]


def _read_file(cache: Cache, file: Path, wanted: np.ndarray, out: np.ndarray) -> None:
    """out (p, t, H, W, 3): the clips of one file that begin at these rows of the cache."""
    length, height, width = out.shape[1:4]
    first = int(wanted.min())
    episode = int(np.searchsorted(cache.starts, first, side="right")) - 1
    begin = int(cache.starts[int(np.argmax(cache.episode_files == cache.episode_files[episode]))])
    last = int(wanted.max()) + length - 1
    row = begin - 1
    for row, frame in enumerate(_frames(cache, file, height, width), begin):
        for i in np.flatnonzero((wanted <= row) & (row < wanted + length)):
            out[i, row - wanted[i]] = frame
        if row == last:
            return
    raise InputError(
        f"{file} has changed since it was read: it has {row + 1 - begin} frames, expected {last + 1 - begin}"
    )


def _frames(cache: Cache, file: Path, height: int, width: int) -> Iterator[np.ndarray]:
    """The frames that the cache holds of a file, in order, at another size"""
    recording = open_recording(file)
    has_end = recording.sidecar is not None and bool(recording.sidecar.terminated[-2:].any())
    for _, frame, is_missing in resample(file, recording.facts, cache.fps, width, height, show_last=has_end):
        if not is_missing:
            yield frame
