"""Clips for training and evaluation, drawn from a cache.

train, validation = split_episodes(cache, validation=0.1, seed=0)
clip = ClipSampler(cache, train, length=16).sample(np.random.default_rng(0), batch=32)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldgen.data.cache import Cache
from worldgen.errors import InputError

# between the training and the validation part of a single file: long enough that no clip sees both sides
GAP_SECONDS = 2.0
SAME = 0.5  # grey levels: what encoding makes of a frame that is written twice


@dataclass(frozen=True)
class Segments:
    """Stretches of a cache's frames, none across two episodes: frames starts[i] to stops[i], (s,) int64 each."""

    starts: np.ndarray
    stops: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> np.ndarray:
        return self.stops - self.starts

    @property
    def num_frames(self) -> int:
        return int(self.lengths.sum())

    def __iter__(self):
        """(start, stop) pairs."""
        return zip(self.starts.tolist(), self.stops.tolist(), strict=True)


@dataclass(frozen=True)
class Clip:
    """b clips of t frames. Row i of everything belongs to frame i: its action is chosen on it and leads to frame i + 1.

    frames (b, t, h, w, 3) uint8; actions (b, t, width) or None without any in the folder; reward (b, t) float32;
    terminated, truncated (b, t) bool; sound (b, t, samples, channels) int16 or None; start (b,) int64, the frame of the
    cache each begins at; episode (b,) int64; state: columns asked for, (b, t).
    """

    frames: np.ndarray
    actions: np.ndarray | None
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    sound: np.ndarray | None
    start: np.ndarray
    episode: np.ndarray
    state: dict[str, np.ndarray]


def all_segments(cache: Cache, episodes: Sequence[int] | np.ndarray | None = None) -> Segments:
    """Whole episodes: those given, or all."""
    chosen = np.arange(cache.num_episodes) if episodes is None else np.sort(np.asarray(episodes, np.int64))
    return Segments(cache.starts[:-1][chosen], cache.starts[1:][chosen])


def segments_of(cache: Cache, segments: Segments, is_kept: np.ndarray) -> Segments:
    """Those of the segments that lie in the episodes that are kept, (E,) bool."""
    kept = is_kept[np.searchsorted(cache.starts, segments.starts, side="right") - 1]
    return Segments(segments.starts[kept], segments.stops[kept])


def split_episodes(cache: Cache, validation: float = 0.1, seed: int = 0) -> tuple[Segments, Segments]:
    """(training, validation), by file: no two clips of one recording are on both sides.

    Which file goes where depends on its name and the seed, so adding recordings moves few. At least one file on each
    side; of a single file the end is held out instead, with 2 s (at most a tenth) left unused between.
    """
    if not 0 < validation < 1:
        raise InputError(f"validation is a share between 0 and 1, got {validation}")
    files = np.unique(cache.episode_files)
    if len(files) == 1:
        return _split_end(cache, validation)
    names = {int(f): cache.episode_names[int(np.argmax(cache.episode_files == f))].rsplit("#", 1)[0] for f in files}

    def rank(f: int) -> bytes:
        return hashlib.blake2b(f"{seed}/{names[f]}".encode(errors="surrogateescape")).digest()

    num_held = min(len(files) - 1, max(1, round(validation * len(files))))
    held = sorted(names, key=rank)[:num_held]
    is_held = np.isin(cache.episode_files, held)
    return all_segments(cache, np.flatnonzero(~is_held)), all_segments(cache, np.flatnonzero(is_held))


def repeated_ends(cache: Cache) -> np.ndarray:
    """(N,) bool: frames that only repeat the one before because the game gives none after its end. Nothing can be
    learned from them: no game stands still there."""
    ends = np.flatnonzero(cache.terminated[:-1])
    difference = [np.abs(np.diff(cache.frames[i : i + 2].astype(np.int16), axis=0)).mean() for i in ends]
    is_repeat = np.zeros(cache.num_frames, bool)
    is_repeat[ends[np.asarray(difference) < SAME] + 1] = True
    return is_repeat


