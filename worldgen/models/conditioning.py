"""What a frame is generated under: noise levels, step size and the action, as one vector per frame."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from worldgen.actions import ActionMap


class LevelEmbedding(nn.Module):
    """A number in [0, 1] (noise level, step size) -> (..., dim), by Fourier features."""

    frequencies: Tensor

    def __init__(self, dim: int, num_frequencies: int = 16):
        super().__init__()
        frequencies = torch.logspace(0, math.log10(64), num_frequencies) * math.pi / 2
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.linear = nn.Linear(2 * num_frequencies, dim)

    def forward(self, level: Tensor) -> Tensor:
        angle = level[..., None] * self.frequencies
        return self.linear(torch.cat([angle.cos(), angle.sin()], dim=-1))


class ActionEmbedding(nn.Module):
    """Network rows of an ActionMap (..., width) -> (..., dim). NULL has its own embedding."""

    offsets: Tensor

    def __init__(self, kind: str, sizes: list[int], dim: int):
        super().__init__()
        self.is_box = kind == "box"
        if self.is_box:
            self.linear = nn.Linear(len(sizes) + 1, dim)
        else:
            counts = torch.tensor([size + 1 for size in sizes])
            self.register_buffer("offsets", counts.cumsum(0) - counts, persistent=False)
            self.table = nn.Embedding(int(counts.sum()), dim)

    def forward(self, action: Tensor) -> Tensor:
        if self.is_box:
            return self.linear(action)
        return self.table(action + self.offsets).sum(-2)


def action_arguments(actions: ActionMap) -> dict[str, object]:
    """An ActionMap as the keyword arguments that networks save in config.json."""
    return {"action_kind": actions.kind, "action_sizes": list(actions.sizes)}


def has_actions(config: Mapping[str, object], actions: ActionMap) -> bool:
    """Whether a saved network is told these actions."""
    return all(config[name] == value for name, value in action_arguments(actions).items())
