"""A real game as a Gymnasium environment, seen as a world trained on it shows itself: to train and to test agents.

envs = SyncVectorEnv([lambda: GameEnv(make_game("vizdoom:take_cover"), 48, 64)] * 4)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from worldgen.config import check_shaping
from worldgen.data.shaping import check_columns, shaped_step
from worldgen.data.shrink import shrink
from worldgen.envs.env_errors import EnvError, ResetNeededError
from worldgen.envs.game import Game, GameFrame
from worldgen.envs.world_spaces import action_space, check_action, in_numpy


class GameEnv(gymnasium.Env[np.ndarray, Any]):
    """Observations are the game's pictures at height x width, (h, w, 3) uint8, on the way that recordings take;
    actions, rewards (but for their shaping) and ends are the game's own. reset() without a seed draws one."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}

    def __init__(
        self,
        game: Game,
        height: int,
        width: int,
        *,
        max_episode_steps: int | None = None,
        shaping: Mapping[str, float] | None = None,
        render_mode: str | None = None,
    ):
        """max_episode_steps: truncates an episode after so many steps. shaping: what rewards hold besides the game's
        own, as a world's do (WorldConfig). render(): the picture at the game's own size."""
        if max_episode_steps is not None and max_episode_steps < 1:
            raise EnvError(f"max_episode_steps is at least 1, got {max_episode_steps}")
        if height < 1 or width < 1:
            raise EnvError(f"a picture of {width}x{height} cannot be seen")
        self.game = game
        self.observation_space = spaces.Box(0, 255, (height, width, 3), np.uint8)
        self.action_space = action_space(game.actions)
        self.metadata = {**type(self).metadata, "render_fps": game.fps}
        self.render_mode = render_mode
        self.max_episode_steps = max_episode_steps
        self._shaping = dict(shaping or {})
        check_shaping(self._shaping)
        self._size, self._num_steps, self._is_over = (height, width), 0, True
        self._frame: GameFrame | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        game_seed = seed if seed is not None else int(self.np_random.integers(2**31))
        frame = self.game.reset(game_seed)
        check_columns(frame.state, self._shaping, "the game has")
        self._num_steps, self._is_over = 0, False
        return self._see(frame), {"seed": game_seed, "step": 0}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._is_over:
            raise ResetNeededError("the episode is over, or has not begun: call reset()")
        action = in_numpy(action)
        check_action(self.game.actions, action)
        assert self._frame is not None
        before = self._frame.state
        frame = self.game.step(int(action) if self.game.actions.kind == "discrete" else action)
        reward = float(frame.reward) + shaped_step(before, frame.state, self._shaping)
        self._num_steps += 1
        is_late = self.max_episode_steps is not None and self._num_steps >= self.max_episode_steps
        truncated = frame.truncated or is_late
        self._is_over = frame.terminated or truncated
        return self._see(frame), reward, frame.terminated, truncated, {"step": self._num_steps}

    def render(self) -> np.ndarray | None:
        if self._frame is None:
            raise ResetNeededError("the game has not begun: call reset() first")
        return self._frame.image.copy() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        self.game.close()

    def _see(self, frame: GameFrame) -> np.ndarray:
        self._frame = frame
        return shrink(frame.image, *self._size)
