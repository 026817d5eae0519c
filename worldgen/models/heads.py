"""Reward and termination, read from the hidden state of a finished frame.

Reward is a distribution over rewards spaced evenly on a symlog scale, with a two-hot target, and its mean is given back
(Dreamer 3, Hafner et al. 2025).
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F


def symlog(x: Tensor) -> Tensor:
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    return x.sign() * x.abs().expm1()


class Heads(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers declares config_name twice
    config: Any  # the arguments of __init__
    bins: Tensor
    log_prior_ratio: Tensor

    @register_to_config
    def __init__(
        self,
        *,
        hidden_dim: int,
        dim: int = 128,
        num_bins: int = 41,
        limit: float = 5.0,
        end_threshold: float = 0.5,
        shaping: dict[str, float] | None = None,
    ):
        """limit: largest symlog reward; 5 covers rewards up to 147, and those beyond are taken for that. end_threshold:
        probability above which the game has ended, which training chooses. shaping: what the reward holds besides the
        recorded one (WorldConfig)."""
        super().__init__()
        self.score = nn.Linear(hidden_dim, 4)  # four learned poolings over the frame's tokens
        self.trunk = nn.Sequential(nn.Linear(5 * hidden_dim, dim), nn.SiLU(), nn.Linear(dim, dim), nn.SiLU())
        self.reward = nn.Linear(dim, num_bins)
        self.terminated = nn.Linear(dim, 1)
        for layer in (self.reward, self.terminated):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.register_buffer("log_prior_ratio", torch.zeros(num_bins))
        self.register_buffer("bins", symexp(torch.linspace(-limit, limit, num_bins)), persistent=False)

    def logits(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """hidden (..., m, c) of a committed frame, the action token last -> reward (..., bins), terminated (...)"""
        pooled = self.score(hidden).softmax(-2).transpose(-1, -2) @ hidden  # (..., 4, c)
        x = self.trunk(torch.cat([pooled.flatten(-2), hidden[..., -1, :]], dim=-1))
        return self.reward(x), self.terminated(x)[..., 0]

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """hidden (..., m, c) -> reward (...), probability of termination (...). The rewards' chances are multiplied by
        how much rarer each is than where they were learned (prior correction, King & Zeng 2001)."""
        reward, terminated = self.logits(hidden)
        reward = reward + self.log_prior_ratio
        # not (p * bins).sum(-1): ONNX Runtime sums a row by where it lies in memory, so by its slot in the batch
        return reward.softmax(-1) @ self.bins, terminated.sigmoid()

    def two_hot(self, reward: Tensor) -> Tensor:
        """reward (...) -> (..., bins): the two bins around it, weighted so that their mean is the reward"""
        value = reward.clamp(self.bins[0], self.bins[-1])
        right = torch.searchsorted(self.bins, value.contiguous()).clamp(1, len(self.bins) - 1)
        left = right - 1
        share = (value - self.bins[left]) / (self.bins[right] - self.bins[left])
        return (
            F.one_hot(left, len(self.bins)) * (1 - share)[..., None]
            + F.one_hot(right, len(self.bins)) * share[..., None]
        )
