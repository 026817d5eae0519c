"""Worlds as Gymnasium environments (WorldEnv, WorldVectorEnv, SB3VecEnv), and the real games that are recorded.

    gymnasium.make("worldgen.envs:worldgen/World-v0", world="doom")
    gymnasium.make_vec("worldgen.envs:worldgen/World-v0", world="doom", num_envs=64)

Importing this registers the environment, which is how Gymnasium finds it; nothing else is loaded until it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from worldgen.envs.registration import register_world

if TYPE_CHECKING:
    from worldgen.envs.env_state import EnvState
    from worldgen.envs.sb3_vec_env import SB3VecEnv
    from worldgen.envs.world_env import WorldEnv
    from worldgen.envs.world_vector_env import WorldVectorEnv

__all__ = ["EnvState", "SB3VecEnv", "WorldEnv", "WorldVectorEnv"]

MODULES = {
    "EnvState": "env_state",
    "SB3VecEnv": "sb3_vec_env",
    "WorldEnv": "world_env",
    "WorldVectorEnv": "world_vector_env",
}

register_world()


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
