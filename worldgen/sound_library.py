"""A library of recorded sounds that a world can play, in WORLD/sounds/library.npz. Torch-free."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldgen.errors import InputError
from worldgen.files import write_bytes

LIBRARY = Path("sounds") / "library.npz"


@dataclass(frozen=True)
class SoundLibrary:
    """sound (total, channels) int16: the clips, end to end. starts (k + 1,) int64: where each begins. names (k,): what
    they are called. sample_rate: in Hz; samples: of a frame. num_music: the last so many clips are music, which loops;
    the others are effects."""

    sound: np.ndarray
    starts: np.ndarray
    names: tuple[str, ...]
    sample_rate: int
    samples: int
    num_music: int = 0

    def __len__(self) -> int:
        return len(self.names)

    @property
    def channels(self) -> int:
        return self.sound.shape[1]

    @property
    def num_effects(self) -> int:
        return len(self) - self.num_music

    def clip(self, k: int) -> np.ndarray:
        """(length, channels) int16"""
        return self.sound[self.starts[k] : self.starts[k + 1]]

    def music(self, track: int) -> np.ndarray:
        """(length, channels) int16"""
        return self.clip(self.num_effects + track)

    @classmethod
    def of(cls, clips: list[np.ndarray], names: list[str], sample_rate: int, samples: int, num_music: int = 0):
        """clips: (length, channels) int16 each"""
        starts = np.append(0, np.cumsum([len(c) for c in clips])).astype(np.int64)
        return cls(np.concatenate(clips), starts, tuple(names), sample_rate, samples, num_music)

    def save(self, folder: Path) -> None:
        (folder / LIBRARY).parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        facts = np.array([self.sample_rate, self.samples, self.num_music])
        np.savez_compressed(buffer, sound=self.sound, starts=self.starts, names=np.array(self.names), facts=facts)
        write_bytes(folder / LIBRARY, buffer.getvalue())

    @classmethod
    def load(cls, folder: Path) -> SoundLibrary | None:
        """None where there is none. Raises InputError where it is damaged."""
        path = folder / LIBRARY
        try:
            with np.load(path, allow_pickle=False) as arrays:
                sound, starts, facts = arrays["sound"], arrays["starts"], arrays["facts"]
                library = cls(sound, starts, tuple(str(n) for n in arrays["names"]), *(int(x) for x in facts[:3]))
        except FileNotFoundError:
            return None
        except Exception as error:  # zipfile, zlib and numpy each raise their own
            raise InputError(f"{path} is damaged: {error}") from None
        is_whole = sound.ndim == 2 and sound.dtype == np.int16 and sound.shape[1] in (1, 2) and library.samples > 0
        is_whole = is_whole and 0 <= library.num_music <= len(library)
        if not is_whole or len(starts) != len(library) + 1 or (np.diff(starts) < 1).any() or starts[-1] != len(sound):
            raise InputError(f"{path} is damaged: its clips do not fit together")
        return library


class Mixer:
    """Plays clips of a library over one another. Its state is an array: (b, VOICES, 3) float32, of each voice the clip
    (-1: none), how far it is in samples (below 0: it begins later in this frame) and its gain."""

    VOICES = 6

    def __init__(self, library: SoundLibrary):
        self._library = library

    def empty(self, b: int) -> np.ndarray:
        voices = np.zeros((b, self.VOICES, 3), np.float32)
        voices[:, :, 0] = -1
        return voices

    def start(self, voices: np.ndarray, clip: int, delay: int, gain: float) -> np.ndarray:
        """voices (VOICES, 3) of one game; delay: samples until it begins. A voice that is free takes it, else the one
        that has played longest."""
        voices = voices.copy()
        free = np.flatnonzero(voices[:, 0] < 0)
        voice = free[0] if len(free) else int(np.argmax(voices[:, 1]))
        voices[voice] = clip, -delay, gain
        return voices

    def play(self, voices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The next frame of one game: voices (VOICES, 3) -> (samples, channels) float32 in [-1, 1], voices"""
        library, n = self._library, self._library.samples
        out = np.zeros((n, library.channels), np.float32)
        voices = voices.copy()
        for voice in voices:
            if voice[0] < 0:
                continue
            clip, at = library.clip(int(voice[0])), int(voice[1])
            part = clip[max(0, at) : at + n].astype(np.float32) / 32768
            begin = max(0, -at)
            out[begin : begin + len(part)] += voice[2] * part
            voice[1] += n
            if voice[1] >= len(clip):
                voice[:] = -1, 0, 0
        return np.clip(out, -1, 1), voices
