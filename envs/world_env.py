"""One generated game as a Gymnasium environment:

    env = gymnasium.make("worldgen.envs:worldgen/World-v0", world="doom")
    observation, info = env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())

A World object instead of a name goes to WorldEnv itself: Gymnasium copies what it makes an environment from.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from worldgen.bundle import DEFAULT_WORLD, Starts
from worldgen.envs.env_errors import EnvError, ResetNeededError, as_env_error
from worldgen.envs.env_state import EnvState, branched
from worldgen.envs.judge import Judge, judge_all
from worldgen.envs.observations import Observer
from worldgen.envs.open_world import check_choices, check_end_above, is_above, open_world
from worldgen.envs.reset_options import ResetOptions
from worldgen.envs.world_spaces import action_space, check_action, in_numpy
from worldgen.world import Frame, World

if TYPE_CHECKING:
    from worldgen.envs.env_window import EnvWindow


class WorldEnv(gymnasium.Env[Any, Any]):
    """Observations are the world's frames (h, w, 3) uint8, the caller's own, or what else Observer knows; reward and
    end come from trained heads, or from a judge.

    reset(seed=s) begins the game that World.reset(s) and `worldgen play --seed s` begin; reset() draws the seed of the
    next game from np_random. info holds the game's "seed", the "step" of the episode, if the world can tell it the
    frame's "uncertainty" (how unlike recorded frames it is, above 1 for 1 % of those), after a step the
    "end_probability" that its heads, if it has them, see in it, whatever a judge says, and, if asked for, the "sound"
    (samples, channels) float32 of that step. reset(options=...): see ResetOptions.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"]}

    def __init__(
        self,
        world: str | Path | World = DEFAULT_WORLD,
        *,
        backend: str = "auto",
        nfe: int | None = None,
        max_episode_steps: int | None = None,
        end_above: float | None = None,
        observation: str = "frames",
        as_torch: bool = False,
        temperature: float | None = None,
        context_sigma: float | None = None,
        draw_ends: bool = False,
        ignore_ends: bool = False,
        judge: Judge | None = None,
        starts: Starts | None = None,
        include_sound: bool = False,
        render_mode: str | None = None,
    ):
        """world: a bundled name, a folder, or a World that no other environment uses. backend, nfe: see World.load.
        max_episode_steps: truncates an episode after so many steps, as Gymnasium's TimeLimit does. gymnasium.make keeps
        the argument for its TimeLimit, whose count restore() does not put back: tree search takes WorldEnv itself.
        end_above: terminates it with the first frame of a higher uncertainty (MOReL, Kidambi et al. 2020), so that
        nothing is to be gained where the model is wrong; 1.5, for example. It does not see a game that has drifted into
        something usual.
        observation, as_torch: see Observer. context_sigma, temperature: see World; above its own they make a game that
        its agent can exploit less (Ha & Schmidhuber 2018), the latter where the world is shown pure noise.
        draw_ends: see World.draws_ends.
        ignore_ends: the heads end no game, for an agent that weighs what follows by info["end_probability"].
        judge: gives reward and end instead of the heads: judge(frame before, frame after) -> (reward, is over).
        starts: that games begin from instead of the world's own (worldgen.training.recorded_starts)."""
        check_choices(type(self).metadata, render_mode, max_episode_steps)
        self._world = open_world(
            world,
            backend=backend,
            nfe=nfe,
            batch=None,
            include_sound=include_sound,
            temperature=temperature,
            context_sigma=context_sigma,
            draw_ends=draw_ends,
            observation=observation,
            has_judge=judge is not None,
            starts=starts,
        )
        check_end_above(self._world, end_above)
        self._observer, self._judge = Observer(self._world, observation, as_torch), judge
        self._draws = self._observer.draws or judge is not None or render_mode == "human"
        self.observation_space = self._observer.space()
        self.action_space = action_space(self._world.config.actions)
        self.metadata = {**type(self).metadata, "render_fps": self._world.config.fps}
        self.render_mode = render_mode
        self.max_episode_steps = max_episode_steps
        self.end_above = end_above
        self.ignore_ends = ignore_ends
        self._include_sound = include_sound
        self._has_begun, self._is_over = False, False
        self._num_steps, self._seed = 0, 0
        self._window: EnvWindow | None = None

    @property
    def world(self) -> World:
        return self._world

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        chosen = ResetOptions.read(options, includes_sound=self._include_sound)
        seed = int(seed) if isinstance(seed, np.integer) else seed
        super().reset(seed=seed)
        with as_env_error():
            if chosen.state is not None:
                state = branched(chosen.state, [seed] * len(chosen.state))
                self._world.restore(state)
                self._seed, frame = int(state.seed[0]), None
            else:
                game_seed = seed if seed is not None else int(self.np_random.integers(2**63))
                frame = self._world.reset(
                    game_seed, start=chosen.start, start_actions=chosen.start_actions,
                    start_sound=chosen.start_sound, draw=self._draws,
                )  # fmt: skip
                self._seed = game_seed
        self._has_begun, self._is_over, self._num_steps = True, False, 0
        self._show()
        return self._observer.observe(frame), self._info(frame)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._check_begun()
        if self._is_over:
            raise ResetNeededError("the episode is over: call reset()")
        action = in_numpy(action)
        check_action(self._world.config.actions, action)
        before = None if self._judge is None else self._world.image
        frame = self._world.step(action, draw=self._draws)
        self._num_steps += 1
        reward, is_over = float(frame.reward), bool(frame.terminated) and not self.ignore_ends
        if self._judge is not None and before is not None:
            rewards, ends = judge_all(self._judge, before[None], self._world.image[None], np.ones(1, bool))
            reward, is_over = float(rewards[0]), bool(ends[0])
        terminated = is_over or bool(is_above(frame, self.end_above))
        truncated = self.max_episode_steps is not None and self._num_steps >= self.max_episode_steps
        self._is_over = terminated or truncated
        self._show()
        return self._observer.observe(frame), reward, terminated, truncated, self._info(frame)

    def render(self) -> np.ndarray | None:
        """rgb_array: the frame on screen, (h, w, 3) uint8. human: None; reset() and step() have drawn it already."""
        self._check_begun()
        return self._world.image if self.render_mode == "rgb_array" else None

    def snapshot(self) -> EnvState:
        """A copy of where the game is. restore() continues from it, bit for bit."""
        self._check_begun()
        return EnvState(self._world.snapshot(), np.array([self._num_steps]), np.array([self._is_over]))

    def restore(self, state: EnvState) -> Any:
        """Puts the game back, its episode's steps and end included -> the observation there."""
        if not isinstance(state, EnvState):
            raise EnvError(f"restore takes what snapshot() gave, got {type(state).__name__}")
        with as_env_error():
            self._world.restore(state.world)
        self._has_begun, self._is_over = True, bool(state.is_over[0])
        self._num_steps, self._seed = int(state.num_steps[0]), int(state.world.seed[0])
        self._show()
        return self._observer.observe()

    def close(self) -> None:
        """Closes the window."""
        if self._window is not None:
            self._window.close()
            self._window = None

    def _info(self, frame: Frame | None) -> dict[str, Any]:
        """frame: None where a snapshot was restored"""
        info: dict[str, Any] = {"step": self._num_steps, "seed": self._seed}
        if frame is not None and frame.uncertainty is not None:
            info["uncertainty"] = frame.uncertainty
        if frame is not None and frame.end_probability is not None:
            info["end_probability"] = frame.end_probability
        is_heard = self._include_sound and self._num_steps > 0  # what is heard belongs to steps
        if is_heard and frame is not None and frame.sound is not None:
            info["sound"] = frame.sound
        return info

    def _show(self) -> None:
        """A person sees it too."""
        if self.render_mode == "human" and self._window is None:
            from worldgen.envs.env_window import EnvWindow

            config = self._world.config
            self._window = EnvWindow(f"worldgen - {config.name}", *self._world.image_size, config.fps)
        if self._window is not None:
            self._window.show(self._world.image)

    def _check_begun(self) -> None:
        if not self._has_begun:
            raise ResetNeededError("the game has not begun: call reset() first")
