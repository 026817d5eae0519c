"""Super-resolution: a plain stack of 3x3 convolutions and a pixel shuffle, from the world's frame to a larger one.

It works at half the frame's resolution (its pixels 2x2 folded into channels), where a convolution sees further and
costs a quarter. Each convolution is trained with parallel branches that fold into one 3x3 kernel (RepVGG, Ding et al.
2021; ECBSR, Zhang et al. 2021), so what runs is plain. It begins as bicubic interpolation.

Of a game with few colours it says of every pixel which of them it has, and not how red, green and blue it is: edges are
exact, areas are flat, and a pixel that is not sure has the mean of what it may be.

Letters: b batch, h w pixels of the small frame, s scale, c channels, k colours of the palette.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

FOLD = 2  # pixels a side that are folded into channels
SLOPE = 0.1  # of the leaky ReLU
CERTAINTY = 1.5  # at first, of the colour nearest to bicubic interpolation


class BranchedConv(nn.Module):
    """A 3x3 convolution whose kernel is the sum of a 3x3, a 1x1 and a 1x1-then-3x3 branch. Without branches it is the
    plain convolution that they fold into."""

    def __init__(self, channels_in: int, channels_out: int, has_branches: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        nn.init.kaiming_normal_(self.weight, a=SLOPE)
        self.point: nn.Parameter | None = None
        if has_branches:
            width = 2 * channels_in
            self.point = nn.Parameter(torch.zeros(channels_out, channels_in))
            self.expand = nn.Parameter(torch.randn(width, channels_in) * channels_in**-0.5)
            self.squeeze = nn.Parameter(torch.zeros(channels_out, width, 3, 3))

    def kernel(self) -> Tensor:
        """(channels_out, channels_in, 3, 3)"""
        if self.point is None:
            return self.weight
        expanded = torch.einsum("omyx,mi->oiyx", self.squeeze, self.expand)
        return self.weight + expanded + F.pad(self.point[:, :, None, None], (1, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel(), self.bias, padding=1)

    @torch.no_grad()
    def fold(self) -> None:
        """Leaves the plain convolution."""
        self.weight.copy_(self.kernel())
        self.point = None
        for name in ("expand", "squeeze"):
            if hasattr(self, name):
                delattr(self, name)


class SuperResolution(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers declares config_name twice
    config: Any  # the arguments of __init__

    colours: Tensor

    @register_to_config
    def __init__(
        self,
        *,
        scale: int,
        channels: int = 48,
        num_layers: int = 6,
        has_branches: bool = True,
        palette: list[list[int]] | None = None,
    ):
        """scale: how many times larger each side becomes. has_branches: as in training, before fold(). palette: the
        colours (k, 3) of a game that has few, 0 to 255."""
        super().__init__()
        outputs = 3 if palette is None else len(palette)
        self.register_buffer("colours", torch.tensor(palette or [[0, 0, 0]]) / 127.5 - 1, persistent=False)
        self.first = BranchedConv(3 * FOLD**2, channels, has_branches)
        self.layers = nn.ModuleList(BranchedConv(channels, channels, has_branches) for _ in range(num_layers))
        # the last one sees the frame beside the features, and begins as bicubic interpolation of it
        self.last = BranchedConv(channels + 3 * FOLD**2, outputs * (FOLD * scale) ** 2, has_branches)
        with torch.no_grad():
            kernel = _bicubic_kernel(scale)
            if palette is not None:  # minus the squared distance to each colour, but for what all have in common
                kernel = rearrange(kernel, "(c p) i y x -> c (p i y x)", c=3)
                kernel = 2 * CERTAINTY * (self.colours @ kernel).view(-1, 3 * FOLD**2, 3, 3)
                squares = -CERTAINTY * self.colours.square().sum(-1)
                self.last.bias.copy_(squares.repeat_interleave((FOLD * scale) ** 2))
            self.last.weight.zero_()
            self.last.weight[:, channels:] = kernel

    def forward(self, frames: Tensor) -> Tensor:
        """frames (b, 3, h, w) in [-1, 1], h and w even -> (b, 3, s*h, s*w) about [-1, 1]"""
        return self.shuffle(self.shuffled(frames))

    def shuffle(self, folded: Tensor) -> Tensor:
        """(b, x * (2s)^2, h / 2, w / 2) -> (b, x, s*h, s*w)"""
        side = FOLD * self.config.scale
        return rearrange(folded, "b (x p q) h w -> b x (h p) (w q)", p=side, q=side)

    def shuffled(self, frames: Tensor) -> Tensor:
        """forward() before the pixel shuffle: (b, 3 * (2s)^2, h / 2, w / 2)"""
        out = self.logits(frames)
        return out if self.config.palette is None else self.mixed(out)

    def logits(self, frames: Tensor) -> Tensor:
        """Before the pixel shuffle: of every pixel red, green and blue; or with a palette the logits of its colours:
        (b, k * (2s)^2, h / 2, w / 2)"""
        folded = rearrange(frames, "b c (h p) (w q) -> b (c p q) h w", p=FOLD, q=FOLD)
        x = F.leaky_relu(self.first(folded), SLOPE)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
        return self.last(torch.cat([x, folded], dim=1))

    def mixed(self, logits: Tensor) -> Tensor:
        """logits (b, k * (2s)^2, h / 2, w / 2) -> the mean colours (b, 3 * (2s)^2, h / 2, w / 2)"""
        b, _, h, w = logits.shape
        shares = logits.reshape(b, len(self.colours), -1).softmax(dim=1)
        return (self.colours.T @ shares).reshape(b, -1, h, w)

    def fold(self) -> None:
        """Folds the branches of training into plain convolutions: the same function, a third of the weights."""
        for layer in (self.first, *self.layers, self.last):
            layer.fold()
        self.register_to_config(has_branches=False)

    def load_folded(self, folded: SuperResolution) -> None:
        """Begins from a folded network of the same sizes: its kernels, the other branches at zero."""
        with torch.no_grad():
            for mine, theirs in zip(
                (self.first, *self.layers, self.last), (folded.first, *folded.layers, folded.last), strict=True
            ):
                if mine.weight.shape != theirs.weight.shape:
                    raise RuntimeError(f"kernels of {tuple(theirs.weight.shape)} for {tuple(mine.weight.shape)}")
                mine.weight.copy_(theirs.kernel())
                mine.bias.copy_(theirs.bias)


def _bicubic_kernel(scale: int) -> Tensor:
    """Bicubic interpolation as a 3x3 convolution from folded pixels to folded pixels:
    (3 * (2 * scale)^2, 12, 3, 3)"""
    side = 3 * FOLD
    impulses = torch.eye(side * side).view(side * side, 1, side, side)
    large = F.interpolate(impulses, scale_factor=scale, mode="bicubic", align_corners=False)
    p = FOLD * scale
    centre = large[:, 0, p : 2 * p, p : 2 * p]  # what each pixel gives to the block in the middle
    kernel = rearrange(centre, "(y a x b) p q -> (p q) (a b) y x", y=3, a=FOLD, x=3, b=FOLD)
    out = torch.zeros(3, p * p, 3, FOLD**2, 3, 3)
    for colour in range(3):
        out[colour, :, colour] = kernel
    return out.view(3 * p * p, 3 * FOLD**2, 3, 3)
