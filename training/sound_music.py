"""Finds the music of recordings: long stretches in which it is never quiet. Those that sound alike are one track, and
of each the longest piece with the fewest sudden sounds in it is kept, its end faded into its beginning: it loops.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldgen.data.dataset import Segments
from worldgen.onsets import AUDIBLE, mono, onsets
from worldgen.training.recorded_sound import RecordedSound
from worldgen.training.sound_metrics import stft_magnitudes

WINDOW_SECONDS = 4.0  # that music is judged over
SOUNDING = 0.95  # of its frames
QUIET = AUDIBLE / 4  # root mean square below which a frame is quiet
SAME = 0.85  # correlation of spectra above which two windows are of one track
MAX_TRACKS = 4
MIN_SHARE = 0.02  # of all frames that a track must have
LOOP_SECONDS, SEAM_SECONDS = 12.0, 0.5
NUM_BANDS = 48


@dataclass(frozen=True)
class FoundMusic:
    """tracks: (length, channels) int16 each, they loop. track (N,) int64: of each frame of the cache, len(tracks) for
    none. rows: the frames of the cache that each track was cut from."""

    tracks: list[np.ndarray]
    track: np.ndarray
    rows: list[np.ndarray]


def find_music(recorded: RecordedSound, segments: Segments) -> FoundMusic:
    """The most common track first; no track where the recordings have no music"""
    rate, samples = recorded.format.sample_rate, recorded.format.samples
    size = max(2, round(WINDOW_SECONDS * rate / samples))
    windows, features = [], []
    for start, stop in segments:
        for first in range(start, stop - size + 1, size):
            waves = recorded.rows(np.arange(first, first + size))
            if np.mean(np.sqrt(np.square(waves).mean((1, 2))) > QUIET) >= SOUNDING:
                windows.append(first)
                features.append(timbre(waves.reshape(-1, waves.shape[-1])))
    kinds = _group(features)
    none = np.full(len(recorded.sound), -1, np.int64)
    found = FoundMusic([], none, [])
    for kind in np.argsort(-np.bincount(kinds), kind="stable") if len(kinds) else []:
        firsts = [first for first, k in zip(windows, kinds, strict=True) if k == kind]
        if len(found.tracks) < MAX_TRACKS and len(firsts) * size >= MIN_SHARE * segments.num_frames:
            for first in firsts:
                found.track[first : first + size] = len(found.tracks)
            found.rows.append(_best_run(recorded, firsts, size))
            piece = recorded.rows(found.rows[-1]).reshape(-1, recorded.format.channels)
            found.tracks.append(looped(piece, rate))
    found.track[found.track < 0] = len(found.tracks)
    return found


def timbre(sound: np.ndarray) -> np.ndarray:
    """(samples, channels) -> its mean spectrum in octave parts, whatever its loudness: a vector of length 1"""
    spectrum = stft_magnitudes(mono(sound), 2048).mean(0)
    edges = np.unique(np.round(np.geomspace(2, len(spectrum), NUM_BANDS + 1)).astype(int))
    bands = np.array([spectrum[a:b].mean() for a, b in zip(edges[:-1], edges[1:], strict=True)])
    level = np.log10(np.maximum(bands, 1e-3 * bands.max() + 1e-9))
    level -= level.mean()
    return level / max(1e-9, float(np.linalg.norm(level)))


def _group(features: list[np.ndarray]) -> np.ndarray:
    """Each joins the first track that it is like, or begins one: (n,)"""
    centres: list[np.ndarray] = []
    kinds = []
    for f in features:
        like = [float(c @ f) / max(1e-9, float(np.linalg.norm(c))) for c in centres]
        if like and max(like) >= SAME:
            kind = int(np.argmax(like))
            centres[kind] = centres[kind] + f
        else:
            kind = len(centres)
            centres.append(f)
        kinds.append(kind)
    return np.array(kinds, np.int64)


def _best_run(recorded: RecordedSound, firsts: list[int], size: int) -> np.ndarray:
    """Windows that follow one another, at most LOOP_SECONDS: of the longest the one with the fewest onsets -> rows"""
    longest = max(1, round(LOOP_SECONDS / WINDOW_SECONDS))
    runs = []
    for i, first in enumerate(firsts):
        length = 1
        while length < longest and i + length < len(firsts) and firsts[i + length] == first + length * size:
            length += 1
        runs.append((length, first))
    most = max(length for length, _ in runs)
    candidates = [np.arange(first, first + most * size) for length, first in runs if length == most]
    rate = recorded.format.sample_rate
    return min(
        candidates, key=lambda rows: len(onsets(recorded.rows(rows).reshape(-1, recorded.format.channels), rate))
    )


def looped(sound: np.ndarray, rate: int) -> np.ndarray:
    """(length, channels) float -> (length - seam, channels) int16: what followed the end fades in where it begins
    again"""
    seam = min(len(sound) // 4, round(SEAM_SECONDS * rate))
    out = sound[: len(sound) - seam].astype(np.float32).copy()
    angle = (np.arange(seam) / max(1, seam) * np.pi / 2)[:, None]
    out[:seam] = np.sin(angle) * out[:seam] + np.cos(angle) * sound[len(sound) - seam :]
    return (np.clip(out, -1, 1) * 32767).astype(np.int16)
