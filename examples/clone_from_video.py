"""Learns to play a real game from an expert's video whose actions nobody recorded, with 200 labelled frames.

    worldgen record toy --fps 15 --policy scripted --frames 12000 --out recordings/expert
    worldgen train recordings/expert --out worlds/toy --actions latent --stages latent_action
    python examples/clone_from_video.py toy recordings/expert worlds/toy

plays the game with four players and prints what each earns: one that learned from the video's codes, mapped to buttons
by 200 labelled frames; an oracle that saw all buttons of the video; one that learned from the 200 frames alone; random.
Some ten minutes of one core. How sharply they draw their buttons (--sharpness) decides a lot: 8 was best on Doom's
*defend the center*, 1 or 2 on ToyGame. docs/latent-actions.md has figures.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from worldgen.bundle import load_network
from worldgen.command import parse, run, write_figures
from worldgen.data.cache import open_cache
from worldgen.envs.catalogue import make_game
from worldgen.errors import InputError
from worldgen.training.clone import button_table, play_games, sampler, share_right, train_policy
from worldgen.training.latent_action import latents_of

FEWEST_STEPS = 100  # a quarter of them, for the labelled frames alone, still rise and fall


@dataclass(frozen=True)
class Options:
    game: Annotated[str, tyro.conf.Positional]
    """as `worldgen record` names it"""
    expert: Annotated[Path, tyro.conf.Positional]
    """the expert's recordings; their actions are used by the oracle, and --labels of them"""
    world: Annotated[Path, tyro.conf.Positional]
    """a folder with a latent_action network"""
    labels: int = 200
    steps: int = 800
    """of each policy"""
    sharpness: float = 2.0
    """players draw buttons as their policy finds them likely, to this power: what is best differs between games"""
    games: int = 10
    max_frames: int = 2000
    seed: int = 0
    json: str | None = None


def clone(options: Options) -> dict[str, Any]:
    if min(options.labels, options.games) < 1 or options.steps < FEWEST_STEPS or not 0 < options.sharpness <= 100:
        raise InputError(
            f"--labels and --games are at least 1, --steps at least {FEWEST_STEPS}, --sharpness above 0 and at most 100"
        )
    network = load_network(options.world, "latent_action")
    height, width = network.config.height, network.config.width
    cache = open_cache(options.expert, height=height, width=width)
    if cache.actions is None or cache.action_map is None or not cache.action_map.is_discrete:
        raise InputError(f"{options.expert}: the oracle needs recorded actions, one list of them")
    num_buttons, num_codes = cache.action_map.sizes[0], network.config.num_codes
    rows = np.setdiff1d(np.arange(cache.num_frames), np.asarray(cache.starts[1:]) - 1)
    rows = rows[cache.actions[rows, 0] < num_buttons]
    buttons = np.asarray(cache.actions)[rows, 0]
    tenth = len(rows) // 10  # that nobody learns from
    if not tenth:
        raise InputError(f"{options.expert} has {len(rows)} frames with a known action: too few to learn from")
    codes = latents_of(cache, network, rows).argmax(1)
    order = np.random.default_rng(options.seed).permutation(np.arange(tenth, len(rows)))
    few = np.sort(order[: options.labels])
    table = button_table(codes[few], buttons[few], num_codes, num_buttons)
    same = np.eye(num_buttons)
    given = {
        "codes": (rows[tenth:], codes[tenth:], num_codes, options.steps, table),
        "oracle": (rows[tenth:], buttons[tenth:], num_buttons, options.steps, same),
        "labels alone": (rows[few], buttons[few], num_buttons, options.steps // 4, same),
    }
    game = make_game(options.game, cache.fps)
    seeds = [1_000_000 + options.seed + i for i in range(options.games)]
    figures: dict[str, Any] = {}
    for name, (where, kinds, num_kinds, steps, its_table) in given.items():
        policy = train_policy(cache, where, kinds, num_kinds, steps, options.seed)
        right = share_right(policy, its_table, cache, rows[:tenth], buttons[:tenth])
        choose = sampler(policy, its_table, np.random.default_rng(options.seed), options.sharpness)
        figures[name] = play_games(game, choose, seeds, height, width, options.max_frames).to_json() | {"right": right}
        print(f"{name:14} {figures[name]['return']:7.2f} +- {figures[name]['standard_error'] or 0:.2f}", flush=True)
    rng = np.random.default_rng(options.seed)
    at_random = play_games(game, lambda past: int(rng.integers(num_buttons)), seeds, height, width, options.max_frames)
    figures["random"] = at_random.to_json()
    game.close()
    figures["ratio"] = figures["codes"]["return"] / figures["oracle"]["return"] if figures["oracle"]["return"] else None
    ratio = "none" if figures["ratio"] is None else f"{figures['ratio']:.2f}"
    print(f"{'random':14} {figures['random']['return']:7.2f}; codes / oracle {ratio}")
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    def command() -> int:
        options = parse(Options, "clone_from_video", sys.argv[1:] if argv is None else argv, __doc__)
        write_figures(clone(options), options.json)
        return 0

    return run("clone_from_video", command)


if __name__ == "__main__":
    sys.exit(main())
