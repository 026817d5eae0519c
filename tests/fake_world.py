"""A world without networks, for tests of the player and the environments: a dot that the arrow keys push about.

It has World's API (contract C4). Everything it shows follows from its seed, start and actions, its noise included.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from worldgen.actions import ActionMap
from worldgen.config import WorldConfig
from worldgen.errors import InputError
from worldgen.world import Frame

ACTIONS = ActionMap.discrete(
    ["idle", "left", "right", "up", "down", "jump"], [(), ("left",), ("right",), ("up",), ("down",), ("space",)]
)
PUSHES = np.array([[0, 0], [0, -1], [0, 1], [-1, 0], [1, 0], [0, 4]])


@dataclass(frozen=True)
class FakeState:
    hash: str
    seed: int
    step: int
    place: np.ndarray
    background: np.ndarray


class FakeWorld:
    """frame_seconds: that a step takes. ends_after: steps until an episode terminates. sample_rate: None is silent."""

    backend_name = "fake"
    num_starts = 4
    starts = None
    channels = 1

    def __init__(
        self,
        *,
        height: int = 24,
        width: int = 32,
        fps: float = 30,
        scale: int = 1,
        sample_rate: int | None = None,
        ends_after: int | None = None,
        frame_seconds: float = 0.0,
        actions: ActionMap = ACTIONS,
        hash: str = "f" * 64,
        between: bool = False,
    ):
        self.config = WorldConfig("fake", height, width, fps, actions, context=8, has_terminated=ends_after is not None)
        self.sample_rate = sample_rate
        self.hash = hash
        self.nfe = 2
        self.upscaling = "network" if scale > 1 else "off"
        self.has_between = self.shows_between = between
        self._before: np.ndarray | None = None
        self.uncertainty: float | None = None
        self.sound = "off" if sample_rate is None else "generated"
        self.calls: list[object] = []
        self._scale, self._ends_after, self._frame_seconds = scale, ends_after, frame_seconds
        self._state: FakeState | None = None

    @property
    def image_size(self) -> tuple[int, int]:
        return self.config.height * self._scale, self.config.width * self._scale

    def reset(self, seed: int = 0, start: int | np.ndarray | None = None) -> Frame:
        h, w = self.config.height, self.config.width
        background = np.zeros((h, w, 3), np.uint8)
        if isinstance(start, np.ndarray):
            if start.shape[-3:] != (h, w, 3):
                raise InputError(f"start has shape {start.shape}")
            background = start.reshape(-1, h, w, 3)[-1]
        elif start is not None:
            background[:] = 10 + 10 * start
        place = np.random.default_rng(seed).integers([h, w])
        self.calls.append(("reset", seed))
        self._state, self._before = FakeState(self.hash, seed, 0, place, background), None
        return replace(self._frame(), sound=None)

    def step(self, action: object) -> Frame:
        assert self._state is not None, "reset() comes first"
        if self._frame_seconds:
            time.sleep(self._frame_seconds)
        row = self.config.actions.encode(action)
        push = PUSHES[row[0]] if self.config.actions == ACTIONS else np.resize(row, 2).astype(int)
        place = (self._state.place + push * self.nfe) % [self.config.height, self.config.width]
        self.calls.append(action)
        self._state = replace(self._state, step=self._state.step + 1, place=place)
        frame, before = self._frame(), self._before
        self._before = frame.image
        if not self.shows_between or before is None:
            return frame
        return replace(frame, between=before // 2 + frame.image // 2)

    def snapshot(self) -> FakeState:
        return self._state

    def restore(self, state: FakeState) -> None:
        if state.hash != self.hash:
            raise InputError("a snapshot of another world")
        self._state, self._before = state, None

    mark = snapshot

    def unwind(self, mark: FakeState) -> None:
        if (mark.seed, mark.step + 1) != (self._state.seed, self._state.step):
            raise InputError("not the step that was played last")
        self._state = mark

    def _frame(self) -> Frame:
        state = self._state
        rng = np.random.default_rng([abs(state.seed), state.step])
        image = state.background | rng.integers(0, 8, state.background.shape, np.uint8)
        y, x = state.place
        image[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = (255, 220, 80)
        image = image.repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        if self.upscaling == "network":
            image[::2] ^= 1
        sound = None
        if self.sample_rate is not None:
            n = round(self.sample_rate / self.config.fps)
            t = np.arange(n) + state.step * n
            tone = 220 * (1 + x / self.config.width)
            sound = (0.2 * np.sin(2 * np.pi * tone * t / self.sample_rate)).astype(np.float32)[:, None]
        is_end = self._ends_after is not None and state.step >= self._ends_after
        return Frame(image, sound, 1.0 if is_end else 0.0, is_end, uncertainty=self.uncertainty)


class FakeWorldWithoutStarts(FakeWorld):
    num_starts = 0

    def reset(self, seed: int = 0, start: int | np.ndarray | None = None) -> Frame:
        if not isinstance(start, np.ndarray):
            raise InputError("this world has no starts: reset(start=FRAMES)")
        return super().reset(seed, start)
