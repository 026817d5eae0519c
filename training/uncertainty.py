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

from worldgen.actions import ActionMap, check_same_actions
from worldgen.bundle import find_world, load_network, network_hashes
from worldgen.command import parse, run
from worldgen.config import WorldConfig
from worldgen.data.cache import open_cache
from worldgen.data.dataset import ClipSampler, split_episodes
from worldgen.data.progress import say_progress
from worldgen.errors import InputError
from worldgen.models.dynamics import Dynamics
from worldgen.training.hidden_states import committed
from worldgen.training.rollout import PROMPT, led_to
from worldgen.training.tokens import tokenize
from worldgen.uncertainty import NETWORKS, Uncertainty, fit_uncertainty
from worldgen.world import World

CLIPS, HELD_OUT_CLIPS = 256, 64
MOST_NUMBERS = 2**28  # of hidden states at a time: a gigabyte
LENGTH = 17
LANES = 16  # clips at a time
FORETOLD = 4  # frames of a clip on which the figure is compared with what comes


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
        """(k, m, c) of the frames of `count` clips, fewer of a large world, but the first, which nothing led to"""
        size = sampler.length * (dynamics.num_tokens + 1) * dynamics.config.dim
        rows = sampler.even_starts(max(1, min(count, MOST_NUMBERS // size)))[:, None] + np.arange(sampler.length)
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
    starts = held_out.even_starts(HELD_OUT_CLIPS)
    rows = starts[:, None] + np.arange(LENGTH)
    frames = np.asarray(cache.frames[rows.ravel()]).reshape(*rows.shape, *cache.frames.shape[1:])
    playing = World.load(world, batch=len(starts), upscale=False, sound="off")
    agreement = foretold(playing, frames, np.asarray(cache.actions)[rows])
    say(f"  rank correlation with the error of the next frame, held out, up to {FORETOLD} frames: {agreement:.2f}")
    return 0


def foretold(world: World, frames: np.ndarray, actions: np.ndarray) -> float:
    """How well a frame's uncertainty tells the error of the one after it: Spearman's rank correlation over the first
    frames of clips (b, t, h, w, 3), actions (b, t, width), played by a world of batch b."""
    values = world.config.actions.values(actions)
    shown = world.reset(0, start=frames[:, :PROMPT], start_actions=values[:, : PROMPT - 1])
    told: list[np.ndarray] = []
    errors: list[np.ndarray] = []
    for i in range(FORETOLD):
        told.append(np.asarray(shown.uncertainty))
        shown = world.step(values[:, PROMPT - 1 + i])
        errors.append(((shown.image.astype(float) - frames[:, PROMPT + i]) ** 2).mean((1, 2, 3)))
    ranks = [np.argsort(np.argsort(np.concatenate(x))) for x in (told, errors)]
    return float(np.asarray(np.corrcoef(ranks))[0, 1])


if __name__ == "__main__":
    sys.exit(main())
