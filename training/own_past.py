"""What a clip becomes when the world plays it by itself: the past that the dynamics must learn to live with.

In play every frame follows from frames that were generated, errors and all; trained on recordings alone a network
passes errors on, and more of them each frame (exposure bias; Self Forcing, Huang et al. 2025).
"""

from __future__ import annotations

import torch
from torch import Tensor

from worldgen.models.dynamics import Dynamics


@torch.no_grad()
def play_on(
    network: Dynamics,
    tokens: Tensor,
    actions: Tensor,
    context_sigma: Tensor,
    num_true: Tensor,
    generator: torch.Generator,
    first: Tensor | None = None,
    nfe: int = 1,
) -> tuple[Tensor, Tensor]:
    """Clips played on frame by frame, with nfe denoising steps each.

    tokens (b, t, n, d); actions (b, t, width), row i led to frame i; context_sigma (b,), of finished frames;
    num_true (b,), so many first frames stay as recorded; first (b,), the frame at which a game begins, 0 by default:
    what is before it counts for nothing -> tokens (b, t, n, d), hidden (b, t, m, c) of the finished frames
    """
    b, t, n, d = tokens.shape
    first = torch.zeros(b, dtype=torch.int64, device=tokens.device) if first is None else first
    cache = tokens.new_zeros(b, *network.cache_shape)
    previous = tokens.new_zeros(b, *network.previous_shape)
    played, hidden = [], []
    for i in range(t):
        is_true = i < num_true
        age = (i - first).clamp_min(0)
        # contiguous: a compiled network is compiled anew for other strides, which follow from the length of the clip
        ring = (previous, context_sigma, actions[:, i].contiguous(), cache, age % network.position_period, age)
        finished = tokens[:, i].contiguous()
        if not bool(is_true.all()):
            noise = torch.randn(b, n, d, generator=generator, device=tokens.device)
            finished = torch.where(is_true[:, None, None], finished, network.sample(noise, nfe, *ring).float())
        noise = torch.randn(b, n, d, generator=generator, device=tokens.device)
        cache, previous, seen = network.commit(finished, noise, *ring)
        previous = torch.where((i >= first)[:, None, None, None], previous, 0)
        played.append(finished)
        hidden.append(seen)
    return torch.stack(played, dim=1), torch.stack(hidden, dim=1)
