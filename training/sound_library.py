"""Builds a library of sounds from recordings: where a sound begins it is cut out, those that sound alike are one, and
of each kind the copy that rings on undisturbed for longest is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from worldgen.data.dataset import Segments
from worldgen.errors import InputError
from worldgen.onsets import AUDIBLE, frame_of, mono, onsets
from worldgen.sound_library import SoundLibrary
from worldgen.training.recorded_sound import RecordedSound
from worldgen.training.sound_metrics import stft_magnitudes
from worldgen.training.sound_music import FoundMusic

MAX_SOUNDS = 24
MAX_SECONDS = 1.2  # that a sound is kept for
MAX_ONSETS = 6000  # that are looked at
LEAD_SECONDS = 0.003  # kept before an onset, which is found where a sound is already audible
FADE_SECONDS = 0.01
SAME = 0.80  # correlation of spectra above which two sounds are one
NUM_BANDS, FEATURE_SECONDS = 24, 0.25
NOTES = 3  # times that a sound begins in a loop of music to be a part of it
MIN_SHARE = 0.005  # of all onsets that a kind must have


@dataclass(frozen=True)
class SoundEvent:
    """frame: of the cache, in which it begins; place: where in it, in [0, 1); kind: of the library; gain: over the
    library's copy."""

    frame: int
    place: float
    kind: int
    gain: float


def build_library(
    recorded: RecordedSound, segments: Segments, found: FoundMusic | None = None, say: Callable[[str], None] = print
) -> tuple[SoundLibrary, list[SoundEvent]]:
    """found: music for it to hold too, the notes of which are no sounds of their own -> the library, and the events of
    the segments. Raises InputError where nothing is ever heard to begin."""
    cuts = _cut(recorded, segments)
    if not cuts:
        raise InputError(f"in {segments.num_frames} frames no sound begins: there is nothing to retrieve")
    rate = recorded.format.sample_rate
    features = np.stack([feature(cut.sound, rate) for cut in cuts])
    kinds = _group(features)
    music = found.tracks if found is not None else []
    keep = _common(kinds)
    if found is not None:
        notes = _notes(cuts, kinds, found)
        keep = [kind for kind in keep if kind not in notes] or keep
    clips, events = [], []
    for new, kind in enumerate(keep):
        members = [cut for cut, k in zip(cuts, kinds, strict=True) if k == kind]
        centre = np.mean([f for f, k in zip(features, kinds, strict=True) if k == kind], axis=0)
        # of those most like the others the one that is disturbed last, and then the loudest
        likeness = [float(feature(cut.sound, rate) @ centre) for cut in members]
        typical = [cut for cut, x in zip(members, likeness, strict=True) if x >= np.quantile(likeness, 0.5)]
        best = max(typical, key=lambda cut: (round(len(cut.sound) / rate, 1), _loudness(cut.sound, rate)))
        clips.append(faded(best.sound, rate))
        reference = _loudness(best.sound, rate)
        events += [SoundEvent(c.frame, c.place, new, _loudness(c.sound, rate) / max(reference, 1e-4)) for c in members]
    counts = np.bincount([e.kind for e in events], minlength=len(clips))
    say(f"  {len(clips)} sounds in {len(cuts)} events; {counts.sum()} are of them, {counts[0]} of the most common")
    names = [f"sound {i + 1}" for i in range(len(clips))]
    if music:
        say(f"  {len(music)} tracks of music, {', '.join(f'{len(m) / rate:.0f} s' for m in music)}")
        names += [f"music {i + 1}" for i in range(len(music))]
    return SoundLibrary.of([*clips, *music], names, rate, recorded.format.samples, len(music)), events


@dataclass(frozen=True)
class _Cut:
    frame: int
    place: float
    sound: np.ndarray  # (length, channels) float32


