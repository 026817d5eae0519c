"""In which frames of recordings a sound begins, and where in them; clips that hold one; and the threshold at which a
head lets as many begin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from worldgen.data.dataset import ClipSampler, Segments
from worldgen.onsets import onset_places
from worldgen.training.hidden_states import HiddenStates, every_second
from worldgen.training.recorded_sound import RecordedSound
from worldgen.training.sound_metrics import match_onsets

THRESHOLDS = np.append([0.01, 0.02, 0.03], np.linspace(0.05, 0.95, 19))


def recorded_onset_places(recorded: RecordedSound, segments: Segments) -> np.ndarray:
    """(N,) float32: where in each frame of the cache the first sound begins, in [0, 1); -1 where none does, or the
    frame is in none of the segments"""
    places = np.full(len(recorded.sound), -1, np.float32)
    for start, stop in segments:
        places[start:stop] = onset_places(recorded.rows(np.arange(start, stop)), recorded.format.sample_rate)
    return places


def onset_f1(made: np.ndarray, real: np.ndarray) -> tuple[float, int, int]:
    """made, real (b, t) bool -> F1 of onsets within one frame of each other, how many were made, how many there are"""
    hits = sum(
        match_onsets(np.flatnonzero(a).astype(float), np.flatnonzero(b).astype(float), 1.0).hits
        for a, b in zip(made, real, strict=True)
    )
    return 2 * hits / max(1, int(made.sum() + real.sum())), int(made.sum()), int(real.sum())


def balance(network, onsets: Callable[[Any], tuple[np.ndarray, np.ndarray]]) -> None:
    """Sets network.threshold so that as many sounds begin as should. onsets: network -> what it lets begin in held-out
    clips, and what begins, (b, t) bool each"""
    counts = []
    for threshold in THRESHOLDS:
        network.threshold.fill_(float(threshold))
        made, real = onsets(network)
        counts.append(abs(int(made.sum()) - int(real.sum())))
    network.threshold.fill_(float(THRESHOLDS[int(np.argmin(counts))]))


class OnsetClips:
    """Draws clips of which a share hold the beginning of a sound, anywhere in them."""

    def __init__(self, sampler: ClipSampler, begins: np.ndarray, share: float = 0.5):
        """begins (N,) bool, of the frames of the cache"""
        starts = sampler.all_starts()
        before = np.append(0, np.cumsum(begins))
        self._sampler, self._share = sampler, share
        self._starts = starts[before[starts + sampler.length] > before[starts]]

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """The frames (count,) at which they begin"""
        starts = self._sampler.draw(rng, count)
        if len(self._starts):
            starts[: int(self._share * count)] = rng.choice(self._starts, int(self._share * count))
        return starts


class PlayedClips:
    """Draws clips of recorded frames and, every second one, of played ones, each of which is of one play."""

    def __init__(self, hidden: HiddenStates, sampler: ClipSampler, begins: np.ndarray):
        """begins: as of OnsetClips"""
        samplers = sampler, hidden.in_one_play(sampler)
        self._clips, self._played = (OnsetClips(each, begins) for each in samplers)

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """The frames (count,) at which they begin; which are played ones: every_second(count)"""
        return np.where(every_second(count), self._played.draw(rng, count), self._clips.draw(rng, count))
