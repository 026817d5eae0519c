"""The worlds there are to play: the bundled ones and a person's own, found without opening their engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldgen.bundle import BUNDLED, Starts, bundled_worlds, find_world
from worldgen.config import WorldConfig
from worldgen.errors import InputError

MAX_FOLDERS = 2000  # looked into: a home folder is not searched for minutes


@dataclass(frozen=True)
class Found:
    """A world: name is what World.load takes. config and starts are None where `problem` says, in one line, why it
    cannot be played."""

    name: str
    folder: Path
    config: WorldConfig | None
    starts: Starts | None
    problem: str = ""

    @property
    def title(self) -> str:
        return self.folder.name if self.config is None else self.config.name

    @property
    def where(self) -> str:
        """Its size and rate, and the folder of one that is not bundled."""
        if self.config is None:
            return ""
        size = f"{self.config.width}x{self.config.height} {self.config.fps:g} fps"
        return size if self.folder.parent == BUNDLED else f"{size} in {self.name}"

    def preview(self, i: int) -> np.ndarray | None:
        """Frame i of its starts, one after another, over and over: (h, w, 3) uint8; None without any."""
        if self.starts is None or not len(self.starts.frames):
            return None
        s, t = self.starts.frames.shape[:2]
        i %= s * t
        return self.starts.frames[i // t, i % t]


def find_worlds(folders: Sequence[Path] = (Path("."),)) -> list[Found]:
    """The bundled worlds, then those in the folders: each itself, its folders and theirs (worlds/mine)."""
    found = [_look_at(_bundled_name(name), BUNDLED / name) for name in bundled_worlds()]
    seen = {world.folder.resolve() for world in found}
    for folder in folders:
        for place in [folder, *_folders_in(folder)]:
            if (place / "world.json").is_file() and place.resolve() not in seen:
                seen.add(place.resolve())
                found.append(_look_at(str(place), place))
    return found


def _bundled_name(name: str) -> str:
    """Its path where a world in the folder of that name would be taken for it."""
    return name if find_world(name) == BUNDLED / name else str(BUNDLED / name)


def _folders_in(folder: Path) -> list[Path]:
    places: list[Path] = []
    for pattern in ("*/", "*/*/"):
        try:
            for i, place in enumerate(folder.glob(pattern)):
                if i >= MAX_FOLDERS:
                    break
                if not any(part.startswith(".") for part in place.relative_to(folder).parts):
                    places.append(place)
        except OSError:  # a folder that may not be read holds no world for this person
            continue
    return sorted(places)


def _look_at(name: str, folder: Path) -> Found:
    try:
        config, starts = WorldConfig.load(folder / "world.json"), Starts.load(folder)
        if starts is not None and (starts.frames.ndim != 5 or starts.frames.dtype != np.uint8):
            raise InputError(f"{folder}: its starts are damaged")
        if not (folder / "onnx" / "manifest.json").is_file() and not (folder / "dynamics").is_dir():
            raise InputError("not trained yet")
        return Found(name, folder, config, starts)
    except (InputError, OSError) as error:
        return Found(name, folder, None, None, str(error))
