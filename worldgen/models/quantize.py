"""Vector quantisation with few codes (VQ-VAE, van den Oord et al. 2017), kept in use by restarting dead codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class VectorQuantizer(nn.Module):
    """Nearest of num_codes vectors, straight through; inputs are brought to mean 0 and standard deviation 1 first, or
    those of a fresh encoder would all fall to one code. Codes are running means of what they stand for. In training, a
    code that is hardly used divides the inputs of the one that is used most with it."""

    codes: Tensor
    usage: Tensor

    def __init__(self, num_codes: int, dim: int, decay: float = 0.95):
        super().__init__()
        self.norm = nn.BatchNorm1d(dim, eps=1e-6, affine=False, momentum=0.1)
        self.register_buffer("codes", torch.randn(num_codes, dim))
        self.register_buffer("usage", torch.full((num_codes,), 1 / num_codes))
        self.decay = decay

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (..., dim) -> quantised (..., dim), code (...) int64, loss ()"""
        flat = self.norm(x.flatten(0, -2).float())
        code = torch.cdist(flat, self.codes).argmin(-1)
        if self.training:
            self._follow(flat.detach(), code)
        chosen = self.codes[code]
        quantised = (flat + (chosen - flat).detach()).view_as(x)
        return quantised, code.view(x.shape[:-1]), F.mse_loss(flat, chosen)

    @torch.no_grad()
    def _follow(self, flat: Tensor, code: Tensor) -> None:
        members = F.one_hot(code, len(self.codes)).float()
        share, total = members.mean(0), (members[:, :, None] * flat[:, None]).mean(0)
        # of the inputs of the most used code one that is neither typical nor an outlier
        crowd = flat[code == share.argmax()]
        order = (crowd - crowd.mean(0)).square().sum(1).argsort()
        other = crowd[order[len(order) * 3 // 4]].clone()
        if torch.distributed.is_available() and torch.distributed.is_initialized():  # all processes move alike
            for sums in (share, total):
                torch.distributed.all_reduce(sums)
                sums /= torch.distributed.get_world_size()
            torch.distributed.broadcast(other, 0)
        self.usage.lerp_(share, 1 - self.decay)
        # as many of the inputs so far are of each code, their mean moves so far
        pull = ((1 - self.decay) * share / self.usage.clamp_min(1e-6)).clamp_max(1)[:, None]
        self.codes.lerp_(torch.where(share[:, None] > 0, total / share[:, None].clamp_min(1e-6), self.codes), pull)
        rarest, fullest = int(self.usage.argmin()), int(self.usage.argmax())
        if self.usage[rarest] < 0.1 / len(self.codes):
            self.codes[rarest] = other
            self.usage[[rarest, fullest]] = self.usage[fullest] / 2

    def keep(self, kept: Tensor) -> None:
        """Drops all codes but these (k,) int64."""
        self.codes, self.usage = self.codes[kept].clone(), self.usage[kept].clone()
