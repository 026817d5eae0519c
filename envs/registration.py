"""The id under which Gymnasium makes worlds."""

from __future__ import annotations

import gymnasium

WORLD_ID = "worldgen/World-v0"


def register_world() -> None:
    if WORLD_ID not in gymnasium.registry:
        gymnasium.register(
            WORLD_ID,
            entry_point="worldgen.envs.world_env:WorldEnv",
            vector_entry_point="worldgen.envs.world_vector_env:WorldVectorEnv",
        )
