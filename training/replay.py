"""Held-out clips beside what a world makes of them: what every figure of the picture is taken from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from worldgen.training.rollout import PROMPT, reconstruct, rollout
from worldgen.training.watch import OnProgress, unheard
from worldgen.world import World


@dataclass(frozen=True)
class Replay:
    """b clips. Frame i of real, made and restored is i + 1 frames after the prompt.

    last: (b, h, w, 3), the last true frame of the prompt; shown: that frame as the world shows it.
    real, made: (b, t, h, w, 3), recorded and generated under the recorded actions.
    restored_last (b, h, w, 3), restored (b, t, h, w, 3): what the tokenizer alone makes of the real ones.
    actions: (b, t, width), row i led to frame i. episode: (b,), where each clip is from. All frames uint8.
    """

    last: np.ndarray
    shown: np.ndarray
    real: np.ndarray
    made: np.ndarray
    restored: np.ndarray
    restored_last: np.ndarray
    actions: np.ndarray
    episode: np.ndarray

    @property
    def num_frames(self) -> int:
        return self.real.shape[1]


def replay(
    world: World,
    frames: np.ndarray,
    actions: np.ndarray,
    episode: np.ndarray,
    steps: int,
    seed: int = 0,
    on_frames: OnProgress = unheard,
) -> Replay:
    """frames (b, PROMPT + steps, h, w, 3) uint8, actions (b, PROMPT + steps, width), row i chosen on frame i"""
    made = rollout(world, frames, actions, steps, seed, on_frames)
    restored = reconstruct(world, frames)
    return Replay(
        last=frames[:, PROMPT - 1],
        shown=made.shown,
        real=frames[:, PROMPT:],
        made=made.frames,
        restored=restored[:, PROMPT:],
        restored_last=restored[:, PROMPT - 1],
        actions=actions[:, PROMPT - 1 : -1],
        episode=episode,
    )
