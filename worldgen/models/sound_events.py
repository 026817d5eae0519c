"""The event head: which sound of the library begins in a frame, when in it and how loud, and which music fits, from the
hidden state.

That one begins is decided as in the sound head, by a threshold; which one it is, is for the host to draw.

Letters: b batch, t frames, m tokens of hidden, c width of hidden, e width here, k effects and j tracks of music of the
library.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional as F

from worldgen.models.sound import Reading, decide, gru_step


class SoundEvents(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers declares config_name twice
    config: Any  # the arguments of __init__
    threshold: Tensor

    @register_to_config
    def __init__(
        self,
        *,
        hidden_dim: int,
        action_kind: str,
        action_sizes: list[int],
        num_sounds: int,
        num_music: int = 0,
        dim: int = 96,
    ):
        """num_sounds: effects of the library. num_music: its tracks of music."""
        super().__init__()
        self.reading = Reading(hidden_dim, action_kind, action_sizes, dim)
        self.memory = nn.GRU(dim + 1, dim, batch_first=True)
        self.begin = nn.Sequential(nn.Linear(2 * dim, dim), nn.SiLU(), nn.Linear(dim, 1))
        self.kind = nn.Linear(2 * dim, num_sounds)
        self.place = nn.Linear(2 * dim, 2)
        self.track = nn.Linear(2 * dim, num_music + 1)
        self.register_buffer("threshold", torch.tensor(0.5))

    @property
    def state_dim(self) -> int:
        """Of step(): the memory, whether a sound began in the last frame, what speaks for one."""
        return self.config.dim + 2

    def forward(self, hidden: Tensor, action: Tensor, begun: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A clip at once: hidden (b, t, m, c), action (b, t, width) that led to each frame, begun (b, t): 1 where a
        sound began in the frame before -> logit (b, t) of a sound that begins, logits (b, t, k) of which, place
        (b, t, 2), logits (b, t, j + 1) of the music"""
        condition = self.reading(hidden, action)
        remembered, _ = self.memory(torch.cat([condition, begun[..., None]], dim=-1))
        return self.outputs(torch.cat([remembered, condition], dim=-1))

    def step(self, hidden: Tensor, action: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """hidden (b, m, c), action (b, width), state (b, state_dim), zero at first -> probabilities (b, k + 1), the
        last one of no sound; place (b, 2): where in the frame it begins, in [0, 1], and the logarithm of its gain;
        probabilities (b, j + 1) of music, the last one of none; state"""
        memory, begun, urge = state.split([self.config.dim, 1, 1], dim=-1)
        condition = self.reading(hidden, action)
        memory = gru_step(self.memory, torch.cat([condition, begun], dim=-1), memory)
        logit, kinds, place, track = self.outputs(torch.cat([memory, condition], dim=-1))
        begins, urge = decide(logit, urge[..., 0], self.threshold)
        event = torch.cat([kinds.softmax(-1) * begins[..., None], 1 - begins[..., None]], dim=-1)
        return event, place, track.softmax(-1), torch.cat([memory, begins[..., None], urge[..., None]], dim=-1)

    def outputs(self, context: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """context (..., 2e) -> logit (...), logits (..., k), place (..., 2), logits (..., j + 1)"""
        begin, gain = self.place(context).unbind(-1)
        place = torch.stack([torch.sigmoid(begin), gain.clamp(-3, 1)], dim=-1)
        return self.begin(context)[..., 0], self.kind(context), place, self.track(context)


def begun_before(kind: Tensor, none: int) -> Tensor:
    """kind (b, t) int64, `none` where no sound begins -> (b, t): 1 where one began in the frame before"""
    return F.pad((kind != none).float(), (1, 0))[:, :-1]
