"""Worlds that know the toy game of conftest.py, and worlds that fail it in one known way."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
from conftest import FPS, SIDE, TOY_ACTIONS, move, toy_frame

from worldgen.config import WorldConfig
from worldgen.graphs import GraphSpec, TensorSpec
from worldgen.world import Frame


class OracleWorld:
    """Plays the toy game perfectly from a prompt, through the parts of World's interface that evaluation uses.

    reads: what it takes an action for; None ignores actions: the picture is frozen. paints: what it does to a frame
    before showing it. ends_after: steps after which it says that the game has ended.
    """

    backend_name, hash, nfe = "oracle", "0" * 16, 1
    engine = {"backend": "oracle", "version": "1", "device": "cpu", "threads": 1}

    def __init__(
        self,
        batch: int,
        *,
        reads: Callable[[int], int | None] = lambda action: action,
        paints: Callable[[np.ndarray], np.ndarray] = lambda frame: frame,
        reward: Callable[[float], float] = lambda reward: reward,
        ends_after: int | None = None,
    ):
        self.config = WorldConfig(
            "oracle", SIDE, SIDE, FPS, TOY_ACTIONS, context=4, has_reward=True, has_terminated=True
        )
        self.batch = batch
        self._reads, self._paints, self._reward, self._ends_after = reads, paints, reward, ends_after

    def reset(self, seed, *, start, start_actions=None) -> Frame:
        assert start.shape[0] == len(seed) == self.batch
        self._frames, self._step = start[:, -1].copy(), 0
        return self._show(np.zeros(self.batch))

    def step(self, actions) -> Frame:
        self._step += 1
        rewards = np.zeros(self.batch)
        for i, action in enumerate(actions):
            read = self._reads(int(action))
            if read is not None:
                place = place_of(self._frames[i])
                floor = self._frames[i][tuple((place + 8) % SIDE)].copy()
                self._frames[i][place[0] : place[0] + 4, place[1] : place[1] + 4] = floor
                place = move(place, read)
                self._frames[i][place[0] : place[0] + 4, place[1] : place[1] + 4] = (240, 220, 60)
            rewards[i] = self._reward(float((place_of(self._frames[i]) < 7).all()))
        return self._show(rewards)

    def reconstruct(self, frames: np.ndarray) -> np.ndarray:
        return np.stack([np.stack([self._paints(frame) for frame in clip]) for clip in frames])

    def _show(self, rewards: np.ndarray) -> Frame:
        image = np.stack([self._paints(frame) for frame in self._frames])
        return Frame(image, None, rewards.astype(np.float32), np.full(self.batch, self._step == self._ends_after))


def place_of(frame: np.ndarray) -> np.ndarray:
    """Top left corner of the square: it is the only thing with that much red, and recording moves colours little."""
    y, x = np.nonzero(frame[..., 0] > 140)
    return np.array([y.min(), x.min()])


def blurred(frame: np.ndarray) -> np.ndarray:
    padded = np.pad(frame.astype(np.float32), ((1, 1), (1, 1), (0, 0)), mode="edge")
    shifts = [padded[i : i + SIDE, j : j + SIDE] for i in range(3) for j in range(3)]
    return np.mean(shifts, axis=0).astype(np.uint8)


class MeltingWorld(OracleWorld):
    """Plays perfectly, but every frame shows a little less of the game and more of a grey."""

    def _show(self, rewards: np.ndarray) -> Frame:
        frame = super()._show(rewards)
        left = 0.97**self._step
        return Frame((left * frame.image + (1 - left) * 128).astype(np.uint8), None, frame.reward, frame.terminated)


class OracleBackend:
    """The graphs of a world that knows the toy game: its tokens are the pixels, and it reads the next frame off the
    previous one and the action. reads: as of OracleWorld. Its guess carries a little of the noise it is given."""

    name, weights_hash, position_period = "oracle", "0" * 16, 64
    facts = {"version": "1", "device": "cpu", "threads": 1}

    def __init__(self, reads: Callable[[int], int | None] = lambda action: action):
        tokens = TensorSpec("tokens", "float32", (SIDE * SIDE, 3))
        state, cache = TensorSpec("state", "float32", (1,)), TensorSpec("cache", "float32", (1, 4, 1))
        self.specs = {
            "encode": GraphSpec("encode", (state,), (tokens,)),
            "denoise": GraphSpec("denoise", (cache,), (tokens,)),
            "commit": GraphSpec("commit", (cache, TensorSpec("previous", "float32", tokens.shape)), ()),
        }
        self._reads = reads

    def run(self, graph: str, inputs):
        if graph == "encode":
            frame = inputs["frame"].astype(np.float32) / 127.5 - 1
            return {"tokens": frame.reshape(len(frame), -1, 3), "next_state": inputs["state"]}
        if graph == "commit":
            return {"next_cache": inputs["cache"], "next_previous": inputs["tokens"]}
        frames = np.round((inputs["previous"] + 1) * 127.5).astype(np.uint8).reshape(-1, SIDE, SIDE, 3)
        world = OracleWorld(len(frames), reads=self._reads)
        world.reset([0] * len(frames), start=frames[:, None])
        made = world.step(inputs["action"][:, 0]).image.astype(np.float32) / 127.5 - 1
        return {"tokens": made.reshape(len(made), -1, 3) + 0.02 * inputs["noisy"]}

    def asarray(self, x: np.ndarray) -> np.ndarray:
        return x

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return x.copy()


class ToyFork:
    """The game that record_toy() records, played for real: same seed and actions, same frames. It can be forked."""

    def __init__(self, source: str = "toy", fps: float = FPS, ends_after: int | None = None):
        assert (source, fps) == ("toy", FPS)
        self._ends_after = ends_after

    def reset(self, seed: int):
        self._seed, self._step = seed, 0
        self._place = np.random.default_rng(seed).integers(0, 8, 2) * 2
        return self._show()

    def step(self, action: int):
        self._place, self._step = move(self._place, action), self._step + 1
        return self._show()

    def save(self) -> bytes:
        return json.dumps([self._seed, self._step, self._place.tolist()]).encode()

    def load(self, state: bytes) -> None:
        self._seed, self._step, place = json.loads(state)
        self._place = np.array(place)

    def close(self) -> None:
        pass

    def _show(self):
        is_over = self._step == self._ends_after
        return SimpleNamespace(image=toy_frame(self._place, self._seed), terminated=is_over, truncated=False)
