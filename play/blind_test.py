"""A blind test: short clips, real or generated? The answers of a person are counted and kept (GameNGen, section 5.1).

Both kinds begin with the same kind of prompt, obey recorded actions, and have the same size, rate and length.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.errors import InputError
from worldgen.files import write_json
from worldgen.play.recorded_clips import PROMPT, RecordedClip, RecordedClips

if TYPE_CHECKING:
    from worldgen.world import World

SECONDS = 3.2  # of a clip, the longer of GameNGen's two
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Answer:
    """file, offset: where the clip, or its prompt, was recorded. seconds: the person took."""

    file: str
    offset: int
    is_real: bool
    said_real: bool
    seconds: float


@dataclass
class Tally:
    """The answers of one world's test."""

    world: str
    world_hash: str
    nfe: int
    clip_seconds: float = SECONDS
    answers: list[Answer] = field(default_factory=list)

    @property
    def num_right(self) -> int:
        return sum(a.is_real == a.said_real for a in self.answers)

    def summary(self) -> dict[str, Any]:
        """accuracy 0.5: the person cannot tell. interval: 95 %, Wilson."""
        n, right = len(self.answers), self.num_right
        real = [a for a in self.answers if a.is_real]
        made = [a for a in self.answers if not a.is_real]
        return {
            "num_clips": n,
            "num_right": right,
            "accuracy": round(right / n, 4) if n else None,
            "interval": [round(x, 4) for x in wilson(right, n)] if n else None,
            "real_called_real": round(sum(a.said_real for a in real) / len(real), 4) if real else None,
            "generated_called_real": round(sum(a.said_real for a in made) / len(made), 4) if made else None,
        }

    def save(self, path: Path) -> None:
        write_json(path, {"format_version": FORMAT_VERSION, **asdict(self), **self.summary()})

    @classmethod
    def load_or_new(cls, path: Path, world: World) -> Tally:
        """Goes on with the file's answers where they are of the same world."""
        new = cls(world.config.name, world.hash, world.nfe)
        if not path.exists():
            return new
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            answers = [Answer(**answer) for answer in raw["answers"]]
            same = (raw["world_hash"], raw["nfe"]) == (new.world_hash, new.nfe)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no tally of a blind test ({error}): choose another --tally") from None
        if not same:
            raise InputError(f"{path} is the tally of another world or nfe: choose another --tally")
        new.answers = answers
        return new


class BlindTest:
    """question() gives the next clip, answer() takes what a person says of it."""

    def __init__(self, world: World, clips: RecordedClips, seed: int = 0):
        self._world, self._clips = world, clips
        self._rng = np.random.default_rng([seed, 1])

    def question(self) -> tuple[RecordedClip, np.ndarray, bool]:
        """-> the clip, the frames (t, h, w, 3) uint8 to show (the prompt is not), whether they are real"""
        clip, is_real = self._clips.next(), bool(self._rng.random() < 0.5)
        if is_real:
            return clip, clip.frames[PROMPT:], True
        self._world.reset(seed=int(self._rng.integers(2**31)), start=clip.prompt)
        made = [self._world.step(action).image for action in clip.actions[PROMPT - 1 :]]
        return clip, np.stack(made), False


def num_frames(fps: float) -> int:
    """Of a clip of the test, with its prompt."""
    return PROMPT + max(1, round(SECONDS * fps))


def wilson(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share k / n."""
    p = k / n
    middle, half = p + z * z / (2 * n), z * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
