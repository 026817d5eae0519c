"""Any Gymnasium environment that renders: `gym:ENV_ID`, such as gym:CarRacing-v3 or gym:my_package:MyEnv-v0.

One frame is one step at the environment's own render_fps, or several steps with the action held (option fps: its rate
over 1, 2, 3, ...). Frames are what it renders. All four kinds of action work. No sound. Small observation vectors are
recorded as state columns.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from worldgen.actions import ActionMap
from worldgen.envs.game import GameFrame
from worldgen.envs.history import History
from worldgen.errors import InputError

MAX_STATE_COLUMNS = 32
# the actions of well-known environments, and the keys that press them; others are numbered
NAMES: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "CartPole": [("left", ("left",)), ("right", ("right",))],
    "MountainCar": [("left", ("left",)), ("idle", ()), ("right", ("right",))],
    "Acrobot": [("left", ("left",)), ("idle", ()), ("right", ("right",))],
    "LunarLander": [("idle", ()), ("fire left", ("left",)), ("fire main", ("up",)), ("fire right", ("right",))],
    "FrozenLake": [("left", ("left",)), ("down", ("down",)), ("right", ("right",)), ("up", ("up",))],
    "CarRacing": [("steer", ()), ("gas", ()), ("brake", ())],
    "Pendulum": [("torque", ())],
}


class GymnasiumGame:
    """An environment as a Game; saved and loaded as the history that led there, exact where its seed is."""

    licence = "the environment's own: see its package"
    sample_rate: int | None = None
    channels = 1

    def __init__(self, env_id: str, fps: float | None = None):
        self.name = f"gym:{env_id}"
        try:
            self._env = gymnasium.make(env_id, render_mode="rgb_array")
        except gymnasium.error.DependencyNotInstalled as error:
            raise InputError(f"{self.name} needs more than Gymnasium: {_line(error)}") from None
        except (gymnasium.error.Error, ImportError, TypeError, ValueError) as error:
            raise InputError(f"{self.name} cannot be made: {_line(error)}") from None
        own = float(self._env.metadata.get("render_fps") or 30)
        self._repeat = round(own / fps) if fps else 1
        self.fps = own / max(1, self._repeat)
        if fps is not None and abs(self.fps - fps) > 0.01:
            raise InputError(f"--fps {fps:g}: {self.name} runs at {own:g}; choose it, or it over 2, 3, ...")
        self.actions = action_map(self._env.action_space, env_id)
        self._history = History(self.name, self.fps)
        self._is_over = True

    def reset(self, seed: int) -> GameFrame:
        self._history.begin(seed)
        observation, _ = self._env.reset(seed=seed)
        self._is_over = False
        return self._see(observation, 0.0, False, False)

    def step(self, action: Any) -> GameFrame:
        if self._is_over:
            raise InputError(f"{self.name}: the episode is over: call reset(seed)")
        self._history.add(action)
        reward, terminated, truncated = 0.0, False, False
        for _ in range(self._repeat):
            if not (terminated or truncated):
                observation, gain, terminated, truncated, _ = self._env.step(self._native(action))
                reward += float(gain)
        self._is_over = bool(terminated or truncated)
        return self._see(observation, reward, bool(terminated), bool(truncated) and not terminated)

    def close(self) -> None:
        self._env.close()

    def save(self) -> bytes:
        return self._history.save()

    def load(self, state: bytes) -> None:
        self._history.replay(state, self)

    def _see(self, observation: Any, reward: float, terminated: bool, truncated: bool) -> GameFrame:
        image = self._env.render()
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(f"{self.name} renders {type(image).__name__}, not a picture (h, w, 3) of uint8")
        return GameFrame(image.copy(), None, reward, terminated, truncated, _columns(observation))

    def _native(self, action: Any) -> Any:
        """An action as ActionMap gives it -> as the environment takes it."""
        space = self._env.action_space
        if isinstance(space, spaces.Discrete):
            return int(action) + int(space.start)
        value = np.asarray(action, space.dtype).reshape(space.shape)
        if isinstance(space, spaces.MultiDiscrete):
            return value + space.start
        return value


def action_map(space: gymnasium.Space, env_id: str = "") -> ActionMap:
    """Gymnasium's action space -> ours."""
    known = next((v for k, v in NAMES.items() if env_id.rpartition(":")[2].startswith(k)), [])
    names, keys = [name for name, _ in known], [k for _, k in known]
    if isinstance(space, spaces.Discrete):
        if len(names) != space.n:
            names, keys = [f"action {i}" for i in range(int(space.n))], []
        return ActionMap.discrete(names, keys)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return ActionMap("multi_discrete", tuple(int(n) for n in space.nvec))
    if isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
        return ActionMap("multi_binary", (2,) * int(space.shape[0]))
    if isinstance(space, spaces.Box):
        low, high = space.low.ravel(), space.high.ravel()
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise InputError(f"gym:{env_id} takes actions without bounds ({space}): wrap it in RescaleAction")
        names = names if len(names) == len(low) else [f"action {i}" for i in range(len(low))]
        return ActionMap("box", (0,) * len(low), tuple(names), (), tuple(map(float, low)), tuple(map(float, high)))
    raise InputError(
        f"gym:{env_id} takes actions of {space}; Discrete, MultiDiscrete, MultiBinary and Box are understood"
    )


def _columns(observation: Any) -> dict[str, float]:
    values = np.asarray(observation) if isinstance(observation, (np.ndarray, np.number, int, float)) else np.zeros(0)
    if values.size > MAX_STATE_COLUMNS or values.dtype.kind not in "iufb":
        return {}
    return {f"observation_{i}": float(x) for i, x in enumerate(values.ravel())}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
