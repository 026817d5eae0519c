"""Statistics of recorded frames' hidden states, by which a world says how unlike them a frame is. Part of training the
heads; for a world that has none:

python -m worldgen.training.uncertainty recordings/ --world worlds/mine
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from worldgen.actions import ActionMap
from worldgen.bundle import find_world, load_network, network_hashes
from worldgen.command import parse, run
from worldgen.config import WorldConfig
from worldgen.data.cache import open_cache
from worldgen.data.dataset import ClipSampler, split_episodes
from worldgen.data.progress import say_progress
from worldgen.errors import InputError
from worldgen.models.dynamics import Dynamics
from worldgen.training.held_out import check_same_actions
from worldgen.training.hidden_states import committed
from worldgen.training.rollout import led_to
from worldgen.training.tokens import tokenize
from worldgen.uncertainty import NETWORKS, Uncertainty, fit_uncertainty

CLIPS, HELD_OUT_CLIPS = 256, 64
LENGTH = 17
LANES = 16  # clips at a time


def measure_uncertainty(
    world: Path,
    dynamics: Dynamics,
    action_map: ActionMap,
    context_sigma: float,
    tokens: np.ndarray,
    actions: np.ndarray,
    train: ClipSampler,
    held_out: ClipSampler,
) -> Uncertainty:
    """Writes WORLD/uncertainty.npz. tokens (N, n, d), actions (N, width), row i chosen on frame i, of the cache."""

    def hidden_of(sampler: ClipSampler, count: int) -> np.ndarray:
        """(k, m, c) of the frames of `count` clips, but the first, which nothing led to"""
        rows = sampler.even_starts(count)[:, None] + np.arange(sampler.length)
        parts = []
        for some in np.array_split(rows, max(1, len(rows) // LANES)):
            clip = torch.from_numpy(np.asarray(tokens[some.ravel()])).float().unflatten(0, some.shape).to(device)
            led = torch.from_numpy(led_to(action_map, actions[some])).to(device)
            parts.append(committed(dynamics, clip, led, context_sigma, generator)[:, 1:].flatten(0, 1).float().cpu())
        return torch.cat(parts).numpy()

    device = dynamics.tokens_in.weight.device
    generator = torch.Generator(device).manual_seed(0)
    with torch.inference_mode():
        found = fit_uncertainty(
            hidden_of(train, CLIPS), hidden_of(held_out, HELD_OUT_CLIPS), network_hashes(world, NETWORKS)
        )
    found.save(world)
    return found


@dataclass(frozen=True)
class UncertaintyOptions:
    data: Annotated[Path, tyro.conf.Positional]
    """recordings of the world's game, with their actions"""
    world: Path
    """a world's folder, with its networks"""


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)

    def work() -> int:
        options = parse(UncertaintyOptions, "uncertainty", words, __doc__)
        return _measure(options.data, find_world(options.world), print)

    return run("uncertainty", work)


def _measure(data: Path, world: Path, say: Callable[[str], None]) -> int:
    config = WorldConfig.load(world / "world.json")
    cache = open_cache(data, height=config.height, width=config.width, on_progress=say_progress(say))
    if cache.actions is None or cache.action_map is None:
        raise InputError(f"{data} has no recorded actions: the hidden state of a frame needs the one that led to it")
    check_same_actions(config.actions, cache.action_map)
    tokens = tokenize(cache, load_network(world, "tokenizer").requires_grad_(False), world, say)
    train, held_out = (ClipSampler(cache, part, LENGTH, with_sound=False) for part in split_episodes(cache))
    dynamics = load_network(world, "dynamics").requires_grad_(False)
    found = measure_uncertainty(
        world, dynamics, config.actions, config.context_sigma, tokens, np.asarray(cache.actions), train, held_out
    )
    say(f"{world}: a frame is 1 unlike the recorded ones at a distance of {found.unit:.3g}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
