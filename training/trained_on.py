"""Which recordings a world has learned from, told by what they hold: WORLD/trained_on.json, which travels with it.

So that a world that was published or moved still knows which recordings are held out, whatever they are called.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldgen.bundle import TRAINED_ON
from worldgen.data.cache import Cache
from worldgen.data.cache_build import checksum
from worldgen.data.container import cleaned_from
from worldgen.data.dataset import Segments
from worldgen.errors import InputError
from worldgen.files import write_json
from worldgen.training.native_frames import episode_files


@dataclass(frozen=True)
class TrainedOn:
    """recordings: by checksum, from which of its frames on a recording is held out; None where it is not.
    is_complete: False for a world that was fine-tuned from one that does not say what it was trained on."""

    recordings: dict[str, int | None]
    is_complete: bool = True

    def __or__(self, other: TrainedOn) -> TrainedOn:
        """What either of them has seen"""
        both = {**self.recordings, **other.recordings}
        for name in self.recordings.keys() & other.recordings.keys():
            first, second = self.recordings[name], other.recordings[name]
            both[name] = None if first is None or second is None else max(first, second)
        return TrainedOn(both, self.is_complete and other.is_complete)

    def save(self, world: Path) -> None:
        facts = {"is_complete": self.is_complete, "recordings": dict(sorted(self.recordings.items()))}
        write_json(world / TRAINED_ON, facts)

    @classmethod
    def load(cls, world: Path) -> TrainedOn | None:
        """None where the world does not say."""
        path = world / TRAINED_ON
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            recordings = {str(k): None if v is None else int(v) for k, v in raw["recordings"].items()}
            return cls(recordings, bool(raw["is_complete"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: not a list of what the world was trained on ({error!r}): remove it") from None

    @classmethod
    def of_split(cls, cache: Cache, data: Path, train: Segments, validation: Segments) -> TrainedOn:
        """Of the files that hold training segments."""
        hashes, firsts = file_hashes(cache, data), first_frames(cache)
        recordings: dict[str, int | None] = {}
        for start in train.starts:
            episode = int(np.searchsorted(cache.starts, start, side="right")) - 1
            if name := hashes[episode]:
                recordings[name] = None
        for start in validation.starts[::-1]:  # of a file that was split, the first one counts
            episode = int(np.searchsorted(cache.starts, start, side="right")) - 1
            if (name := hashes[episode]) in recordings:
                recordings[name] = int(start - firsts[episode])
        return cls(recordings)


def origins(cache: Cache, data: Path) -> list[str]:
    """The checksum of the recording that each episode's file was cleaned from (`check --fix`), "" of others"""
    files = episode_files(cache, data)
    known = {file: cleaned_from(file) for file in dict.fromkeys(files) if file is not None}
    return ["" if file is None else known[file] for file in files]


def file_hashes(cache: Cache, data: Path) -> list[str]:
    """The checksum of each episode's file, "" where it has gone"""
    files = episode_files(cache, data)
    known = {file: checksum(file) for file in dict.fromkeys(files) if file is not None}
    return ["" if file is None else known[file] for file in files]


def first_frames(cache: Cache) -> np.ndarray:
    """(E,) the frame of the cache at which each episode's file begins"""
    _, first, which = np.unique(cache.episode_files, return_index=True, return_inverse=True)
    return cache.starts[first][which]