def _cut(recorded: RecordedSound, segments: Segments) -> list[_Cut]:
    rate = recorded.format.sample_rate
    cuts: list[_Cut] = []
    for start, stop in segments:
        line = recorded.rows(np.arange(start, stop)).reshape(-1, recorded.format.channels)
        begins = np.maximum(0, (onsets(line, rate) - LEAD_SECONDS) * rate).astype(int)
        ends = np.append(begins, len(line))[1:]
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            sound = _until_quiet(line[begin : min(end, begin + int(MAX_SECONDS * rate))], rate)
            frame, place = frame_of(begin, recorded.format.samples, recorded.format.sample_rate)
            if len(sound) >= 0.02 * rate and start + frame < stop:
                cuts.append(_Cut(start + frame, place, sound))
        if len(cuts) >= MAX_ONSETS:
            break
    return cuts


def _until_quiet(sound: np.ndarray, rate: int) -> np.ndarray:
    hop = max(1, rate // 50)
    level = np.array([np.abs(sound[i : i + hop]).max() for i in range(0, len(sound), hop)])
    loud = np.flatnonzero(level > AUDIBLE / 2)
    return sound[: (int(loud[-1]) + 1) * hop] if len(loud) else sound[:0]


def feature(sound: np.ndarray, rate: int) -> np.ndarray:
    """Spectrum over time of the first quarter of a second, whatever its loudness: a vector of length 1"""
    size = 512 if rate >= 16_000 else 256
    n = round(FEATURE_SECONDS * rate)
    wave = mono(sound)[:n]
    spectrum = stft_magnitudes(np.pad(wave, (0, n - len(wave))), size)
    edges = np.unique(np.round(np.geomspace(1, spectrum.shape[1], NUM_BANDS + 1)).astype(int))
    bands = np.stack([spectrum[:, a:b].mean(1) for a, b in zip(edges[:-1], edges[1:], strict=True)], axis=1)
    level = np.log10(np.maximum(bands, 1e-3 * bands.max() + 1e-9))
    level = (level - level.mean()).ravel()
    return level / max(1e-9, float(np.linalg.norm(level)))


def _group(features: np.ndarray) -> np.ndarray:
    """(n,): each sound joins the first kind that it is like or begins one; then all join the kind they are most like"""
    centres: list[np.ndarray] = []
    for f in features:
        if not centres or max(float(c @ f) for c in centres) < SAME:
            if len(centres) == 4 * MAX_SOUNDS:
                continue
            centres.append(f)
    kinds = np.argmax(features @ np.stack(centres).T, axis=1)
    for _ in range(5):
        means = [features[kinds == k].mean(0) if (kinds == k).any() else centres[k] for k in range(len(centres))]
        centres = [m / max(1e-9, float(np.linalg.norm(m))) for m in means]
        kinds = np.argmax(features @ np.stack(centres).T, axis=1)
    return kinds


def _common(kinds: np.ndarray) -> list[int]:
    """The most common kinds first"""
    counts = np.bincount(kinds)
    order = [int(k) for k in np.argsort(-counts, kind="stable")[:MAX_SOUNDS]]
    return [k for k in order if counts[k] >= max(1, MIN_SHARE * len(kinds))]


def _notes(cuts: list[_Cut], kinds: np.ndarray, found: FoundMusic) -> set[int]:
    """The kinds that begin again and again in the music's own loops: these play them already"""
    frames = np.array([cut.frame for cut in cuts])
    inside = np.isin(frames, np.concatenate([*found.rows, [-1]]))
    return set(np.flatnonzero(np.bincount(kinds[inside], minlength=1) >= NOTES).tolist())


def _loudness(sound: np.ndarray, rate: int) -> float:
    """Of its first tenth of a second"""
    return float(np.sqrt(np.square(sound[: rate // 10]).mean()))


def faded(sound: np.ndarray, rate: int) -> np.ndarray:
    """-> int16, its end and its first milliseconds faded, so that neither clicks"""
    out = sound.astype(np.float32).copy()
    end, begin = min(len(out), round(FADE_SECONDS * rate)), min(len(out), round(LEAD_SECONDS * rate / 2))
    out[len(out) - end :] *= np.linspace(1, 0, end)[:, None]
    out[:begin] *= np.linspace(0, 1, begin)[:, None]
    return (np.clip(out, -1, 1) * 32767).astype(np.int16)
