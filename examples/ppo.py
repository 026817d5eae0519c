"""Trains an agent in a generated world, all games in one forward, and shows what it plays there.

    python examples/ppo.py --world doom --steps 50000 --out agent

The same with stable-baselines3 (pip install 'worldgen[rl]'):

    from stable_baselines3 import PPO
    from worldgen.envs import SB3VecEnv, WorldVectorEnv
    PPO("CnnPolicy", SB3VecEnv(WorldVectorEnv("doom", 16, autoreset_mode="SameStep"))).learn(50_000)
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import numpy as np

from worldgen.command import parse, run
from worldgen.training.ppo import PpoRecipe, play_episodes, train_ppo

WORLD = "worldgen.envs:worldgen/World-v0"


@dataclass(frozen=True)
class Options:
    out: Path
    """folder of the agent and its curve; the same command goes on where it was stopped"""
    world: str = "doom"
    """a bundled world or a world's folder"""
    steps: int = 50_000
    games: int = 16
    episodes: int = 5
    """that are played in the end"""
    seconds: float = 30.0
    """after which a game is cut"""
    temperature: float = 1.0
    """of the generated games, in worlds whose dynamics is shown pure noise"""
    seed: int = 0


def train_and_play(options: Options) -> float:
    """-> mean return of the episodes"""
    single = gymnasium.make(WORLD, world=options.world, nfe=1, temperature=options.temperature)
    cut = {"max_episode_steps": round(options.seconds * single.metadata["render_fps"])}
    envs = gymnasium.make_vec(
        WORLD,
        num_envs=options.games,
        world=options.world,
        nfe=1,
        temperature=options.temperature,
        autoreset_mode="SameStep",
        **cut,
    )
    recipe = PpoRecipe(steps=options.steps, seed=options.seed)
    games = f"world {envs.unwrapped.world.hash} at temperature {options.temperature:g}, for {options.seconds:g} s"
    policy = train_ppo(envs, recipe, options.out, resume=True, games=games, prompts=envs.unwrapped.world.prompts)
    env = gymnasium.wrappers.TimeLimit(single, cut["max_episode_steps"])
    rows = play_episodes(env, policy, list(range(1_000_000, 1_000_000 + options.episodes)))
    mean = float(np.mean([row["return"] for row in rows]))
    print(f"return {mean:.2f} over {np.mean([row['length'] for row in rows]):.0f} steps, {len(rows)} episodes")
    return mean


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)

    def work() -> int:
        train_and_play(parse(Options, "ppo", words, __doc__))
        return 0

    return run("ppo", work)


if __name__ == "__main__":
    sys.exit(main())
