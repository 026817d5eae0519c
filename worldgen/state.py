"""What a world shows, and where its games are: values that step() and snapshot() give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from worldgen.backends import Array


@dataclass(frozen=True)
class Frame:
    """What a world shows. With batch=n every field has a leading axis n.

    image: (h, w, 3) uint8. sound: (samples, channels) float32 in [-1, 1], what is heard while the frame is on screen;
        None where the world is silent.
    reward: float32. terminated: bool. Arrays are the caller's own. end_probability: what terminated was decided from,
        float32 in 0..1; None where nothing was played, or without a head.
    uncertainty: how unlike recorded frames it is, float32, above 1 for 1 % of those; NaN for games that stayed as they
        were, None in a world without statistics.
    between: (h, w, 3) uint8, the picture half way from the frame before to this one, to be shown first; None unless
        World.shows_between, and with the first frame after a reset or a restored moment.
    """

    image: np.ndarray
    sound: np.ndarray | None
    reward: np.ndarray | float
    terminated: np.ndarray | bool
    end_probability: np.ndarray | float | None = None
    uncertainty: np.ndarray | float | None = None
    between: np.ndarray | None = None


@dataclass(frozen=True)
class State:
    """Where b games are, as values: what snapshot() gives and restore() takes.

    seed (b,) uint64; step (b,) int64 frames since the start; cache (b, l, 2, m, k, s, e); previous (b, p, n, d), the
    last frame's tokens, and those of the last p - 1 frames as the dynamics saw them; decoder (b, r, n, c); upscale
    (b, h, w, 3), sound (b, ...), None without; image (b, h, w, 3) uint8, the frame on screen; world: hash of the
    weights it belongs to; hidden (b, m, c) of the frame on screen, None unless World.keeps_hidden.
    """

    seed: np.ndarray
    step: np.ndarray
    cache: Array
    previous: Array
    decoder: Array
    upscale: Array | None
    sound: Array | None
    image: Array
    world: str
    hidden: Array | None = None

    def __len__(self) -> int:
        return len(self.seed)

    def __getitem__(self, rows: np.ndarray | slice) -> State:
        """Some of the games, or some of them several times."""
        return State(
            seed=self.seed[rows],
            step=self.step[rows],
            cache=self.cache[rows],
            previous=self.previous[rows],
            decoder=self.decoder[rows],
            upscale=None if self.upscale is None else self.upscale[rows],
            sound=None if self.sound is None else self.sound[rows],
            image=self.image[rows],
            world=self.world,
            hidden=None if self.hidden is None else self.hidden[rows],
        )

    def copied(self, numpy: Callable[[Array], np.ndarray], cache: np.ndarray) -> State:
        """In numpy's memory, with this cache, which is one's own already."""
        return State(
            seed=self.seed.copy(),
            step=self.step.copy(),
            cache=cache,
            previous=numpy(self.previous),
            decoder=numpy(self.decoder),
            upscale=None if self.upscale is None else numpy(self.upscale),
            sound=None if self.sound is None else numpy(self.sound),
            image=numpy(self.image),
            world=self.world,
            hidden=None if self.hidden is None else numpy(self.hidden),
        )

    def merged(self, rows: np.ndarray, new: State, put: Callable[[Array, np.ndarray, Array], Array]) -> State:
        """With the games of `new` in these slots, in their order; put: as Backend.put."""
        if not rows.size:
            return self
        seed, step = self.seed.copy(), self.step.copy()
        seed[rows], step[rows] = new.seed, new.step
        return State(
            seed=seed,
            step=step,
            cache=put(self.cache, rows, new.cache),
            previous=put(self.previous, rows, new.previous),
            decoder=put(self.decoder, rows, new.decoder),
            upscale=None if self.upscale is None else put(self.upscale, rows, new.upscale),
            sound=None if self.sound is None else put(self.sound, rows, new.sound),
            image=put(self.image, rows, new.image),
            world=new.world,
            hidden=None if self.hidden is None or new.hidden is None else put(self.hidden, rows, new.hidden),
        )
