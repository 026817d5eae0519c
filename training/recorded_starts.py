"""Moments of recordings for generated games to begin from: many more than the few starts that a world brings along.

    starts = recorded_starts(Path("recordings/doom"), WorldConfig.load(folder / "world.json"), 4000)
    envs = WorldVectorEnv(folder, 16, starts=starts, max_episode_steps=16)

An agent may so learn from short games, each from a recorded moment, as long as the world stays close to the game
(Dyna, Sutton 1991; Dreamer, Hafner et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from worldgen.bundle import Starts
from worldgen.config import WorldConfig
from worldgen.data.dataset import ClipSampler, all_segments
from worldgen.errors import InputError
from worldgen.training.held_out import open_for, recorded_actions
from worldgen.training.rollout import PROMPT, led_to


def recorded_starts(data: Path, config: WorldConfig, count: int, say: Callable[[str], None] = print) -> Starts:
    """count prompts of PROMPT frames, spread evenly over the recordings in a folder, fewer where these hold fewer; each
    has a frame more after it. Of a world with latent actions it is unknown what led to their frames. Raises InputError
    where the folder has no recordings, or none with actions of the world's."""
    if count < 1:
        raise InputError(f"at least 1 start, got {count}")
    cache = open_for(config, data, say)
    clips = ClipSampler(cache, all_segments(cache), PROMPT + 1, with_sound=False)
    rows = clips.even_starts(count)[:, None] + np.arange(PROMPT)
    is_latent = config.action_source == "latent"
    actions = config.actions.null(cache.num_frames) if is_latent else recorded_actions(config, cache)[0]
    frames = np.asarray(cache.frames[rows.ravel()]).reshape(*rows.shape, *cache.frames.shape[1:])
    return Starts(frames, led_to(config.actions, actions[rows]))
