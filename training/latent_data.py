"""What of a folder of videos latent actions can be learned from: stretches of one game in which something happens.

A cut is no action, and a menu or a standstill shows none; both would take up codes. What is left out is said, with the
file and where.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from worldgen.data.cache import Cache
from worldgen.data.dataset import Segments
from worldgen.data.findings import find_cuts
from worldgen.data.recording import read_info
from worldgen.data.signals import THUMB_HEIGHT, THUMB_WIDTH
from worldgen.errors import InputError
from worldgen.training.native_frames import episode_files

NAMED = 5  # files that are named where many have the same
# a picture stands still where no more of it changes by so many grey levels: less than a ball of two pixels in 64x64
STILL_SHARE, STILL_LEVELS, STILL_SECONDS = 0.0004, 16, 3.0
OTHER_SHAPE = 1.15  # two games where the pictures of some files are so much wider, for their height


def check_one_game(data: Path, cache: Cache) -> None:
    """Raises InputError where recordings that are used say that they are of several games, or their pictures are of
    several shapes: a code means one thing in one game."""
    by_source: dict[str, Path] = {}
    for video in filter(None, episode_files(cache, data)):
        if (info := read_info(video)) is not None and info.source:
            by_source.setdefault(info.source, video)
    if len(by_source) > 1:
        (one, first), (other, second) = list(by_source.items())[:2]
        raise InputError(
            f"{first.name} is of {one} and {second.name} of {other}: latent actions are those of one game, train each "
            "from a folder of its own"
        )
    shapes = {r.path: r.width / r.height for r in cache.reports if r.status != "refused" and r.height}
    widest, tallest = max(shapes, key=shapes.__getitem__), min(shapes, key=shapes.__getitem__)
    if shapes[widest] > OTHER_SHAPE * shapes[tallest]:
        size = {r.path: f"{r.width}x{r.height}" for r in cache.reports}
        raise InputError(
            f"{Path(widest).name} is {size[widest]} and {Path(tallest).name} {size[tallest]}: they look like two "
            "games, or need cropping (`worldgen check --fix`); latent actions are those of one game"
        )


def playable(cache: Cache, segments: Segments, min_length: int, say: Callable[[str], None]) -> Segments:
    """The stretches of the segments, min_length frames and more, without cuts, menus and standstills. Raises InputError
    where nothing is left."""
    starts, stops = [], []
    cut, still, short = {}, {}, {}
    for start, stop in segments:
        episode = int(np.searchsorted(cache.starts, start, side="right")) - 1
        name, before = cache.episode_names[episode], (start - cache.starts[episode]) / cache.fps
        frames = cache.frames[start:stop]
        cuts = find_cuts(_thumbs(frames), np.arange(stop - start) / cache.fps)
        spans = _still(frames, max(2, round(STILL_SECONDS * cache.fps)))
        moves = np.ones(stop - start, bool)
        for begin, end in spans:
            moves[begin:end] = False
        edges = np.concatenate(
            [[0], np.flatnonzero(np.diff(moves)) + 1, np.round(np.array(cuts) * cache.fps), [len(moves)]]
        )
        edges = np.unique(edges.astype(int))
        kept = [(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True) if moves[a] and b - a >= min_length]
        starts += [start + a for a, _ in kept]
        stops += [start + b for _, b in kept]
        if cuts:
            cut[name] = f"{len(cuts)} cut{'s' * (len(cuts) > 1)}, the first at {before + cuts[0]:.1f} s"
        if spans:
            seconds = sum(b - a for a, b in spans) / cache.fps
            still[name] = f"nothing moves for {seconds:.0f} s, from {before + spans[0][0] / cache.fps:.1f} s on"
        if not kept:
            short[name] = f"no {min_length} frames in a row in which something happens"
    for found, what in ((cut, "cuts are no actions"), (still, "menus and standstills are left out")):
        if found:
            say(f"  {what}: {_named(found)}")
    if not starts:
        raise InputError(
            f"latent actions are learned from what changes: {_named(short)}; record longer stretches of play, or "
            "give other videos"
        )
    if short:
        say(f"  not used: {_named(short)}")
    return Segments(np.array(starts, np.int64), np.array(stops, np.int64))


def _still(frames: np.ndarray, min_length: int, batch: int = 512) -> list[tuple[int, int]]:
    """(t, h, w, 3) uint8 -> (first, end) of the stretches of min_length frames and more that look alike"""
    shares = [np.zeros(0)]
    for i in range(0, len(frames) - 1, batch):
        part = frames[i : i + batch + 1].astype(np.int16)
        changed = np.abs(np.diff(part, axis=0)).max(-1) > STILL_LEVELS
        shares.append(changed.mean(axis=(1, 2)))
    is_still = np.concatenate(shares) <= STILL_SHARE
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_still, [False]]).astype(int)))
    spans = [(int(a), int(b) + 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return [(a, b) for a, b in spans if b - a >= min_length]


def _thumbs(frames: np.ndarray) -> np.ndarray:
    """(t, h, w, 3) uint8 -> (t, h', w') uint8 grey, small: each pixel one of the picture's"""
    _, h, w, _ = frames.shape
    rows = np.linspace(0, h - 1, THUMB_HEIGHT).round().astype(int)
    columns = np.linspace(0, w - 1, THUMB_WIDTH).round().astype(int)
    return frames[:, rows[:, None], columns].mean(-1).astype(np.uint8)


def _named(found: dict[str, str]) -> str:
    listed = [f"{name}: {what}" for name, what in list(found.items())[:NAMED]]
    return "; ".join(listed) + (f"; and {len(found) - NAMED} more" if len(found) > NAMED else "")
