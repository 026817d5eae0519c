"""The sound of the recordings, cut into the samples that are heard while each frame is on screen.

It is read from the files without decoding their pictures, and kept beside the training state. Row i belongs to frame i
of the cache. Where a file has no sound, or is so damaged that frame and sound may not agree, there is silence and
`is_usable` is False.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.data.cache import Cache
from worldgen.data.container import audio_streams, open_container
from worldgen.data.dataset import Segments, segments_of
from worldgen.data.ingest import REFUSALS
from worldgen.data.sound import read_sound
from worldgen.errors import InputError
from worldgen.files import write_json
from worldgen.onsets import SILENT
from worldgen.training.native_frames import episode_files

MAX_RATE = 24_000  # Hz: what small worlds have to say lies below 12 kHz
MIN_BLOCK, MAX_BLOCK = 160, 400  # samples: of a frame's parts, for the codec
CLIPPED = 32_700  # of int16
MAX_OFF = 1.2  # frames by which a file and its episode may differ: one, and a report's seconds are rounded


@dataclass(frozen=True)
class SoundFormat:
    """samples: of a frame, at fps * samples Hz."""

    samples: int
    channels: int
    sample_rate: int

    @classmethod
    def of(cls, codec: Mapping[str, Any]) -> SoundFormat:
        """codec: the config of a SoundCodec"""
        return cls(codec["samples"], codec["channels"], codec["sample_rate"])


@dataclass(frozen=True)
class RecordedSound:
    """sound (N, samples, channels) int16; is_usable (E,) bool, by episode of the cache; notes: what was met."""

    format: SoundFormat
    sound: np.ndarray
    is_usable: np.ndarray
    notes: tuple[str, ...]

    def segments(self, cache: Cache, segments: Segments) -> Segments:
        """Those of the segments whose sound is known."""
        return segments_of(cache, segments, self.is_usable)

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """rows (...,) of the cache -> (..., samples, channels) float32 in [-1, 1]"""
        taken = np.asarray(self.sound[rows.ravel()]).reshape(*rows.shape, *self.sound.shape[1:])
        return taken.astype(np.float32) / 32768

    def is_silent(self) -> np.ndarray:
        """(N,) bool"""
        loudest = [np.abs(part.astype(np.int32)).max((1, 2)) for part in np.array_split(self.sound, 64) if len(part)]
        return np.concatenate(loudest) < SILENT * 32768


def has_sound(cache: Cache) -> np.ndarray:
    """(E,) bool: the episodes of files with an audio track"""
    return np.array([report.has_sound for report in cache.file_reports()])


def is_whole(cache: Cache) -> np.ndarray:
    """(E,) bool: the episodes that are all of their file, so that its sound lies on their frames"""
    expected = np.array([report.seconds for report in cache.file_reports()]) * cache.fps
    num_pieces = np.bincount(cache.episode_files)[cache.episode_files]
    return (num_pieces == 1) & (np.abs(cache.lengths - expected) < MAX_OFF)


def choose_format(cache: Cache, data: Path) -> SoundFormat:
    """The rate most recordings with sound have, at most MAX_RATE, moved so that a frame holds a whole number of samples
    that falls into equal blocks. Two channels where most have two. Raises InputError where none has sound."""
    tracks = Counter(t for f in dict.fromkeys(episode_files(cache, data)) if f is not None if (t := _track(f)))
    if not tracks:
        raise InputError(f"{data}: no recording has sound, so there is none to learn: leave the sound stages out")
    (rate, channels), _ = tracks.most_common(1)[0]
    samples = nearest_frame(min(rate, MAX_RATE) / cache.fps)
    return SoundFormat(samples, min(2, channels), round(samples * cache.fps))


def nearest_frame(samples: float) -> int:
    """The number of samples nearest to this that cuts into equal blocks of MIN_BLOCK to MAX_BLOCK"""
    first = max(MIN_BLOCK, round(samples))
    for offset in range(first):
        for candidate in (first - offset, first + offset):
            if any(candidate % j == 0 and MIN_BLOCK <= candidate // j <= MAX_BLOCK for j in range(1, candidate + 1)):
                return candidate
    raise AssertionError(samples)


def recorded_sound(
    cache: Cache,
    data: Path,
    sound_format: SoundFormat,
    folder: Path | None = None,
    say: Callable[[str], None] = print,
    episodes: np.ndarray | None = None,
) -> RecordedSound:
    """Reads it, or finds it in `folder` again. episodes: only of these; the others stay silent."""
    shape = (cache.num_frames, sound_format.samples, sound_format.channels)
    key = {"data": cache.path.name, "shape": list(shape), "sample_rate": sound_format.sample_rate}
    path = folder / "sound.i16" if folder is not None else None
    if folder is not None and path is not None:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            facts = json.loads((folder / "sound.json").read_text())
            if facts["key"] == key and path.stat().st_size == 2 * int(np.prod(shape)):
                mapped = np.memmap(path, np.int16, "r", shape=shape)
                return RecordedSound(sound_format, mapped, np.array(facts["is_usable"]), tuple(facts["notes"]))
        except (OSError, ValueError, KeyError, TypeError):
            pass
        (folder / "sound.json").unlink(missing_ok=True)
    out: np.ndarray = np.memmap(path, np.int16, "w+", shape=shape) if path is not None else np.zeros(shape, np.int16)
    say(f"reading sound: {sound_format.sample_rate} Hz, {sound_format.samples} samples a frame, "
        f"{sound_format.channels} channel{'s' * (sound_format.channels > 1)}")  # fmt: skip
    is_usable, notes = _read_all(
        cache, data, sound_format, out, np.arange(cache.num_episodes) if episodes is None else episodes
    )
    if folder is not None:
        if isinstance(out, np.memmap):
            out.flush()
        write_json(folder / "sound.json", {"key": key, "is_usable": is_usable.tolist(), "notes": notes})
    return RecordedSound(sound_format, out, is_usable, tuple(notes))


def _read_all(
    cache: Cache, data: Path, wanted: SoundFormat, out: np.ndarray, episodes: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    is_usable = np.zeros(cache.num_episodes, bool)
    silent, cut, clipped = [], [], []
    files, has_track, is_undamaged = episode_files(cache, data), has_sound(cache), is_whole(cache)
    for e in sorted({int(e) for e in episodes}):
        file = files[e]
        start, stop = int(cache.starts[e]), int(cache.starts[e + 1])
        if file is None or not has_track[e]:
            silent.append(cache.episode_names[e])
            continue
        if not is_undamaged[e]:  # pieces, or frames left out
            cut.append(cache.episode_names[e])
            continue
        sound = read_sound(file, wanted.sample_rate, wanted.channels)
        if sound is None or not len(sound):
            silent.append(cache.episode_names[e])
            continue
        flat = out[start:stop].reshape(-1, wanted.channels)
        n = min(len(sound), len(flat))
        flat[:n] = sound[:n]
        out[start:stop] = flat.reshape(stop - start, wanted.samples, wanted.channels)
        is_usable[e] = True
        if np.mean(np.abs(sound.astype(np.int32)) > CLIPPED) > 1e-3:
            clipped.append(cache.episode_names[e])
    total = len(set(episodes.tolist()))
    notes = [
        f"{len(names)} of {total} episodes {what}, such as {names[0]}"
        for names, what in (
            (silent, "have no sound and are left out"),
            (cut, "are damaged, so that sound and frames may not agree, and are left out"),
            (clipped, "are clipped: their sound is learned as it is"),
        )
        if names
    ]
    return is_usable, notes


def _track(file: Path) -> tuple[int, int] | None:
    """Rate and channels of the first audio track"""
    try:
        with open_container(file) as container:
            return next(((stream.rate, stream.channels) for stream in audio_streams(container)), None)
    except REFUSALS:
        return None
