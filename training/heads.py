"""Trains the reward and termination heads on the frozen dynamics' hidden state of finished frames.

worldgen train recordings/ --out worlds/mine --stages heads --steps 100
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldgen.actions import ActionMap
from worldgen.data.cache import Cache
from worldgen.data.dataset import ClipSampler
from worldgen.models.dynamics import FINEST_STEP, Dynamics, previous_of
from worldgen.models.heads import Heads
from worldgen.training.rollout import led_to

EVENT_SHARE = 0.5  # of a batch's clips hold a reward or an end: both are rare


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
        cache: Cache,
        tokens: np.ndarray,
        actions: np.ndarray,
        train: ClipSampler,
        validation: ClipSampler,
        batch: int,
    ):
        self.network = network
        self._dynamics: nn.Module = dynamics.eval().requires_grad_(False)
        self._action_map, self._sigma = action_map, context_sigma
        self._cache, self._tokens, self._actions = cache, tokens, actions
        self._train, self._validation, self._batch = train, validation, batch
        is_event = (np.asarray(cache.reward) != 0) | np.asarray(cache.terminated)
        counts = np.concatenate([[0], np.cumsum(is_event)])
        starts = train.all_starts()
        # the last row of a clip is padding here: its transition leads out of the clip
        self._event_starts = starts[counts[starts + train.length - 1] > counts[starts]]

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        starts = self._train.draw(rng, self._batch)
        num_events = int(EVENT_SHARE * self._batch) if len(self._event_starts) else 0
        starts[:num_events] = rng.choice(self._event_starts, num_events) if num_events else []
        return self._gather(starts, self._train.length)

    def _gather(self, starts: np.ndarray, length: int) -> dict[str, Tensor]:
        rows = starts[:, None] + np.arange(length)
        tokens = torch.from_numpy(np.asarray(self._tokens[rows.ravel()])).float().unflatten(0, rows.shape)
        reward, terminated = np.asarray(self._cache.reward)[rows], np.asarray(self._cache.terminated)[rows]
        return {
            "tokens": tokens,
            "actions": torch.from_numpy(led_to(self._action_map, self._actions[rows])),
            "reward": torch.from_numpy(reward[:, :-1].astype(np.float32)),
            "terminated": torch.from_numpy(terminated[:, :-1]),
        }

    @torch.no_grad()
    def _hidden(self, batch: dict[str, Tensor], generator: torch.Generator | None) -> Tensor:
        """What commit() would give for every frame of the clips: (b, t, m, c)"""
        tokens = batch["tokens"]
        dynamics = self._dynamics.to(tokens.device)
        level = torch.full(tokens.shape[:2], self._sigma, device=tokens.device)
        noise = torch.randn(tokens.shape, generator=generator, device=tokens.device)
        noisy = (1 - self._sigma) * tokens + self._sigma * noise
        previous = previous_of(tokens, noisy)
        return dynamics(noisy, level, torch.full_like(level, FINEST_STEP), previous, level, batch["actions"])[1]

    def loss(self, network, batch, generator, progress) -> tuple[Tensor, dict[str, Tensor]]:
        hidden = self._hidden(batch, generator)[:, 1:]

        reward, terminated = heads_loss(network, hidden, batch["reward"], batch["terminated"])
        return reward + terminated, {"reward_loss": reward.detach(), "terminated_loss": terminated.detach()}

    @torch.no_grad()
    def validate(self, network) -> tuple[dict[str, float], None]:
        starts = self._validation.all_starts()[:: self._validation.length - 1]
        true_reward, true_end, made_reward, made_end = [], [], [], []
        for part in np.array_split(starts, max(1, len(starts) // 32)):
            batch = {k: v.to(network.device) for k, v in self._gather(part, self._validation.length).items()}
            generator = torch.Generator(network.device).manual_seed(0)
            reward, terminated = network(self._hidden(batch, generator)[:, 1:])
            true_reward.append(batch["reward"].flatten())
            true_end.append(batch["terminated"].flatten())
            made_reward.append(reward.flatten())
            made_end.append(terminated.flatten() > 0.5)
        reward, made = torch.cat(true_reward), torch.cat(made_reward)
        end, made_ends = torch.cat(true_end), torch.cat(made_end)
        hits = float((end & made_ends).sum())
        precision, recall = hits / max(1.0, float(made_ends.sum())), hits / max(1.0, float(end.sum()))
        return {
            "reward_error": float((made - reward).abs().mean()),
            "reward_error_of_zero": float(reward.abs().mean()),
            "terminated_precision": precision,
            "terminated_recall": recall,
            "num_ends": float(end.sum()),
        }, None

    def finish(self, network) -> None:
        pass
