"""Vector quantisation with few codes (VQ-VAE, van den Oord et al. 2017), kept in use by restarting dead codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class VectorQuantizer(nn.Module):
    """Nearest of num_codes vectors, straight through. In training, a code that is hardly used moves to the input that
    the codebook fits worst."""

    usage: Tensor

    def __init__(self, num_codes: int, dim: int, decay: float = 0.99):
        super().__init__()
        self.codes = nn.Parameter(torch.randn(num_codes, dim) / dim**0.5)
        self.register_buffer("usage", torch.full((num_codes,), 1 / num_codes))
        self.decay = decay

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (..., dim) -> quantised (..., dim), code (...) int64, loss ()"""
        flat = x.flatten(0, -2).float()
        distance = torch.cdist(flat, self.codes.float())
        code = distance.argmin(-1)
        if self.training:
            self._restart(flat.detach(), distance.detach(), code)
        chosen = self.codes[code]
        loss = F.mse_loss(chosen, flat.detach()) + 0.25 * F.mse_loss(flat, chosen.detach())
        quantised = (flat + (chosen - flat).detach()).view_as(x)
        return quantised, code.view(x.shape[:-1]), loss

    @torch.no_grad()
    def _restart(self, flat: Tensor, distance: Tensor, code: Tensor) -> None:
        share = torch.bincount(code, minlength=len(self.codes)) / len(code)
        worst = flat[distance.min(-1).values.argmax()]
        if torch.distributed.is_available() and torch.distributed.is_initialized():  # all processes move the same code
            torch.distributed.all_reduce(share)
            share /= torch.distributed.get_world_size()
            torch.distributed.broadcast(worst, 0)
        self.usage.lerp_(share, 1 - self.decay)
        rarest = int(self.usage.argmin())
        if self.usage[rarest] < 0.1 / len(self.codes):
            self.codes[rarest] = worst
            self.usage[rarest] = 1 / len(self.codes)
