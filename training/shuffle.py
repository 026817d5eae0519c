"""Does the dynamics use the action at all? Its loss with the actions of other clips, over its loss with the true ones.

Teacher-forced, on the engine's own graphs: true frames are encoded and committed one by one, and each next one is
predicted twice from the same pure noise, under the action that led to it and under that of another clip. Nothing else
differs, so 1.0 is a world that ignores actions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from worldgen import sampler
from worldgen.backends import Backend
from worldgen.config import NFE_CHOICES, WorldConfig
from worldgen.training.interval import Resampling, interval
from worldgen.training.rollout import PROMPT, led_to

FRAMES = 8  # predicted in each clip
MAX_BATCH = 32

KEYS = {
    "action_shuffle_ratio": "squared error of the predicted tokens under another clip's action, over that under the "
    "true one, from the same pure noise and only where the two actions differ: 1 is a world that ignores actions",
    "action_shuffle_ratio_90": "90 % interval, by resampling episodes",
    "action_shuffle_pairs": "predictions that it is taken over",
}


def shuffle_figures(
    backend: Backend, config: WorldConfig, frames: np.ndarray, actions: np.ndarray, episode: np.ndarray, seed: int = 0
) -> dict[str, Any]:
    """frames (b, t, h, w, 3) uint8, actions (b, t, width), row i chosen on frame i; episode (b,) -> the keys of KEYS"""
    b, t = actions.shape[:2]
    t = min(t, PROMPT + FRAMES)
    true = led_to(config.actions, actions[:, :t])
    rng = np.random.default_rng(seed)
    # frame by frame every clip takes the action of the clip some places on
    others = np.stack([np.roll(true[:, i], int(rng.integers(1, max(2, b))), axis=0) for i in range(t)], axis=1)
    differs = (others != true).any(-1)  # (b, t)
    differs[:, :PROMPT] = False
    true_error, other_error = np.zeros((b, t)), np.zeros((b, t))
    for begin in range(0, b, MAX_BATCH):
        rows = slice(begin, begin + MAX_BATCH)
        seeds = np.arange(begin, min(begin + MAX_BATCH, b), dtype=np.uint64) + np.uint64(seed)
        true_error[rows], other_error[rows] = _errors(
            backend, config, frames[rows, :t], true[rows], others[rows], seeds
        )
    with_true, with_other = (np.where(differs, e, 0).sum(1) for e in (true_error, other_error))
    draws = Resampling(episode).ratio(with_other, with_true)
    return {
        "action_shuffle_ratio": float(with_other.sum() / with_true.sum()) if differs.any() else float("nan"),
        "action_shuffle_ratio_90": interval(draws) if differs.any() else None,
        "action_shuffle_pairs": int(differs.sum()),
    }


def _errors(
    backend: Backend,
    config: WorldConfig,
    frames: np.ndarray,
    true: np.ndarray,
    others: np.ndarray,
    seeds: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean squared error of each frame's predicted tokens under the true and under other actions, (b, t) each"""
    b, t = true.shape[:2]
    specs, run, asarray = backend.specs, backend.run, backend.asarray
    shape = specs["denoise"].outputs[0].shape
    context = specs["commit"].input("cache").shape[-2]
    encoder = asarray(specs["encode"].input("state").zeros(b))
    cache = asarray(specs["commit"].input("cache").zeros(b))
    previous = asarray(specs["commit"].input("previous").zeros(b))

    def level(value: float) -> Any:
        return asarray(np.full(b, value, np.float32))

    errors = np.zeros((2, b, t))
    for i in range(t):
        step = np.full(b, i, np.int64)
        encoded = run("encode", {"frame": asarray(frames[:, i].copy()), "state": encoder})
        encoder, tokens = encoded["next_state"], encoded["tokens"]
        past = {
            "previous": previous,
            "context_sigma": level(config.context_sigma),
            "cache": cache,
            "position": asarray(step % backend.position_period),
            "filled": asarray(np.minimum(step, context)),
        }
        if i >= PROMPT:
            pure = {
                "noisy": asarray(sampler.noise(seeds, step, sampler.DENOISE, shape)),
                "sigma": level(1.0),
                "step_size": level(1 / max(NFE_CHOICES)),
            }
            wanted = backend.numpy(tokens)
            for k, actions in enumerate((true, others)):
                clean = run("denoise", {**pure, **past, "action": asarray(actions[:, i].copy())})["tokens"]
                errors[k, :, i] = np.square(backend.numpy(clean) - wanted).reshape(b, -1).mean(1)
        noise = asarray(sampler.noise(seeds, step, sampler.COMMIT, shape))
        done = run("commit", {"tokens": tokens, "noise": noise, **past, "action": asarray(true[:, i].copy())})
        cache, previous = done["next_cache"], done["next_previous"]
    return errors[0], errors[1]
