"""What a Pyxel game would be heard playing, rebuilt frame by frame without a sound card.

Pyxel renders any of its sounds to a file, and its mix is a plain sum: four channels rebuilt from renderings differ from
Pyxel's own rendering of a whole piece of music by rounding alone (under 1/32768). So every play() is rendered when it
is called, and a frame is the sum of what its channels hold at that time. Not rebuilt: a waveform's phase when a piece
starts again, sounds started through Channel objects, the filter's ringing where one sound cuts another off.
"""

from __future__ import annotations

import hashlib
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

PYXEL_RATE = 22_050
CHANNELS = 4
DEFAULT_GAIN = 0.125
ENDLESS_SECONDS = 60.0  # how much is rendered of a sound that repeats itself for ever


@dataclass
class Track:
    """What a channel plays. samples: all of it; position: the next one, fractional at other rates than Pyxel's."""

    samples: np.ndarray
    is_looping: bool
    position: float = 0.0
    under: Track | None = None  # goes on unheard, and is heard again afterwards

    @property
    def is_over(self) -> bool:
        return not self.is_looping and self.position >= len(self.samples)


class Mixer:
    """Stands in for Pyxel's play, playm, stop and play_pos, and says what was heard.

    folder: keeps renderings (a minute of music takes a second), for this process and the next.
    """

    def __init__(self, pyxel: Any, folder: Path, sample_rate: int):
        self._pyxel = pyxel
        self._folder = folder
        self._ratio = PYXEL_RATE / sample_rate
        self._tracks: list[Track | None] = [None] * CHANNELS
        pyxel.play, pyxel.playm, pyxel.stop, pyxel.play_pos = self.play, self.playm, self.stop, self.play_pos

    def play(
        self,
        ch: int,
        snd: Any,
        sec: float = 0,
        loop: bool = False,
        resume: bool = False,
        *,
        tick: int | None = None,
    ) -> None:
        sounds = snd if isinstance(snd, (list, tuple)) else [snd]
        samples = np.concatenate([self._render(s) for s in sounds]) if len(sounds) else np.zeros(0)
        if len(samples) == 0:
            return
        if tick is not None:
            sec = tick / 120
        if not loop:  # what the low-pass filter lets go of at the end, instead of a click
            samples = np.concatenate([samples, samples[-1] * 0.99 ** np.arange(1, 400)])
        self._tracks[ch] = Track(samples, loop, sec * PYXEL_RATE, self._tracks[ch] if resume else None)

    def playm(self, msc: int, sec: float = 0, loop: bool = False, *, tick: int | None = None) -> None:
        for channel, sounds in enumerate(self._pyxel.musics[msc].seqs):
            if len(sounds):
                self.play(channel, list(sounds), sec, loop, tick=tick)

    def stop(self, ch: int | None = None) -> None:
        for channel in range(CHANNELS) if ch is None else [ch]:
            self._tracks[channel] = None

    def play_pos(self, ch: int) -> tuple[int, float] | None:
        track = self._tracks[ch]
        return None if track is None else (0, track.position / PYXEL_RATE)

    def listen(self, num_samples: int) -> np.ndarray:
        """The next samples that are heard: (num_samples, 1) int16."""
        mix = np.zeros(num_samples)
        for channel in range(CHANNELS):
            gain = self._pyxel.channels[channel].gain / DEFAULT_GAIN
            mix += gain * self._read(channel, num_samples)
        return mix.clip(-32768, 32767).astype(np.int16)[:, None]

    def _read(self, channel: int, count: int) -> np.ndarray:
        out = np.zeros(count)
        filled = 0
        while filled < count and (track := self._tracks[channel]) is not None:
            length = len(track.samples)
            at = track.position + self._ratio * np.arange(count - filled)
            at = at % length if track.is_looping else at[at < length]
            out[filled : filled + len(at)] = _between(track.samples, at)
            filled += len(at)
            self._pass(track, self._ratio * max(1, len(at)))
            if track.is_over:
                self._tracks[channel] = track.under
        return out

    def _pass(self, track: Track, samples: float) -> None:
        track.position += samples
        if track.is_looping:
            track.position %= len(track.samples)
        if track.under is not None:
            self._pass(track.under, samples)
            if track.under.is_over:
                track.under = track.under.under

    def _render(self, snd: Any) -> np.ndarray:
        """One sound, by number, as an object or written in MML -> its samples at PYXEL_RATE, float."""
        if isinstance(snd, str):
            sound = self._pyxel.Sound()
            sound.mml(snd)
        else:
            sound = self._pyxel.sounds[snd] if isinstance(snd, int) else snd
        seconds = sound.total_sec()
        seconds = ENDLESS_SECONDS if seconds is None else seconds
        if round(seconds * PYXEL_RATE) == 0:
            return np.zeros(0)
        # only a sound made of notes says what it holds; one written in MML is rendered each time
        is_known = len(sound.notes) > 0 and abs(seconds - len(sound.notes) * sound.speed / 120) < 1e-4
        kept = self._folder / f"{self._fingerprint(sound)}.npy"
        if is_known and kept.is_file():
            return np.load(kept)
        sound.save(str(self._folder / "sound.wav"), seconds)
        with wave.open(str(self._folder / "sound.wav")) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float64)
        samples = samples[: round(seconds * PYXEL_RATE)]
        if is_known:
            np.save(kept, samples)
        return samples

    def _fingerprint(self, sound: Any) -> str:
        tones = [(tone.mode, tone.gain, list(tone.wavetable)) for tone in self._pyxel.tones]
        content = [list(x) for x in (sound.notes, sound.tones, sound.volumes, sound.effects)]
        return hashlib.sha256(repr((content, sound.speed, tones)).encode()).hexdigest()[:32]


def _between(samples: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Samples at fractional positions, the end followed by the start: (n,)"""
    before = at.astype(np.int64)
    share = at - before
    after = (before + 1) % len(samples)
    return (1 - share) * samples[before] + share * samples[after]