def _split_end(cache: Cache, validation: float) -> tuple[Segments, Segments]:
    n = cache.num_frames
    cut = min(n - 1, max(1, round(n * (1 - validation))))
    gap = min(round(GAP_SECONDS * cache.fps), n // 10, cut - 1)
    whole = all_segments(cache)
    return _clip_to(whole, 0, cut - gap), _clip_to(whole, cut, n)


def _clip_to(segments: Segments, start: int, stop: int) -> Segments:
    starts, stops = np.maximum(segments.starts, start), np.minimum(segments.stops, stop)
    keep = stops > starts
    return Segments(starts[keep], stops[keep])


class ClipSampler:
    """Draws clips of `length` frames from segments of a cache; every position that fits is equally likely.

    weights: (N,) >= 0, one per frame of the cache: how likely a clip is to begin there instead.
    state: names of state columns that clips carry. with_sound: False leaves the sound unread.
    """

    def __init__(
        self,
        cache: Cache,
        segments: Segments,
        length: int,
        *,
        weights: np.ndarray | None = None,
        state: Sequence[str] = (),
        with_sound: bool = True,
    ):
        if length < 1:
            raise InputError(f"a clip has at least 1 frame, got {length}")
        unknown = [name for name in state if name not in cache.state]
        if unknown:
            raise InputError(f"no state column {unknown[0]!r}; the recordings have {sorted(cache.state)}")
        self.cache, self.segments, self.length = cache, segments, length
        self._state, self._with_sound = tuple(state), with_sound
        fits = np.maximum(0, segments.lengths - length + 1)
        if not fits.sum():
            longest = int(np.argmax(segments.lengths)) if len(segments) else None
            if longest is None:
                raise InputError(f"no episodes to draw clips of {length} frames from")
            episode = int(np.searchsorted(cache.starts, segments.starts[longest], side="right")) - 1
            raise InputError(
                f"no episode holds a clip of {length} frames: the longest, {cache.episode_names[episode]}, "
                f"has {segments.lengths[longest]} here: record longer ones"
            )
        self._first = segments.starts
        self._ends = np.cumsum(fits)  # position p of all that fit lies in the first segment with end > p
        self._cumulative: np.ndarray | None = None
        if weights is not None:
            if weights.shape != (cache.num_frames,) or not (np.isfinite(weights).all() and (weights >= 0).all()):
                raise InputError(f"weights are ({cache.num_frames},) numbers >= 0, got {weights.shape}")
            self._cumulative = np.cumsum(weights[self._frame_of(np.arange(self.num_positions))], dtype=np.float64)
            if not self._cumulative[-1] > 0:
                raise InputError("no clip has a weight above 0")

    @property
    def num_positions(self) -> int:
        """In how many places a clip can begin."""
        return int(self._ends[-1])

    def _frame_of(self, position: np.ndarray) -> np.ndarray:
        """The frame of the cache at which the clip at a position begins."""
        segment = np.searchsorted(self._ends, position, side="right")
        before = np.append(0, self._ends)[segment]
        return self._first[segment] + position - before

    def sample(self, rng: np.random.Generator, batch: int) -> Clip:
        """batch clips, drawn with replacement."""
        return self.at(self.draw(rng, batch))

    def draw(self, rng: np.random.Generator, batch: int) -> np.ndarray:
        """The frames of the cache (batch,) at which clips drawn with replacement begin."""
        if self._cumulative is None:
            position = rng.integers(self.num_positions, size=batch)
        else:
            drawn = rng.random(batch) * self._cumulative[-1]
            position = np.minimum(np.searchsorted(self._cumulative, drawn, side="right"), self.num_positions - 1)
        return self._frame_of(position)

    def begins(self, starts: np.ndarray) -> np.ndarray:
        """starts (b,) of clips, as drawn -> the first frames (b,) of the segments that they lie in"""
        return self._first[np.searchsorted(self._first, starts, side="right") - 1]

    def evenly(self, count: int) -> Clip:
        """count clips spread evenly over the segments: the same ones every time. Fewer where fewer fit."""
        return self.at(self.even_starts(count))

    def even_starts(self, count: int) -> np.ndarray:
        """The frames of the cache (count,) at which the clips of evenly() begin."""
        count = min(count, self.num_positions)
        position = (np.arange(count) * 2 + 1) * self.num_positions // (2 * count) if count else np.zeros(0, np.int64)
        return self._frame_of(position)

    def all_starts(self) -> np.ndarray:
        """Every frame of the cache at which a clip can begin, in order."""
        return self._frame_of(np.arange(self.num_positions))

    def at(self, start: np.ndarray) -> Clip:
        """The clips that begin at these frames of the cache (b,)."""
        start = np.asarray(start, np.int64)
        cache, t = self.cache, self.length
        index = start[:, None] + np.arange(t)
        return Clip(
            frames=self._copy(cache.frames, start),
            actions=None if cache.actions is None else cache.actions[index],
            reward=cache.reward[index],
            terminated=cache.terminated[index],
            truncated=cache.truncated[index],
            sound=self._copy(cache.sound, start) if cache.sound is not None and self._with_sound else None,
            start=start,
            episode=np.searchsorted(cache.starts, start, side="right") - 1,
            state={name: cache.state[name][index] for name in self._state},
        )

    def _copy(self, mapped: np.ndarray, start: np.ndarray) -> np.ndarray:
        plain = np.asarray(mapped)  # slices of a memmap are ten times slower to make
        out = np.empty((len(start), self.length, *mapped.shape[1:]), mapped.dtype)
        for i, s in enumerate(start.tolist()):  # a clip is one stretch of memory: faster than a gather by frame
            out[i] = plain[s : s + self.length]
        return out
