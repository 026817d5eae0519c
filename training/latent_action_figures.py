"""Figures of latent actions: which codes are in use, and how well they agree with the actions that were recorded.

The world never saw the recorded actions. What a code stands for, the linear probe and the small network to compare with
are learned on every second held-out episode and scored on the others.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.bundle import load_network
from worldgen.training import code_scores
from worldgen.training.action_reader import known_reader
from worldgen.training.code_scores import action_classes, agreement, code_usage, mean_recall
from worldgen.training.held_out import HeldOut
from worldgen.training.latent_action import latents_of
from worldgen.training.watch import OnProgress, unheard

MAX_PAIRS = 6000  # of each half
KEYS = code_scores.KEYS | {
    "why_not_compared": "why there are no scores against recorded actions, in words; null where there are"
}


def latent_action_figures(
    world: Path, held_out: HeldOut, num_codes: int, seed: int = 0, on_steps: OnProgress = unheard
) -> dict[str, Any] | str:
    """-> the figures (usage alone where no actions were recorded), or why there are none"""
    if held_out.facts["actions"] != "latent":
        return "the world has no latent-action model to infer actions with"
    rows = np.concatenate([np.arange(start, stop - 1) for start, stop in held_out.segments])
    codes = held_out.actions[rows, 0]
    figures: dict[str, Any] = {**dict.fromkeys(KEYS), **code_usage(codes, num_codes), "pairs": len(rows)}
    cache = held_out.cache
    if cache.actions is None:
        return figures | {"why_not_compared": "no actions are recorded"}
    assert cache.action_map is not None
    recorded = np.asarray(cache.actions)
    is_known = (recorded[rows] != cache.action_map.null()).any(-1)
    rows, codes = rows[is_known], codes[is_known]
    found = action_classes(recorded[rows], cache.action_map)
    if isinstance(found, str):
        return figures | {"why_not_compared": found}
    actions, kinds = found
    is_learned = held_out.half(rows)
    if min(is_learned.sum(), (~is_learned).sum()) < 2 * num_codes:
        return figures | {"why_not_compared": f"{len(rows)} pairs with known actions are too few"}
    rng = np.random.default_rng(seed)
    picks = np.sort(
        np.concatenate([rng.permutation(np.flatnonzero(is_learned == half))[:MAX_PAIRS] for half in (False, True)])
    )
    rows, codes, actions, is_learned = rows[picks], codes[picks], actions[picks], is_learned[picks]
    latents = latents_of(cache, load_network(world, "latent_action"), rows)
    figures |= agreement(codes, actions, is_learned, num_codes, kinds.names, latents)
    with_actions = np.zeros((len(held_out.actions), 1), np.int64)
    with_actions[rows, 0] = actions
    truth = replace(held_out, actions=with_actions)
    reader = known_reader(truth, rows[is_learned], [len(kinds.names)], seed, on_steps)
    pairs = held_out.frames(rows[~is_learned, None] + np.arange(2))
    figures["labelled"] = mean_recall(reader(pairs[:, 0], pairs[:, 1])[:, 0], actions[~is_learned])
    figures["probe_ratio"] = figures["probe"] / figures["labelled"] if figures["labelled"] else None
    return figures
