"""Generated games for stable-baselines3:

    envs = WorldVectorEnv("doom", num_envs=16, autoreset_mode="SameStep")
    PPO("CnnPolicy", SB3VecEnv(envs)).learn(100_000)

Its VecEnv is not Gymnasium's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from worldgen.envs.env_errors import EnvError
from worldgen.envs.env_state import EnvState
from worldgen.envs.world_vector_env import WorldVectorEnv
from worldgen.errors import MissingExtraError

try:
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise MissingExtraError("SB3VecEnv", "rl") from error

Indices = int | Iterable[int] | None


class SB3VecEnv(VecEnv):
    """A WorldVectorEnv with autoreset_mode="SameStep", in Gymnasium's vector wrappers or bare.

    One forward steps all games. infos[i] of a game that ended holds "terminal_observation" and "TimeLimit.truncated";
    reset_infos[i] its next game's info. env_method("snapshot" | "restore" | "render") speaks to single games.
    """

    def __init__(self, envs: VectorEnv):
        if not isinstance(envs, VectorEnv) or not isinstance(envs.unwrapped, WorldVectorEnv):
            raise EnvError(f"SB3VecEnv takes a WorldVectorEnv, wrapped or not; got {type(envs).__name__}")
        if envs.unwrapped.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise EnvError('stable-baselines3 resets in the same step: WorldVectorEnv(..., autoreset_mode="SameStep")')
        if envs.unwrapped.as_torch:
            raise EnvError("stable-baselines3 takes arrays: leave as_torch out")
        self.envs: Any = envs  # VectorEnv declares neither a list of seeds nor what WorldVectorEnv has of its own
        self._games = [GameView(envs, i) for i in range(envs.num_envs)]
        self._actions: np.ndarray | None = None
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
        self.metadata = {**envs.metadata, **self.metadata}

    def reset(self) -> np.ndarray:
        options = self._options[0] or None
        observations, infos = self.envs.reset(seed=self._seeds, options=options)
        self.reset_infos = [_info_of(infos, i) for i in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return observations

    def set_options(self, options: list[dict] | dict | None = None) -> None:
        """One dict for all games; {"start": [...]} holds a start per game."""
        if isinstance(options, list):
            raise EnvError('one dict of options is for all games: {"start": [...]} holds a start per game')
        super().set_options(options)

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observations, rewards, terminations, truncations, infos = self.envs.step(self._actions)
        dones = terminations | truncations
        each = []
        for i in range(self.num_envs):
            info = _info_of(infos, i)
            if dones[i]:
                final, last = info.pop("final_info"), info.pop("final_obs")
                self.reset_infos[i] = info
                info = {**info, **final, "terminal_observation": last}
            each.append({**info, "TimeLimit.truncated": bool(truncations[i] and not terminations[i])})
        return observations, rewards.astype(np.float32), dones, each

    def close(self) -> None:
        self.envs.close()

    def get_images(self) -> list[np.ndarray | None]:
        frames = self.envs.render()
        return [None] * self.num_envs if frames is None else list(frames)

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        return [getattr(self._games[i], attr_name) for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """The games share their attributes: sets that of all."""
        if sorted(self._get_indices(indices)) != list(range(self.num_envs)):
            raise EnvError(f"the games share one world: {attr_name} is set for all of them, without indices")
        setattr(self.envs.unwrapped, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        return [getattr(self._games[i], method_name)(*method_args, **method_kwargs) for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: Indices = None) -> list[bool]:
        """No game is wrapped by itself: use VecMonitor and the like."""
        return [False for _ in self._get_indices(indices)]


class GameView:
    """One of the games as stable-baselines3 looks at it; what it does not have itself is the vector environment's."""

    def __init__(self, envs: Any, index: int):
        self._envs, self._index = envs, index
        self.observation_space, self.action_space = envs.single_observation_space, envs.single_action_space

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("reset", "step", "close"):
            raise AttributeError(f"a game of a WorldVectorEnv has no {name!r} of its own")
        return getattr(self._envs.unwrapped, name)

    def snapshot(self) -> EnvState:
        return self._envs.unwrapped.snapshot()[self._index]

    def restore(self, state: EnvState) -> np.ndarray:
        mask = np.arange(self._envs.num_envs) == self._index
        return self._envs.unwrapped.restore(state, mask)[self._index]

    def render(self) -> np.ndarray | None:
        frames = self._envs.render()
        return None if frames is None else frames[self._index]


def _info_of(infos: dict[str, Any], i: int) -> dict[str, Any]:
    """Gymnasium's dict of arrays -> the dict of game i; arrays of wrappers may come without a mask"""
    info: dict[str, Any] = {}
    for key, value in infos.items():
        if key.startswith("_") or not infos.get(f"_{key}", [True] * (i + 1))[i]:
            continue
        info[key] = _info_of(value, i) if isinstance(value, dict) else value[i]
        if isinstance(info[key], np.generic):
            info[key] = info[key].item()
    return info
