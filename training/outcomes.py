"""Figures of reward and of the game's end, as the world gives them when it is played.

The held-out episodes are cut into windows: PROMPT true frames, then SPAN steps under the recorded actions. What the
world says at each of those steps is compared with what the game said there; recorded rewards are shaped as the world's
own are. The prompt begins every window from the true past, because a game that has drifted from the recording may
rightly end at another time; so these figures judge the heads on frames that are generated, but not yet old. Windows end
where their episode ends, so every end is in one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from worldgen.data.shaping import missing_column, shaped_rewards
from worldgen.training.calibration import threshold_of_best_f1
from worldgen.training.held_out import HeldOut
from worldgen.training.rollout import PROMPT, batch_of, rollout
from worldgen.training.watch import OnProgress, unheard
from worldgen.world import World

SPAN = 8

KEYS = {
    "windows": "stretches of true prompt and generated frames that were played",
    "steps": "transitions that were compared",
    "reward_error": "mean absolute difference of generated and recorded reward",
    "reward_error_of_constant": "the same for the best constant, the median of the recorded rewards: a head that knows "
    "nothing",
    "reward_explained": "share of the recorded rewards' variance that the generated ones explain: 1 is all, 0 what "
    "their mean would; null where they never change",
    "reward_correlation": "correlation of generated and recorded reward; null where one of them never changes",
    "reward_mean": "mean generated reward of a step",
    "reward_mean_recorded": "mean recorded reward of a step: with reward_mean far from it the head is not calibrated",
    "reward_slope": "recorded reward for each unit of generated reward (least squares): 1 is calibrated, below 1 the "
    "head overstates",
    "reward_events": "recorded rewards that differ from that constant, among the steps",
    "reward_events_recall": "share of those with a generated reward more than halfway to theirs",
    "reward_events_precision": "share of the generated rewards more than halfway to a recorded event's usual size at "
    "whose step there is one; null without any",
    "end_threshold": "probability above which the world says that the game has ended, from its world.json",
    "terminated_precision": "share of generated ends that are recorded at that very step; null without any",
    "terminated_recall": "share of recorded ends that are generated at that very step; null without any",
    "terminated_f1": "2 * precision * recall / (precision + recall), 0 where no end was found; null without recorded "
    "ends",
    "terminated_average_precision": "area under precision over recall, of all thresholds: 1 is perfect, guessing gives "
    "end_rate; null without recorded ends",
    "best_threshold": "the threshold with the best F1 on these recordings: far from end_threshold, that one is badly "
    "chosen",
    "best_f1": "F1 there",
    "end_rate": "share of steps at which a recorded game ends",
    "end_probability_mean": "mean probability of an end that the world gives: as large as end_rate if it is calibrated",
    "end_brier_skill": "1 - mean squared error of the probability over that of always saying end_rate (Brier skill "
    "score): above 0 the probabilities are worth something",
    "ends": "recorded ends among the steps",
    "generated_ends": "generated ends",
}


def outcome_figures(
    world: World, held_out: HeldOut, max_windows: int = 256, seed: int = 0, on_windows: OnProgress = unheard
) -> dict[str, Any] | None:
    """None for a world without heads, or recordings without actions or too short. Nothing of rewards that are shaped by
    what these recordings do not hold."""
    config = world.config
    starts = _windows(held_out)
    if not (config.has_reward or config.has_terminated) or not len(starts):
        return None
    is_known = missing_column(held_out.cache.state, config.shaping) is None
    rewards = shaped_rewards(held_out.cache, config.shaping if is_known else {})
    starts, weight = _choose(held_out, rewards, starts, max_windows, seed)
    reward, terminated, probability, true_reward, true_end = [], [], [], [], []
    batch = batch_of(world)
    for begin in range(0, len(starts), batch):
        rows = starts[begin : begin + batch, None] + np.arange(PROMPT + SPAN)
        made = rollout(world, held_out.frames(rows), held_out.actions[rows], SPAN, seed + begin)
        reward.append(made.reward)
        terminated.append(made.terminated)
        probability.append(made.end_probability)
        on_windows(begin + len(rows), len(starts))
        led_to = rows[:, PROMPT - 1 : -1]
        true_reward.append(rewards[led_to])
        true_end.append(held_out.cache.terminated[led_to])
    weights = np.repeat(weight, SPAN)
    figures: dict[str, Any] = {"windows": len(starts), "steps": len(weights)}
    if config.has_reward and is_known:
        figures |= reward_figures(_flat(reward), _flat(true_reward), weights)
    if config.has_terminated:
        figures["end_threshold"] = config.end_threshold
        figures |= end_figures(_flat(probability), _flat(terminated), _flat(true_end), weights)
    return figures


def reward_figures(made: np.ndarray, real: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """All (n,); weights: how many steps of the recordings each stands for"""
    constant = _weighted_median(real, weights)
    events = real != constant
    heard = (made - constant) / np.where(events, real - constant, 1) > 0.5
    figures: dict[str, Any] = {
        "reward_error": float(np.average(np.abs(made - real), weights=weights)),
        "reward_error_of_constant": float(np.average(np.abs(real - constant), weights=weights)),
        "reward_explained": None,
        "reward_correlation": _correlation(made, real, weights),
        "reward_mean": float(np.average(made, weights=weights)),
        "reward_mean_recorded": float(np.average(real, weights=weights)),
        "reward_slope": _slope(made, real, weights),
        "reward_events": int(events.sum()),
        "reward_events_recall": None,
        "reward_events_precision": None,
    }
    if events.any():
        usual = _weighted_median(np.abs(real - constant)[events], weights[events])
        claimed = np.abs(made - constant) > usual / 2
        variance = np.average(np.square(real - figures["reward_mean_recorded"]), weights=weights)
        figures["reward_explained"] = float(1 - np.average(np.square(made - real), weights=weights) / variance)
        figures["reward_events_recall"] = float(np.average(heard[events], weights=weights[events]))
        if claimed.any():
            figures["reward_events_precision"] = float(np.average(events[claimed], weights=weights[claimed]))
    return figures


def end_figures(probability: np.ndarray, made: np.ndarray, real: np.ndarray, weights: np.ndarray) -> dict[str, Any]:
    """probability (n,), made, real (n,) bool: what the world decided, what happened"""
    hits = float((weights * (made & real)).sum())
    num_made, num_real = float((weights * made).sum()), float((weights * real).sum())
    rate = num_real / float(weights.sum())
    figures: dict[str, Any] = {
        "terminated_precision": hits / num_made if made.any() else None,
        "terminated_recall": hits / num_real if real.any() else None,
        "terminated_f1": 2 * hits / (num_made + num_real) if real.any() else None,
        "terminated_average_precision": None,
        "best_threshold": None,
        "best_f1": None,
        "end_rate": rate,
        "end_probability_mean": float(np.average(probability, weights=weights)),
        "end_brier_skill": None,
        "ends": int(real.sum()),
        "generated_ends": int(made.sum()),
    }
    if real.any() and not real.all():
        threshold, f1, average_precision = threshold_of_best_f1(probability, real, weights)
        brier = np.average(np.square(probability - real), weights=weights)
        figures |= {
            "terminated_average_precision": average_precision,
            "best_threshold": threshold,
            "best_f1": f1,
            "end_brier_skill": float(1 - brier / (rate * (1 - rate))),
        }
    return figures


def _windows(held_out: HeldOut) -> np.ndarray:
    """First frames of the windows, (m,): SPAN apart, the last one of each segment ending with it"""
    length = PROMPT + SPAN
    parts = [np.arange(stop - length, start - 1, -SPAN)[::-1] for start, stop in held_out.segments]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _choose(
    held_out: HeldOut, reward: np.ndarray, starts: np.ndarray, limit: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """At most `limit` windows and how many each stands for. Ends and rewards are rare: windows with an end, with a
    reward and with neither get a third of the limit each, or what the others leave; the weights undo the preference."""
    if len(starts) <= limit:
        return starts, np.ones(len(starts))
    steps = starts[:, None] + np.arange(PROMPT - 1, PROMPT + SPAN - 1)
    has_end = np.asarray(held_out.cache.terminated)[steps].any(1)
    has_reward = is_unusual(reward)[steps].any(1) & ~has_end
    groups = sorted((starts[has_end], starts[has_reward], starts[~has_end & ~has_reward]), key=len)
    rng = np.random.default_rng(seed)
    picks: list[np.ndarray] = []
    weight: list[np.ndarray] = []
    for i, group in enumerate(groups):  # the smallest first, so that what it leaves goes to the others
        count = min(len(group), (limit - sum(len(p) for p in picks)) // (len(groups) - i))
        if count:
            picks.append(rng.choice(group, count, replace=False))
            weight.append(np.full(count, len(group) / count))
    return np.concatenate(picks), np.concatenate(weight)


def is_unusual(reward: np.ndarray) -> np.ndarray:
    """Which rewards are not what most steps give, (N,) -> (N,) bool"""
    return ~np.isclose(reward, np.median(reward), rtol=1e-4, atol=1e-6)


def _flat(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts).ravel()


def _weighted_median(x: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(x, kind="stable")
    total = np.cumsum(weights[order])
    return float(x[order][np.searchsorted(total, total[-1] / 2)])


def _slope(made: np.ndarray, real: np.ndarray, weights: np.ndarray) -> float | None:
    a, b = (x - np.average(x, weights=weights) for x in (made.astype(np.float64), real.astype(np.float64)))
    variance = np.average(a * a, weights=weights)
    return float(np.average(a * b, weights=weights) / variance) if variance > 1e-12 else None


def _correlation(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> float | None:
    a, b = (x - np.average(x, weights=weights) for x in (a.astype(np.float64), b.astype(np.float64)))
    spread = np.sqrt(np.average(a * a, weights=weights) * np.average(b * b, weights=weights))
    return float(np.average(a * b, weights=weights) / spread) if spread > 1e-9 else None
