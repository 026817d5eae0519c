"""Motion compensation for games drawn pixel by pixel: each block of the previous frame is copied from one place, by
whole pixels.

At the size that a game is drawn at, what moves moves by whole pixels, so a copy of a copy of a copy is still exact,
where an average or an interpolation has become a smear. For each block of BLOCK x BLOCK pixels there are log odds of
all displacements up to `reach` pixels across and down (CDNA, Finn et al. 2016), and what all blocks share, the camera's
motion, is learned once; in play the likeliest one is taken.

Where from is learned by likelihood (training/motion_error.py): a choice has no gradient.

Letters: f frames, n tokens a frame, m = n + 1 with the action token, d token width, c width, h w pixels, r s rows and
columns of blocks, i j pixels of a block.
"""

from __future__ import annotations

import torch
from einops import repeat
from torch import Tensor

from worldgen.models.motion import BLOCK, BRIGHTEST, BlockMotion


class WholeMotion(BlockMotion):
    """The tokens of the previous frame, moved. reach 0: everything is copied from its place."""

    def moved(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        across, down = self.log_odds(hidden).argmax(-1) - self.reach
        return self.tokens(copied(self.picture(tokens).clamp(-BRIGHTEST, BRIGHTEST), across, down))


def copied(picture: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """picture (f, 3, h, w); across, down (f, r, s) int64: how many pixels to the right and below each block comes from,
    beyond the edge from the edge -> (f, 3, h, w)"""
    height, width = picture.shape[-2:]
    across, down = (repeat(x, "f r s -> f (r i) (s j)", i=BLOCK, j=BLOCK) for x in (across, down))
    y = (torch.arange(height, device=picture.device)[:, None] + down).clamp(0, height - 1)
    x = (torch.arange(width, device=picture.device) + across).clamp(0, width - 1)
    index = repeat(y * width + x, "f h w -> f 3 (h w)")
    return picture.flatten(2).gather(-1, index).unflatten(-1, (height, width))
