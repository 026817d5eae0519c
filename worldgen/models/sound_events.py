"""The event head: which sound of the library begins in a frame, when in it and how loud, from the hidden state.

Letters: b batch, t frames, m tokens of hidden, c width of hidden, e width here, k sounds of the library.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from worldgen.models.conditioning import ActionEmbedding
from worldgen.models.sound import NUM_POOLS, gru_step, pool


class SoundEvents(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers declares config_name twice
    config: Any  # the arguments of __init__

    @register_to_config
    def __init__(self, *, hidden_dim: int, action_kind: str, action_sizes: list[int], num_sounds: int, dim: int = 96):
        super().__init__()
        self.score = nn.Linear(hidden_dim, NUM_POOLS)
        self.action = ActionEmbedding(action_kind, action_sizes, dim)
        self.read = nn.Linear((NUM_POOLS + 1) * hidden_dim, dim)
        self.memory = nn.GRU(dim, dim, batch_first=True)
        self.event = nn.Linear(2 * dim, num_sounds + 1)
        self.place = nn.Linear(2 * dim, 2)

    def condition(self, hidden: Tensor, action: Tensor) -> Tensor:
        """hidden (..., m, c), action (..., width) that led to the frame -> (..., e)"""
        return F.silu(self.read(pool(self.score, hidden)) + self.action(action))

    def forward(self, hidden: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """A clip at once: hidden (b, t, m, c), action (b, t, width) -> as step(), without the memory"""
        condition = self.condition(hidden, action)
        remembered, _ = self.memory(condition)
        return self.outputs(torch.cat([remembered, condition], dim=-1))

    def step(self, hidden: Tensor, action: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """hidden (b, m, c), action (b, width), memory (b, e) -> logits (b, k + 1), the last one of no sound;
        place (b, 2): where in the frame it begins, in [0, 1], and the logarithm of its gain; memory (b, e)"""
        condition = self.condition(hidden, action)
        memory = gru_step(self.memory, condition, memory)
        return *self.outputs(torch.cat([memory, condition], dim=-1)), memory

    def outputs(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """context (..., 2e) -> logits (..., k + 1), place (..., 2)"""
        begin, gain = self.place(context).unbind(-1)
        return self.event(context), torch.stack([torch.sigmoid(begin), gain.clamp(-3, 1)], dim=-1)
