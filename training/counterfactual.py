"""What would have happened? The real game is forked at a frame of a recording, and both it and the world are played on
under actions that nobody recorded.

Against recordings alone a world can score by guessing what the player does next; here the truth of other choices is
known. The recording says which game it is of and its seed: the game is played again up to the fork, which must show the
recorded frame, and from there its saved state is played under the recorded actions and under uniformly random ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.data.shrink import shrink
from worldgen.errors import InputError
from worldgen.training.held_out import HeldOut
from worldgen.training.interval import Resampling, interval
from worldgen.training.metrics import decibels, psnr, squared_errors
from worldgen.training.real_game import MakeGame, games_of, play_to_prompt
from worldgen.training.rollout import PROMPT, random_actions, replace_played, rollout
from worldgen.training.watch import OnProgress, unheard
from worldgen.world import World

HORIZONS = (1, 4, 16)
MAX_FORKS = 32

KEYS = {
    "forks": "places in the recordings where the real game was forked",
    "not_reproduced": "places where the game, played again, did not show the recorded frame; they are left out",
    "horizons": "the figures after so many frames",
    "psnr_random": "PSNR of the world under uniformly random actions against the real game under the same ones",
    "psnr_recorded": "the same under the recorded actions",
    "random_gap": "psnr_recorded - psnr_random: how much better the world is at what players do; about 0 if it knows "
    "what every action does",
    "random_gap_90": "90 % interval, by resampling episodes",
    "copy_last_psnr_random": "PSNR of repeating the last true frame, under random actions",
    "skill_random": "psnr_random - copy_last_psnr_random",
    "psnr_if_actions_are_ignored": "PSNR of the real game under the recorded actions against the real game under "
    "random ones: what a perfect world would score that did not listen",
    "games_left": "forks in which neither of the two had ended by then",
}


def counterfactual_figures(
    world: World,
    held_out: HeldOut,
    data: Path,
    starts: np.ndarray,
    make_game: MakeGame,
    seed: int = 0,
    on_forks: OnProgress = unheard,
) -> dict[str, Any] | str:
    """starts (b,): frames of the cache at which clips of at least PROMPT + 1 frames begin -> the figures, or why there
    are none"""
    if held_out.facts["actions"] != "recorded":
        return "no recorded actions are known"
    starts = starts[np.unique(np.linspace(0, len(starts) - 1, min(MAX_FORKS, len(starts))).astype(int))]
    steps = min(max(HORIZONS), int(_frames_left(held_out, starts).min()))
    if steps < 1:
        return "no recorded frames follow the prompts"
    rows = starts[:, None] + np.arange(PROMPT + steps)
    frames, actions = held_out.frames(rows), held_out.actions[rows]
    others = replace_played(actions, random_actions(world, actions, seed + 1))

    recorded, free, lengths = np.zeros_like(frames), np.zeros_like(frames), np.zeros(len(starts), np.int64)
    not_reproduced = tried = 0
    try:
        for game, clips in games_of(held_out, data, starts, make_game):
            if not (hasattr(game, "save") and hasattr(game, "load")):
                return f"{clips[0][1].source} cannot be forked"
            for i, info in clips:
                known = world.config.actions
                shown = play_to_prompt(game, held_out, info, int(starts[i]), known, frames[i, PROMPT - 1])
                tried += 1
                on_forks(tried, len(starts))
                if shown is None:
                    not_reproduced += 1
                    continue
                branches = _fork(game, world, (actions[i], others[i]), frames.shape[2:4])
                lengths[i] = min(len(branch) for branch in branches)
                for out, branch in zip((recorded, free), branches, strict=True):
                    out[i, PROMPT : PROMPT + len(branch)] = branch
    except InputError as error:
        return str(error)
    if not lengths.any():
        return f"none of {not_reproduced} recordings shows the same again when its game is played with its seed"

    chosen = lengths > 0
    made = [rollout(world, frames[chosen], a[chosen], steps, seed).frames for a in (actions, others)]
    real = [x[chosen, PROMPT:] for x in (recorded, free)]
    episode = held_out.episode_of(starts[chosen])
    at = [h for h in HORIZONS if h <= steps and (lengths[chosen] >= h).any()]
    return {
        "forks": int(chosen.sum()),
        "not_reproduced": not_reproduced,
        "horizons": {
            str(h): _figures_at(h, made, real, frames[chosen, PROMPT - 1], lengths[chosen], episode) for h in at
        },
    }


def _figures_at(
    h: int,
    made: Sequence[np.ndarray],
    real: Sequence[np.ndarray],
    last: np.ndarray,
    lengths: np.ndarray,
    episode: np.ndarray,
) -> dict[str, Any]:
    """made, real: under the recorded actions and under random ones, (b, t, h, w, 3) each"""
    left = lengths >= h
    (made_recorded, made_random), (real_recorded, real_random) = ([x[left, h - 1] for x in y] for y in (made, real))
    errors = [squared_errors(made_recorded, real_recorded), squared_errors(made_random, real_random)]
    resampling = Resampling(episode[left])
    draws = [resampling.psnr(*e) for e in errors]
    psnr_recorded, psnr_random = (decibels(e.sum() / c.sum()) for e, c in errors)
    copy_last = psnr(last[left], real_random)
    return {
        "psnr_random": psnr_random,
        "psnr_recorded": psnr_recorded,
        "random_gap": psnr_recorded - psnr_random,
        "random_gap_90": None if draws[0] is None or draws[1] is None else interval(draws[0] - draws[1]),
        "copy_last_psnr_random": copy_last,
        "skill_random": psnr_random - copy_last,
        "psnr_if_actions_are_ignored": psnr(real_recorded, real_random),
        "games_left": int(left.sum()),
    }


def _fork(game: Any, world: World, choices: Sequence[np.ndarray], size: tuple[int, ...]) -> list[np.ndarray]:
    """choices: rows (t, width) of a clip whose prompt the game has just played; size (h, w) -> what the game shows
    after it under each of them, up to its end: (t, h, w, 3) uint8"""
    state = game.save()
    branches = []
    for rows in choices:
        game.load(state)
        branch = []
        for row in rows[PROMPT - 1 : -1]:
            shown = game.step(world.config.actions.decode(row))
            branch.append(shrink(shown.image, *size))
            if shown.terminated or shown.truncated:
                break
        branches.append(np.stack(branch))
    return branches


def _frames_left(held_out: HeldOut, starts: np.ndarray) -> np.ndarray:
    """Of each clip, how many frames with known actions follow its prompt."""
    segment = np.searchsorted(held_out.segments.starts, starts, side="right") - 1
    return held_out.segments.stops[segment] - starts - PROMPT
