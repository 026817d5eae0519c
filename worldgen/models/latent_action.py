"""The latent-action model: which of a few codes explains how a frame became the next one (Genie, Bruce et al. 2024).

The encoder sees how a frame differs from the last one, and that one from the one before; the decoder sees only the past
and the code, so the code must carry what the past does not tell: the action. Pixels in, not tokens (Genie: control 1.91
against 1.33 dB). Changes alone, and convolutions pooled over the picture: a code is what happens, wherever it does and
whatever the scenery, and a step costs a twentieth of attention's.

Letters: b batch, t frames, f transitions (b times t - 1), h w pixels, c channels, d width of a code.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from worldgen.models.quantize import VectorQuantizer

PATCH = 4  # pixels a side of what the decoder draws at once
SHARPEN = 4  # changes are small beside the picture


class ConvBlock(nn.Module):
    """Convolution, normalisation, and what a condition does to each channel."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1, condition_dim: int = 0):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, stride, padding=1)
        self.norm = nn.GroupNorm(8, c_out)
        self.film = nn.Linear(condition_dim, 2 * c_out) if condition_dim else None

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """x (f, c_in, h, w), condition (f, e) -> (f, c_out, h', w')"""
        x = self.norm(self.conv(x))
        if self.film is not None:
            scale, shift = rearrange(self.film(condition), "f (two c) -> two f c 1 1", two=2)
            x = x * (1 + scale) + shift
        return F.silu(x)


class MeanAndMax(nn.Module):
    """Over all places: a code is what happens, wherever it does."""

    def forward(self, x: Tensor) -> Tensor:
        """x (f, c, h, w) -> (f, 2 c)"""
        return torch.cat([reduce(x, "f c h w -> f c", how) for how in ("mean", "max")], dim=1)


class Decoder(nn.Module):
    """The last three frames and a code -> how the next frame differs from the last one."""

    def __init__(self, dim: int, code_dim: int):
        super().__init__()
        pixels = 3 * PATCH * PATCH
        self.patches_in = nn.Conv2d(3 * pixels, dim, 1)
        self.fine = ConvBlock(dim, dim, condition_dim=code_dim)
        self.down = ConvBlock(dim, 2 * dim, stride=2, condition_dim=code_dim)
        self.coarse = ConvBlock(2 * dim, 2 * dim, condition_dim=code_dim)
        self.up = nn.Conv2d(2 * dim, dim, 1)
        self.last = ConvBlock(dim, dim, condition_dim=code_dim)
        self.patches_out = nn.Conv2d(dim, pixels, 1)
        for parameter in self.patches_out.parameters():
            nn.init.zeros_(parameter)

    def forward(self, past: Tensor, code: Tensor) -> Tensor:
        """past (f, 9, h, w), code (f, d) -> (f, 3, h, w)"""
        x = self.patches_in(F.pixel_unshuffle(past, PATCH))
        x = x + self.fine(x, code)
        coarse = self.down(x, code)
        coarse = coarse + self.coarse(coarse, code)
        x = x + F.interpolate(self.up(coarse), size=x.shape[-2:])
        x = x + self.last(x, code)
        return F.pixel_shuffle(self.patches_out(x), PATCH)


class LatentActionModel(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers declares config_name twice
    config: Any  # the arguments of __init__

    @register_to_config
    def __init__(
        self,
        *,
        height: int,
        width: int,
        num_codes: int = 8,
        code_dim: int = 16,
        channels: list[int] | None = None,
        dim: int = 48,
        num_labels: int = 0,
    ):
        """num_labels: how many recorded actions its latents learn to tell apart, where a few are known; 0: none are."""
        super().__init__()
        if height % (2 * PATCH) or width % (2 * PATCH):
            raise ValueError(f"frame size {width}x{height} is not a multiple of {2 * PATCH}")
        widths = [6, *(channels or (32, 64, 96))]
        blocks = [ConvBlock(i, o, stride=2) for i, o in zip(widths, widths[1:], strict=False)]
        last = widths[-1]
        self.encoder = nn.Sequential(*blocks, ConvBlock(last, last), MeanAndMax(), nn.Linear(2 * last, code_dim))
        self.quantizer = VectorQuantizer(num_codes, code_dim)
        self.decoder = Decoder(dim, code_dim)
        self.to_labels = nn.Linear(code_dim, num_labels) if num_labels else None

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """frames (b, t, 3, h, w) in [-1, 1] -> frames 1.. predicted (b, t - 1, 3, h, w), codes (b, t - 1), loss ()"""
        quantised, codes, loss = self.quantizer(self.latents(frames))
        return self.decode(frames[:, :-1], quantised), codes, loss

    def encode(self, frames: Tensor) -> Tensor:
        """frames (b, t, 3, h, w) -> codes (b, t - 1) int64; codes[:, i] leads from frame i to i + 1"""
        return self.quantizer(self.latents(frames))[1]

    def decode(self, frames: Tensor, quantised: Tensor) -> Tensor:
        """frames (b, t, 3, h, w) and the code that follows each (b, t, d) -> the next frames (b, t, 3, h, w)"""
        b = len(frames)
        past = torch.cat([frames, earlier(frames, 1) - frames, earlier(frames, 2) - earlier(frames, 1)], dim=2)
        change = self.decoder(past.flatten(0, 1), quantised.flatten(0, 1))
        return frames + rearrange(change, "(b t) c h w -> b t c h w", b=b)

    def keep_codes(self, kept: Tensor) -> None:
        """Drops all codes but these (k,) int64; what they explained goes to the nearest that is left."""
        self.quantizer.keep(kept)
        self.register_to_config(num_codes=len(kept))

    def latents(self, frames: Tensor) -> Tensor:
        """(b, t, 3, h, w) -> what happened between consecutive frames, before it is made a code (b, t - 1, d)"""
        before, after = frames[:, :-1], frames[:, 1:]
        triples = (x.flatten(0, 1) for x in (earlier(before, 1), before, after))
        return rearrange(self.transition(*triples), "(b t) d -> b t d", b=len(frames))

    def transition(self, earlier: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """Three frames in a row (f, 3, h, w) each -> what happened between the last two (f, d)"""
        changes = SHARPEN * (after - before), SHARPEN * (before - earlier)
        return self.encoder(torch.cat(changes, dim=1))


def earlier(frames: Tensor, by: int) -> Tensor:
    """Each frame's `by`-th predecessor, the first one where there is none: (b, t, ...)"""
    t = frames.shape[1]
    return frames[:, (torch.arange(t, device=frames.device) - by).clamp_min(0)]
