"""How many frames a second an agent gets from generated games side by side, and whether that stays so.

python -m worldgen.envs.speed doom --worlds 64
python -m worldgen.envs.speed doom --worlds 8 --soak 100000
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import tyro

from worldgen.backends import open_backend
from worldgen.bundle import DEFAULT_WORLD, Starts, find_world
from worldgen.command import parse, run, say_beside, write_figures
from worldgen.config import WorldConfig
from worldgen.envs.world_env import WorldEnv
from worldgen.envs.world_vector_env import WorldVectorEnv
from worldgen.errors import InputError, RunError
from worldgen.measure import machine, resident_megabytes
from worldgen.world import World

OBSERVATIONS = ("tokens", "frames")
WARMUP, ROUNDS = 3, 3  # steps before the clock starts; the kinds of environment take turns, so that a load hits all
RESET_CHANCE = 0.01  # of each game, each step of a soak
BLOCKS = 20  # that a soak's steps are timed in


@dataclass(frozen=True)
class SpeedOptions:
    world: Annotated[str, tyro.conf.Positional] = DEFAULT_WORLD
    """a bundled world or a world's folder"""
    worlds: int = 64
    """games side by side"""
    steps: int = 30
    """of each kind of environment, timed"""
    nfe: int = 1
    """denoising steps a frame: 1, 2 or 4"""
    backend: str = "auto"
    """auto, onnxruntime, torch or tensorrt"""
    soak: int = 0
    """instead, so many steps with random resets: memory, speed and values, first to last"""
    seed: int = 0
    json: str | None = None
    """write the figures to this file, or - for standard output"""

    def __post_init__(self) -> None:
        if self.worlds < 1 or self.steps < 1 or self.soak < 0:
            raise InputError("--worlds and --steps are at least 1, --soak at least 0")
        if 0 < self.soak < BLOCKS:
            raise InputError(f"--soak is at least {BLOCKS} steps, got {self.soak}")


def measure_speed(options: SpeedOptions, say: Callable[[str], None]) -> dict[str, Any]:
    """worlds, nfe; tokens, frames: world-frames a second of one vector environment with that observation; singles: of
    as many environments stepped one after the other; ratio: the better of the two over singles."""

    def vector(observation: str) -> Callable[[int], None]:
        envs = WorldVectorEnv(
            options.world, options.worlds, backend=options.backend, nfe=options.nfe, observation=observation
        )
        envs.action_space.seed(options.seed)
        envs.reset(seed=options.seed)

        def play(steps: int) -> None:
            for _ in range(steps):
                envs.step(envs.action_space.sample())

        return play

    def singles() -> Callable[[int], None]:
        folder = find_world(options.world)
        engine = open_backend(folder, options.backend)  # one for all of them: 64 would not fit into memory
        config, starts = WorldConfig.load(folder / "world.json"), Starts.load(folder)
        several = [
            WorldEnv(World(config, engine, starts, upscale=False, sound="off"), nfe=options.nfe)
            for _ in range(options.worlds)
        ]
        for i, env in enumerate(several):
            env.action_space.seed(options.seed + i)
            env.reset(seed=options.seed + i)

        def play(steps: int) -> None:
            for _ in range(steps):
                for env in several:
                    _, _, terminated, _, _ = env.step(env.action_space.sample())
                    if terminated:
                        env.reset()

        return play

    kinds = {name: vector(name) for name in OBSERVATIONS} | {"singles": singles()}
    seconds = dict.fromkeys(kinds, 0.0)
    for play in kinds.values():
        play(WARMUP)
    per_round = max(1, options.steps // ROUNDS)
    for _ in range(ROUNDS):
        for name, play in kinds.items():
            began = time.perf_counter()
            play(per_round)
            seconds[name] += time.perf_counter() - began
    rates = {name: round(ROUNDS * per_round * options.worlds / spent, 1) for name, spent in seconds.items()}
    ratio = round(max(rates[name] for name in OBSERVATIONS) / rates["singles"], 2)
    say(
        f"{options.worlds} worlds at nfe {options.nfe}: tokens {rates['tokens']:g}, frames {rates['frames']:g} "
        f"world-frames/s; {options.worlds} single environments in turn {rates['singles']:g}: {ratio:g} times"
    )
    return {"worlds": options.worlds, "nfe": options.nfe, **rates, "ratio": ratio, "machine": machine()}


def soak(options: SpeedOptions, say: Callable[[str], None]) -> dict[str, Any]:
    """steps, resets; frames_per_second of the first and the last quarter and drift, their ratio; megabytes after the
    first block and at the end. RunError with the first value that is not finite."""
    envs = WorldVectorEnv(
        options.world,
        options.worlds,
        backend=options.backend,
        nfe=options.nfe,
        observation="tokens",
        autoreset_mode="Disabled",
    )
    rng = np.random.default_rng(options.seed)
    envs.action_space.seed(options.seed)
    envs.reset(seed=options.seed)
    blocks, megabytes, resets, per_block = [], [], 0, options.soak // BLOCKS
    for block in range(BLOCKS):
        began = time.perf_counter()
        for step in range(per_block):
            observations, rewards, terminations, _, infos = envs.step(envs.action_space.sample())
            values = (observations, rewards, infos.get("uncertainty", np.zeros(1)))
            if not all(np.isfinite(x).all() for x in values):
                raise RunError(f"a value is not finite after {block * per_block + step + 1} steps")
            ends = terminations | (rng.random(options.worlds) < RESET_CHANCE)
            if ends.any():
                envs.reset(options={"reset_mask": ends})
                resets += int(ends.sum())
        blocks.append(per_block * options.worlds / (time.perf_counter() - began))
        megabytes.append(resident_megabytes())
        say(f"step {(block + 1) * per_block}: {blocks[-1]:.0f} world-frames/s, {megabytes[-1] or 0:.0f} MB")
    quarter = BLOCKS // 4
    first, last = float(np.median(blocks[:quarter])), float(np.median(blocks[-quarter:]))
    say(f"{resets} resets; speed of the last quarter over the first: {last / first:.2f}; nothing that is not finite")
    return {
        "steps": per_block * BLOCKS,
        "worlds": options.worlds,
        "resets": resets,
        "frames_per_second": [round(first, 1), round(last, 1)],
        "drift": round(last / first, 3),
        "megabytes": [megabytes[0], megabytes[-1]],
        "machine": machine(),
    }


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)

    def work() -> int:
        options = parse(SpeedOptions, "speed", words, __doc__)
        say = say_beside(options.json)
        write_figures((soak if options.soak else measure_speed)(options, say), options.json)
        return 0

    return run("speed", work)


if __name__ == "__main__":
    sys.exit(main())
