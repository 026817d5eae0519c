"""Trains the reward and termination heads on the frozen dynamics' hidden state of finished frames.

worldgen train recordings/ --out worlds/mine --stages heads --steps 100
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from worldgen.actions import ActionMap
from worldgen.data.cache import Cache
from worldgen.data.dataset import ClipSampler
from worldgen.data.shaping import shaped_rewards
from worldgen.models.dynamics import Dynamics
from worldgen.models.heads import Heads
from worldgen.training.calibration import fit_sigmoid, threshold_of_best_f1
from worldgen.training.compiled import compile_network
from worldgen.training.outcomes import end_figures, is_unusual, reward_figures
from worldgen.training.own_past import play_on
from worldgen.training.rollout import led_to

REWARD_SHARE, END_SHARE = 0.3, 0.2  # of a batch's clips hold an unusual reward, or an end: both are rare
LOGGED = (
    "reward_error",
    "reward_error_of_constant",
    "reward_explained",
    "terminated_f1",
    "terminated_average_precision",
)
ROWS = 65_536  # of rewards at once
RAREST = 1e-8  # share of rewards below which nothing is known
MAX_WINDOWS = 128  # held-out clips that the heads are calibrated on


def heads_loss(network: Heads, hidden: Tensor, reward: Tensor, terminated: Tensor) -> tuple[Tensor, Tensor]:
    """hidden (b, t, m, c), reward (b, t), terminated (b, t) bool, of the transition that led to the frame"""
    reward_logits, terminated_logits = network.logits(hidden)
    reward_loss = -(network.two_hot(reward) * reward_logits.float().log_softmax(-1)).sum(-1).mean()
    return reward_loss, F.binary_cross_entropy_with_logits(terminated_logits.float(), terminated.float())


class HeadsStage:
    name = "heads"

    def __init__(
        self,
        network: Heads,
        dynamics: Dynamics,
        action_map: ActionMap,
        context_sigma: float,
        nfe: int,
        cache: Cache,
        tokens: np.ndarray,
        actions: np.ndarray,
        train: ClipSampler,
        validation: ClipSampler,
        batch: int,
    ):
        self.network = network
        self._dynamics: Dynamics = dynamics.eval().requires_grad_(False)
        self._played = self._dynamics
        self._action_map, self._sigma, self._nfe = action_map, context_sigma, nfe
        self._cache, self._tokens, self._actions = cache, tokens, actions
        self._train, self._validation, self._batch = train, validation, batch
        self._reward = shaped_rewards(cache, network.config.shaping or {})
        self._log_prior_ratio: Tensor | None = None
        starts = train.all_starts()

        def with_any(flags: np.ndarray) -> np.ndarray:
            # the last row of a clip is padding here: its transition leads out of the clip
            counts = np.concatenate([[0], np.cumsum(flags)])
            return starts[counts[starts + train.length - 1] > counts[starts]]

        # apart: an end is in few clips, a reward in many, and drawn together there would hardly be an end
        self._with_reward = with_any(is_unusual(self._reward))
        self._with_end = with_any(np.asarray(cache.terminated))
        self._windows, self._weights = _windows(validation, np.asarray(cache.terminated))
        self._held_out: list[tuple[Tensor, Tensor, Tensor]] | None = None  # played once

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        starts = self._train.draw(rng, self._batch)
        begin = 0
        for count, choices in self._sought():
            starts[begin : begin + count] = rng.choice(choices, count)
            begin += count
        return self._gather(starts, self._train.length)

    def _sought(self) -> list[tuple[int, np.ndarray]]:
        """How many clips of a batch are drawn from which: the others are from anywhere."""
        sought, room = [], self._batch // 2
        for share, choices in ((END_SHARE, self._with_end), (REWARD_SHARE, self._with_reward)):
            count = min(room, max(1, int(share * self._batch)))  # of a small batch, as each process has, one at least
            if count and len(choices):
                sought.append((count, choices))
                room -= count
        return sought

    def _gather(self, starts: np.ndarray, length: int) -> dict[str, Tensor]:
        rows = starts[:, None] + np.arange(length)
        tokens = torch.from_numpy(np.asarray(self._tokens[rows.ravel()])).float().unflatten(0, rows.shape)
        reward, terminated = self._reward[rows], np.asarray(self._cache.terminated)[rows]
        return {
            "tokens": tokens,
            "actions": torch.from_numpy(led_to(self._action_map, self._actions[rows])),
            "reward": torch.from_numpy(reward[:, :-1]),
            "terminated": torch.from_numpy(terminated[:, :-1]),
        }

    @torch.no_grad()
    def _hidden(self, dynamics: Dynamics, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """What commit() gives in play, from somewhere in each clip on: (b, t, m, c). The last frame is always a
        generated one: a game may give none after its end, and its recordings stand still there, which no world does.
        Rewards and ends are of what was recorded, and are given to what the world makes of the same actions."""
        tokens = batch["tokens"]
        b, t = tokens.shape[:2]
        sigma = torch.full((b,), self._sigma, device=tokens.device)
        num_true = torch.randint(1, t, (b,), generator=generator, device=tokens.device)
        dynamics.to(tokens.device)  # type: ignore[arg-type]  # diffusers hides its signature
        return play_on(dynamics, tokens, batch["actions"], sigma, num_true, generator, nfe=self._nfe)[1]

    def loss(self, network, batch, generator, progress) -> tuple[Tensor, dict[str, Tensor]]:
        hidden = self._hidden(self._played, batch, generator)[:, 1:]
        reward, terminated = heads_loss(network, hidden, batch["reward"], batch["terminated"])
        return reward + terminated, {"reward_loss": reward.detach(), "terminated_loss": terminated.detach()}

    @torch.no_grad()
    def _read(self, network: Heads) -> tuple[np.ndarray, ...]:
        """The held-out clips -> reward, logit of an end, true reward, true end, weight: (k,) each, one a transition"""
        if self._held_out is None:
            self._held_out = list(self._play_held_out(network.device))
        parts: list[list[Tensor]] = [[], [], [], []]
        for kept, true_reward, end in self._held_out:
            hidden = kept.to(network.device).float()
            reward, _ = network(hidden)
            _, logit = network.logits(hidden)
            for part, value in zip(parts, (reward, logit, true_reward, end), strict=True):
                part.append(value.flatten().cpu())
        weights = np.repeat(self._weights, self._validation.length - 1)
        return *(torch.cat(part).numpy() for part in parts), weights

    def _play_held_out(self, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The held-out clips, some at a time: hidden (b, t - 1, m, c) in half precision, reward and terminated
        (b, t - 1). Minutes on a CPU, and the same every time: the dynamics learns nothing here."""
        for starts in np.array_split(self._windows, max(1, len(self._windows) // 32)):
            given = self._gather(starts, self._validation.length)
            batch = {k: v.to(device) for k, v in given.items()}
            hidden = self._hidden(self._dynamics, batch, torch.Generator(device).manual_seed(0))[:, 1:]
            yield hidden.half().cpu(), given["reward"], given["terminated"]

    def validate(self, network) -> tuple[dict[str, float], None]:
        reward, logit, true_reward, end, weights = self._read(network)
        probability = 1 / (1 + np.exp(-logit.astype(np.float64)))
        ends = end_figures(probability, probability > network.config.end_threshold, end, weights)
        rewards = reward_figures(reward, true_reward, weights)
        kept = {k: v for k, v in (rewards | ends).items() if k in LOGGED and v is not None}
        return {**kept, "end_threshold": network.config.end_threshold}, None

    def compile(self) -> None:
        """Held-out clips, of which there are other numbers at once, are read by the dynamics as it is."""
        self._played = copy.deepcopy(self._dynamics)
        compile_network(self._played)

    def finish(self, network) -> None:
        """Unusual rewards and ends are shown far more often than they happen. So the network is told how much rarer
        rewards are, and the probability of an end is fitted to held-out clips, with the threshold that has the best F1
        there."""
        if self._log_prior_ratio is None:
            self._log_prior_ratio = self._compare_priors(network)
        network.log_prior_ratio.copy_(self._log_prior_ratio)
        _, logit, _, end, weights = self._read(network)
        if not end.any():
            return
        scale, shift = fit_sigmoid(logit, end, weights)
        with torch.no_grad():
            network.terminated.weight.mul_(scale)
            network.terminated.bias.mul_(scale).add_(shift)
        probability = 1 / (1 + np.exp(-(scale * logit.astype(np.float64) + shift)))
        threshold, _, _ = threshold_of_best_f1(probability, end, weights)
        network.register_to_config(end_threshold=threshold)

    def _compare_priors(self, network: Heads) -> Tensor:
        """(bins,) logarithm of how often each bin's reward comes in any clip over how often in those of a batch"""
        anywhere, sought = self._prior(network, self._train.all_starts()), self._sought()
        shown = anywhere * (1 - sum(count for count, _ in sought) / self._batch)
        for count, choices in sought:
            shown = shown + self._prior(network, choices) * (count / self._batch)
        ratio = torch.where(anywhere > RAREST, anywhere / shown.clamp_min(RAREST), 1.0)
        return ratio.log().float()

    def _prior(self, network: Heads, starts: np.ndarray) -> Tensor:
        """First frames of clips -> how often each bin's reward comes in them (bins,)"""
        steps = self._train.length - 1
        edges = np.zeros(len(self._reward) + 1)
        np.add.at(edges, starts, 1.0)
        np.add.at(edges, starts + steps, -1.0)
        num_clips = torch.from_numpy(edges.cumsum()[:-1])  # that hold each row
        rewards = torch.from_numpy(self._reward)
        parts = zip(rewards.split(ROWS), num_clips.split(ROWS), strict=True)
        bins = (network.two_hot(x.to(network.device)).double().cpu().T @ count for x, count in parts)
        return torch.stack(list(bins)).sum(0) / (len(starts) * steps)


def _windows(sampler: ClipSampler, terminated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First frames of clips that cover every transition of the sampler's segments about once, the last clip of each
    ending with it, because there games end -> at most MAX_WINDOWS of them, all with an end among them if they fit, and
    how many each stands for"""
    length = sampler.length
    parts = [np.arange(stop - length, start - 1, 1 - length)[::-1] for start, stop in sampler.segments]
    starts = np.concatenate(parts)
    has_end = terminated[starts[:, None] + np.arange(length - 1)].any(1)
    chosen, weights = [], []
    room = MAX_WINDOWS // 2
    for group in (starts[has_end], starts[~has_end]):
        count = min(len(group), room)
        if count:
            chosen.append(group[np.linspace(0, len(group) - 1, count).round().astype(int)])
            weights.append(np.full(count, len(group) / count))
        room = MAX_WINDOWS - count
    return np.concatenate(chosen), np.concatenate(weights)
