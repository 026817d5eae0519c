"""n generated games as one Gymnasium vector environment:

    envs = gymnasium.make_vec("worldgen.envs:worldgen/World-v0", world="doom", num_envs=64)
    observations, infos = envs.reset(seed=0)
    observations, rewards, terminations, truncations, infos = envs.step(envs.action_space.sample())

One forward steps them all. A reset runs only the games that begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from worldgen.bundle import DEFAULT_WORLD, Starts
from worldgen.envs.env_errors import EnvError, ResetNeededError, as_env_error
from worldgen.envs.env_state import EnvState, branched
from worldgen.envs.judge import Judge, judge_all
from worldgen.envs.observations import Observer, as_torch_too, own_copy
from worldgen.envs.open_world import check_choices, check_end_above, is_above, open_world
from worldgen.envs.reset_options import ResetOptions
from worldgen.envs.world_spaces import action_space, check_actions, in_numpy
from worldgen.world import Frame, World


class WorldVectorEnv(VectorEnv[Any, Any, Any]):
    """Game i goes exactly as a WorldEnv with its seed would, whatever the other games do; trajectories, infos and
    autoreset are those of Gymnasium's SyncVectorEnv over n such environments (fp32 on the CPU: bit for bit).

    reset(seed=s) gives game i the seed s + i; a list gives each its own, None draws it. options: see ResetOptions;
    {"reset_mask": (n,) bool} begins only some games anew.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}

    def __init__(
        self,
        world: str | Path | World = DEFAULT_WORLD,
        num_envs: int = 1,
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
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        include_sound: bool = False,
        render_mode: str | None = None,
    ):
        """world: a bundled name, a folder, or a World of batch=num_envs that no other environment uses.
        autoreset_mode: NEXT_STEP, SAME_STEP or DISABLED (then reset with a reset_mask).
        as_torch: rewards, terminations and truncations too. The rest as in WorldEnv."""
        check_choices(type(self).metadata, render_mode, max_episode_steps)
        if num_envs < 1:
            raise EnvError(f"num_envs is at least 1, got {num_envs}")
        self.autoreset_mode = _mode(autoreset_mode)
        self._world = open_world(
            world,
            backend=backend,
            nfe=nfe,
            batch=num_envs,
            include_sound=include_sound,
            temperature=temperature,
            context_sigma=context_sigma,
            draw_ends=draw_ends,
            observation=observation,
            has_judge=judge is not None,
            starts=starts,
        )
        check_end_above(self._world, end_above)
        self.num_envs = num_envs
        self._observer, self._judge = Observer(self._world, observation, as_torch), judge
        self._draws = self._observer.draws or judge is not None
        self.single_observation_space = self._observer.space()
        self.single_action_space = action_space(self._world.config.actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        fps = self._world.config.fps
        self.metadata = {**type(self).metadata, "render_fps": fps, "autoreset_mode": self.autoreset_mode}
        self.render_mode = render_mode
        self.max_episode_steps = max_episode_steps
        self.end_above = end_above
        self.ignore_ends = ignore_ends
        self.as_torch = as_torch
        self._include_sound = include_sound
        self._generators: list[tuple[np.random.Generator, int] | None] = [None] * num_envs
        self._has_begun = False
        self._is_over = np.zeros(num_envs, bool)
        self._num_steps = np.zeros(num_envs, np.int64)
        self._game_seeds = np.zeros(num_envs, np.int64)

    @property
    def world(self) -> World:
        return self._world

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """One per game, as SyncVectorEnv has them."""
        return tuple(self._generator(i)[0] for i in range(self.num_envs))

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(self._generator(i)[1] for i in range(self.num_envs))

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Infos hold the games that begin; observations of the others are what they show."""
        chosen = ResetOptions.read(options, self.num_envs, includes_sound=self._include_sound)
        seeds = self._seeds(seed)
        mask = np.ones(self.num_envs, bool) if chosen.reset_mask is None else chosen.reset_mask
        if not mask.all():
            self._check_begun()
        infos: dict[str, Any] = {}
        observations = self._begin(mask, infos, seeds, chosen)
        for i in np.flatnonzero(mask):
            if seeds[i] is not None:
                self._generators[i] = seeding.np_random(seeds[i])
        return observations, infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """actions (n,) or (n, components) -> observations (n, h, w, 3) uint8, rewards (n,) float64, terminations and
        truncations (n,) bool, infos. A wrong action raises before any game is stepped."""
        self._check_begun()
        actions = in_numpy(actions)
        check_actions(self._world.config.actions, actions, self.num_envs)
        begins = self._is_over
        if begins.any() and self.autoreset_mode is AutoresetMode.DISABLED:
            raise ResetNeededError(
                f"the episodes of games {np.flatnonzero(begins).tolist()} are over: "
                'call reset(options={"reset_mask": mask}) first'
            )
        plays = ~begins
        infos: dict[str, Any] = {}
        rewards, terminations = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        if plays.any():
            before = None if self._judge is None else self._world.image
            frame = self._world.step(actions, draw=self._draws)
            observations = self._observer.observe(frame)
            self._num_steps += plays
            reward, ends = np.asarray(frame.reward), np.asarray(frame.terminated) & (not self.ignore_ends)
            if self._judge is not None and before is not None:
                reward, ends = judge_all(self._judge, before, frame.image, plays)
            ends = ends | is_above(frame, self.end_above)
            rewards[plays], terminations[plays] = reward[plays], ends[plays]
        truncations = plays & self._is_too_long()
        self._is_over = terminations | truncations
        ends = self._is_over if self.autoreset_mode is AutoresetMode.SAME_STEP else np.zeros_like(plays)
        if plays.any():
            info = self._info(frame)
            _add_info(infos, plays & ~ends, info)
            _add_final(infos, ends, observations, info)
        if (begins | ends).any():
            observations = self._begin(begins | ends, infos)
        if self.as_torch:
            rewards, terminations, truncations = as_torch_too(observations, rewards, terminations, truncations)
        return observations, rewards, terminations, truncations, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """rgb_array: the frame of each game, (h, w, 3) uint8."""
        self._check_begun()
        return tuple(self._world.image) if self.render_mode == "rgb_array" else None

    def snapshot(self) -> EnvState:
        """A copy of where every game is; snapshot()[i] is game i alone."""
        self._check_begun()
        return EnvState(self._world.snapshot(), self._num_steps.copy(), self._is_over.copy())

    def restore(self, state: EnvState, mask: np.ndarray | None = None) -> Any:
        """Puts the games, or those of the mask (n,) bool, back -> observations. A snapshot of one game fills all."""
        if not isinstance(state, EnvState):
            raise EnvError(f"restore takes what snapshot() gave, got {type(state).__name__}")
        chosen = np.ones(self.num_envs, bool) if mask is None else np.asarray(mask)
        if chosen.dtype != bool or chosen.shape != (self.num_envs,):
            raise EnvError(f"a mask is ({self.num_envs},) bool, got {chosen.dtype} {chosen.shape}")
        with as_env_error():
            self._world.restore(state.world, None if mask is None else chosen)
        self._num_steps = np.where(chosen, state.num_steps, self._num_steps)
        self._is_over = np.where(chosen, state.is_over, self._is_over)
        self._game_seeds = np.where(chosen, state.world.seed.astype(np.int64), self._game_seeds)
        self._has_begun = True
        return self._observer.observe()

    def _begin(
        self,
        mask: np.ndarray,
        infos: dict[str, Any],
        seeds: Sequence[int | None] | None = None,
        options: ResetOptions | None = None,
    ) -> Any:
        """Begins the games of the mask anew and adds their infos -> observations of all."""
        options = options or ResetOptions()
        where = None if mask.all() else mask
        frame: Frame | None = None
        with as_env_error():
            if options.state is not None:
                state = branched(options.state, seeds or [None] * self.num_envs)
                self._world.restore(state, where)
                game_seeds = np.broadcast_to(state.seed.astype(np.int64), self.num_envs)
            else:
                game_seeds = self._draw(mask, seeds or [None] * self.num_envs)
                frame = self._world.reset(
                    game_seeds.tolist(),
                    start=options.start,
                    start_actions=options.start_actions,
                    start_sound=options.start_sound,
                    mask=where,
                    draw=self._draws,
                )
        self._has_begun = True
        self._is_over = self._is_over & ~mask
        self._num_steps = np.where(mask, 0, self._num_steps)
        self._game_seeds = np.where(mask, game_seeds, self._game_seeds)
        begun = None if frame is None else replace(frame, sound=None)  # what is heard belongs to steps
        _add_info(infos, mask, self._info(begun))
        return self._observer.observe(frame)

    def _info(self, frame: Frame | None) -> dict[str, np.ndarray]:
        """frame: None where a snapshot was restored"""
        info = {"step": self._num_steps, "seed": self._game_seeds}
        if frame is not None and frame.uncertainty is not None:
            info["uncertainty"] = np.asarray(frame.uncertainty, np.float64)  # as a loop gives it
        if frame is not None and frame.end_probability is not None:
            info["end_probability"] = np.asarray(frame.end_probability, np.float64)
        if self._include_sound and frame is not None and frame.sound is not None:
            info["sound"] = frame.sound
        return info

    def _is_too_long(self) -> np.ndarray:
        if self.max_episode_steps is None:
            return np.zeros(self.num_envs, bool)
        return self._num_steps >= self.max_episode_steps

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            seed = [int(seed) + i for i in range(self.num_envs)]
        if not isinstance(seed, Sequence | np.ndarray) or isinstance(seed, str):
            raise EnvError(f"a seed is an integer, or one or None for each game, got {seed!r}")
        seeds = [None if s is None else int(s) for s in seed]
        if len(seeds) != self.num_envs:
            raise EnvError(f"{len(seeds)} seeds for {self.num_envs} games")
        if bad := [s for s in seeds if s is not None and not 0 <= s < 2**63]:
            raise EnvError(f"a seed is between 0 and 2**63, got {bad[0]}")
        return seeds

    def _draw(self, mask: np.ndarray, seeds: Sequence[int | None]) -> np.ndarray:
        """The seeds of the games that begin, (n,) int64"""
        drawn = np.zeros(self.num_envs, np.int64)
        for i in np.flatnonzero(mask).tolist():
            seed = seeds[i]
            drawn[i] = self._generator(i)[0].integers(2**63) if seed is None else seed
        return drawn

    def _generator(self, i: int) -> tuple[np.random.Generator, int]:
        if (generator := self._generators[i]) is None:
            generator = self._generators[i] = seeding.np_random()
        return generator

    def _check_begun(self) -> None:
        if not self._has_begun:
            raise ResetNeededError("the games have not begun: call reset() first")


def _mode(mode: str | AutoresetMode) -> AutoresetMode:
    try:
        return mode if isinstance(mode, AutoresetMode) else AutoresetMode(mode)
    except ValueError:
        choices = ", ".join(repr(m.value) for m in AutoresetMode)
        raise EnvError(f"unknown autoreset_mode {mode!r}; choose {choices}") from None


def _add_info(infos: dict[str, Any], mask: np.ndarray, values: dict[str, np.ndarray]) -> None:
    """Gymnasium's layout: a key's array holds 0 where the mask `_key` is unset."""
    if not mask.any():
        return
    for key, value in values.items():
        if key not in infos:
            infos[key], infos[f"_{key}"] = np.zeros_like(value), np.zeros_like(mask)
        infos[key][mask] = value[mask]
        infos[f"_{key}"] |= mask


def _add_final(infos: dict[str, Any], ends: np.ndarray, observations: Any, info: dict[str, np.ndarray]) -> None:
    """The last frame and info of the games that end in the step that begins them anew."""
    if not ends.any():
        return
    final_obs = np.full(len(ends), None, dtype=object)
    for i in np.flatnonzero(ends):
        final_obs[i] = own_copy(observations[i])
    final_info: dict[str, Any] = {}
    _add_info(final_info, ends, info)
    infos |= {"final_obs": final_obs, "_final_obs": ends.copy(), "final_info": final_info, "_final_info": ends.copy()}
