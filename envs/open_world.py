"""Opens the world that an environment is made of, checks what was asked of it, and says what an agent will miss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gymnasium import logger

from worldgen.bundle import Starts
from worldgen.envs.env_errors import EnvError, as_env_error
from worldgen.world import Frame, World


def open_world(
    world: str | Path | World,
    *,
    backend: str,
    nfe: int | None,
    batch: int | None,
    include_sound: bool,
    temperature: float | None,
    context_sigma: float | None,
    draw_ends: bool,
    observation: str,
    has_judge: bool,
    starts: Starts | None,
) -> World:
    """A bundled name or a folder is loaded, without super-resolution and silent where neither is asked for: agents pay
    for neither. A World, which then belongs to one environment, must have this batch."""
    with as_env_error():
        if isinstance(world, str | Path):
            sound = None if include_sound else "off"
            upscale = observation == "upscaled"
            world = World.load(
                world, backend=backend, batch=batch, nfe=nfe, upscale=upscale, sound=sound, starts=starts
            )
        elif backend != "auto" or starts is not None:
            raise EnvError("a World has its backend and its starts already: give them with a name or a folder")
        elif nfe is not None:
            world.nfe = nfe
        if temperature is not None:
            world.temperature = temperature
        if context_sigma is not None:
            world.context_sigma = context_sigma
        if draw_ends:
            world.draws_ends = True
    if world.batch != batch:
        wanted = "WorldEnv plays one game" if batch is None else f"WorldVectorEnv plays {batch} games"
        raise EnvError(f"{wanted}: it needs World.load(..., batch={batch}), got a World with batch={world.batch}")
    if include_sound and world.sample_rate is None:
        raise EnvError(f"world {world.config.name!r} is silent: leave include_sound out")
    if not has_judge:
        _warn_of_missing_heads(world)
    return world


def check_choices(metadata: dict[str, Any], render_mode: str | None, max_episode_steps: int | None) -> None:
    modes = [None, *metadata["render_modes"]]
    if render_mode not in modes:
        raise EnvError(f"unknown render_mode {render_mode!r}; choose {', '.join(map(repr, modes))}")
    if max_episode_steps is not None and max_episode_steps < 1:
        raise EnvError(f"max_episode_steps is at least 1, got {max_episode_steps}")


def check_end_above(world: World, end_above: float | None) -> None:
    if end_above is None:
        return
    if not world.has_uncertainty:
        raise EnvError(
            f"world {world.config.name!r} cannot tell how uncertain a frame is: leave end_above out, or run "
            "`python -m worldgen.training.uncertainty DIR --world WORLD` with recordings of its game"
        )
    if not end_above > 0:
        raise EnvError(f"end_above is an uncertainty above 0, got {end_above}")


def is_above(frame: Frame, end_above: float | None) -> Any:
    """Whether a frame, or each of n, is more uncertain than that."""
    return False if end_above is None or frame.uncertainty is None else frame.uncertainty > end_above


def _warn_of_missing_heads(world: World) -> None:
    facts = {"reward": world.config.has_reward, "terminated": world.config.has_terminated}
    means = {"reward": "every reward is 0", "terminated": "no episode terminates"}
    if missing := [name for name, has in facts.items() if not has]:
        logger.warn(
            f"world {world.config.name!r} has no trained {' or '.join(missing)} head: "
            + ", ".join(means[name] for name in missing)
        )
