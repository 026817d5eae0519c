"""Worlds for the tests of the environments: the tiny world, made to end, to sound or to lack something on purpose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.world import Frame, World

SAMPLES = 80  # of sound a frame


class EndlessWorld(World):
    """No game ends by itself."""

    def step(self, action: Any, **how: Any) -> Frame:
        frame = super().step(action, **how)
        return replace(frame, terminated=False if self.batch is None else np.zeros(self.batch, bool))


class MortalWorld(World):
    """A game ends with about one frame in six, by what it shows: whatever the heads of an untrained world say."""

    def step(self, action: Any, **how: Any) -> Frame:
        frame = super().step(action, **how)
        ends = frame.image.sum((-3, -2, -1)) % 6 == 0
        return replace(frame, terminated=bool(ends) if self.batch is None else ends)


class SoundingWorld(MortalWorld):
    """A frame sounds as bright as it is."""

    sample_rate = 800

    def step(self, action: Any, **how: Any) -> Frame:
        frame = super().step(action, **how)
        loudness = frame.image.astype(np.float32).mean((-3, -2, -1)) / 255
        return replace(frame, sound=np.multiply.outer(loudness, np.ones((SAMPLES, 1), np.float32)))


def headless(folder: Path, **config: Any) -> World:
    """A world whose config says that it lacks heads."""
    world = World.load(folder)
    world.config = replace(world.config, **config)
    return world
