"""Motion compensation by averages: each block of the previous frame is a mean of where it may have come from.

Each block of BLOCK x BLOCK pixels has two learned one-dimensional kernels, across and down, over all displacements up
to `reach` pixels (separable adaptive convolution: Niklaus et al. 2017; a softmax over displacements: CDNA, Finn et al.
2016), and what all blocks share, the camera's motion, is learned once. A softmax can only average, which smears what is
fine within a few frames: so each block may also choose how much of its kernel is a cubic one (Keys 1981) at its mean
displacement. It is for games whose rows scroll apart or whose things are small (docs/ablation.md), where motion.py,
which averages nothing, is wrong more often; the bundled `platformer` has it, without the cubic kernels.

Letters: f frames, n tokens a frame, m = n + 1 with the action token, d token width, c width, y x rows and columns of
tokens, r s rows and columns of blocks, i j pixels of a block, k displacements.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from worldgen.models.motion import BLOCK, BlockMotion, cubic_kernel


class PlainMotion(BlockMotion):
    """The tokens of the previous frame, moved."""

    spread: Tensor
    places: Tensor

    def __init__(self, dim: int, token_dim: int, grid: tuple[int, int], patch: int, reach: int, cubic: bool = False):
        """As of BlockMotion; reach: a multiple of BLOCK; cubic: whether kernels are partly cubic ones."""
        super().__init__(dim, token_dim, grid, patch, reach)
        if reach % BLOCK:
            raise ValueError(f"reach is a multiple of {BLOCK} pixels, got {reach}")
        self.window = BLOCK + 2 * reach
        self.cubic_share = nn.Linear(dim, 2 * (patch // BLOCK) ** 2) if cubic else None
        if self.cubic_share is not None:
            nn.init.zeros_(self.cubic_share.weight)
            nn.init.zeros_(self.cubic_share.bias)
        # kernel (k) -> the matrix (window, BLOCK) that applies it: pixel j takes pixel j + k of the window
        spread = torch.zeros(self.num_displacements, self.window, BLOCK)
        displacements = range(self.num_displacements)
        for j in range(BLOCK):
            spread[displacements, [j + k for k in displacements], j] = 1
        self.register_buffer("spread", spread.flatten(1), persistent=False)
        self.register_buffer("places", torch.arange(-reach, reach + 1.0), persistent=False)

    def moved(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        num_blocks = self.window // BLOCK
        kernels = self.log_odds(hidden).softmax(-1)
        if self.cubic_share is not None:
            share = self.of_blocks(self.cubic_share(hidden[:, :-1]).sigmoid())
            mean = (kernels * self.places).sum(-1, keepdim=True)
            sharp = cubic_kernel(self.places - mean)
            sharp = sharp / sharp.sum(-1, keepdim=True)  # which is 1 but near the longest displacement
            kernels = kernels + share * (sharp - kernels)
        across, down = ((k @ self.spread).unflatten(-1, (self.window, BLOCK)) for k in kernels)
        rows, columns = across.shape[1:3]

        picture = extend(self.picture(tokens), self.reach, dim=-1)
        blocks = rearrange(picture, "f c (r i) (s j) -> f r s (c i) j", i=BLOCK, j=BLOCK)
        window = torch.cat([blocks[:, :, o : o + columns] for o in range(num_blocks)], dim=-1)
        picture = rearrange(window @ across, "f r s (c i) j -> f c (r i) (s j)", c=3)
        picture = extend(picture, self.reach, dim=-2)
        blocks = rearrange(picture, "f c (r i) (s j) -> f r s (c j) i", i=BLOCK, j=BLOCK)
        window = torch.cat([blocks[:, o : o + rows] for o in range(num_blocks)], dim=-1)
        return self.tokens(rearrange(window @ down, "f r s (c j) i -> f c (r i) (s j)", c=3))


def extend(picture: Tensor, by: int, dim: int) -> Tensor:
    """`by` more pixels at both ends of an axis, like those at its ends. What F.pad(mode="replicate") gives: torch 2.13
    fails to compile what follows on that."""
    size = [-1] * picture.dim()
    size[dim] = by
    first, last = picture.narrow(dim, 0, 1), picture.narrow(dim, picture.shape[dim] - 1, 1)
    return torch.cat([first.expand(size), picture, last.expand(size)], dim=dim)
