"""Moments of recordings for generated games to begin from: many more than the few starts that a world brings along.

    starts = recorded_starts(Path("recordings/doom"), WorldConfig.load(folder / "world.json"), 4000)
    envs = WorldVectorEnv(World.load(folder, batch=16, starts=starts), 16, max_episode_steps=18)

An agent may so learn from short games, each from a recorded moment, as long as the world stays close to the game
(Dyna, Sutton 1991; Dreamer, Hafner et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from worldgen.bundle import Starts
from worldgen.config import WorldConfig
from worldgen.data.dataset import ClipSampler, Segments
from worldgen.errors import InputError
from worldgen.training.held_out import check_same_actions, open_for
from worldgen.training.rollout import PROMPT, led_to


def recorded_starts(data: Path, config: WorldConfig, count: int, say: Callable[[str], None] = print) -> Starts:
    """count prompts of PROMPT frames, spread evenly over the recordings in a folder, fewer where these hold fewer; each
    has a frame more after it. Of a world with latent actions what led to their frames is unknown. Raises InputError
    where the folder has no recordings, or its actions are not the world's."""
    if count < 1:
        raise InputError(f"at least 1 start, got {count}")
    cache = open_for(config, data, say)
    has_actions = cache.actions is not None and config.action_source == "recorded"
    if has_actions and cache.action_map is not None:
        check_same_actions(config.actions, cache.action_map)
    clips = ClipSampler(cache, Segments(cache.starts[:-1], cache.starts[1:]), PROMPT + 1, with_sound=False)
    rows = clips.even_starts(count)[:, None] + np.arange(PROMPT)
    chosen = np.asarray(cache.actions)[rows] if has_actions else config.actions.null(*rows.shape)
    frames = np.asarray(cache.frames[rows.ravel()]).reshape(*rows.shape, *cache.frames.shape[1:])
    return Starts(frames, led_to(config.actions, chosen))
