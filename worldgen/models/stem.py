"""What moved, and how fast: convolutions over the last frames' pixels, added to a frame's tokens.

A transformer whose tokens are patches finds it hard to place small things within a patch and to compare where they were
in two frames; a few convolutions before it find both early (Early Convolutions Help Transformers See Better, Xiao et
al. 2021), and cost little beside it.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn


class Stem(nn.Module):
    """Begins without effect."""

    def __init__(self, num_frames: int, channels: int, patch: int, dim: int):
        """num_frames: frames side by side; channels: of the first convolution, doubled by each that halves the picture;
        patch: pixels a side of a token, a power of 2; dim: width of a token's features."""
        super().__init__()
        if patch < 2 or patch & (patch - 1):
            raise ValueError(f"patch is a power of 2, got {patch}")
        layers: list[nn.Module] = []
        width = 3 * num_frames
        for i in range(patch.bit_length() - 1):
            wide, padding = channels * 2**i, 2 if i == 0 else 1
            # even kernels: a token's features see its own patch and those around it, on every side alike
            layers += [nn.Conv2d(width, wide, 2 + 2 * padding, stride=2, padding=padding), nn.SiLU()]
            width = wide
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(width, dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures (f, a, 3, h, w), a frames each -> (f, n, dim)"""
        return self.out(rearrange(self.layers(pictures.flatten(1, 2)), "f c y x -> f (y x) c"))
