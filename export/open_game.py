"""Games of a world's folder on an engine that is open already: to time the engine, or to compare it with another."""

from __future__ import annotations

from pathlib import Path

from worldgen.backends import Backend
from worldgen.bundle import Starts
from worldgen.config import WorldConfig
from worldgen.sound_library import SoundLibrary
from worldgen.world import World


def open_game(
    folder: Path, backend: Backend, batch: int | None = None, *, upscale: bool = True, between: bool = False
) -> World:
    """As World's constructor takes them; with the folder's starts and recorded sounds."""
    config, starts = WorldConfig.load(folder / "world.json"), Starts.load(folder)
    library = SoundLibrary.load(folder)
    return World(config, backend, starts, batch, upscale=upscale, between=between, library=library)
