"""Motion compensation for games drawn pixel by pixel: each block of the previous frame is copied from one place, by
whole pixels.

At the size that a game is drawn at, what moves moves by whole pixels, so a copy of a copy of a copy is still exact,
where an average or an interpolation has become a smear. For each block of BLOCK x BLOCK pixels there are log odds of
all displacements up to `reach` pixels across and down (CDNA, Finn et al. 2016), and what all blocks share, the camera's
motion, is learned once; in play the likeliest one is taken.

A choice has no gradient, and that of the copied picture misleads: it says how a little of another place mixed in would
help, not what would be there instead. So displacements are learned by likelihood: every one explains the next frame
more or less well, and the odds are those of a mixture of them. Where all do alike, or none does, nothing is learned.

Letters: f frames, n tokens a frame, m = n + 1 with the action token, d token width, c width, h w pixels, y x rows and
columns of tokens, r s rows and columns of blocks, i j pixels of a block, p q of blocks in a token, k displacements.
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from worldgen.models.basis import Basis
from worldgen.models.motion import BLOCK, STILL

CHANCE = 0.5  # how often learning looks along one axis from a place drawn by the odds on the other, not the likeliest
SCALE = 0.1  # mean difference of a pixel's colours, in [-1, 1], that costs as much as one unit
MOST = 3.0  # units that a pixel costs at most: it may have been drawn anew
EVIDENCE = 0.25  # nats a unit: pixels of a block are right or wrong together
WEIGHT = 1.0  # of a nat in the loss


class WholeMotion(Basis):
    """The tokens of the previous frame, moved."""

    share = 0.25  # of the frames that motion is learned from at each step

    def __init__(self, dim: int, token_dim: int, grid: tuple[int, int], patch: int, reach: int):
        """dim: width of the hidden state; grid: rows and columns of tokens; patch: pixels a side of a token; reach:
        the longest displacement of a block, in pixels; 0: everything is copied from its place."""
        super().__init__(token_dim, grid, patch)
        self.reach = reach
        self.num_displacements = 2 * reach + 1
        self.kernels = nn.Linear(dim, 2 * (patch // BLOCK) ** 2 * self.num_displacements)
        self.camera = nn.Linear(dim, 2 * self.num_displacements, bias=False)
        nn.init.zeros_(self.kernels.weight)
        nn.init.zeros_(self.camera.weight)
        with torch.no_grad():
            self.kernels.bias.zero_().unflatten(0, (-1, self.num_displacements))[:, reach] = STILL

    def forward(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """hidden (f, m, c), tokens (f, n, d) of the previous frame -> its tokens where they are now (f, n, d)"""
        if not self.reach:
            return tokens
        across, down = self.log_odds(hidden).argmax(-1) - self.reach
        return self.tokens(copied(self.picture(tokens), across, down))

    def log_odds(self, hidden: Tensor) -> Tensor:
        """hidden (f, m, c) -> of each block's displacements (2, f, r, s, k): where it comes from, pixels to the right
        and below"""
        shared = rearrange(self.camera(hidden[:, -1]), "f (a k) -> a f 1 1 k", a=2)
        y, side = self.grid[0], self.patch // BLOCK
        of_blocks = self.kernels(hidden[:, :-1])
        return shared + rearrange(of_blocks, "f (y x) (a p q k) -> a f (y p) (x q) k", y=y, a=2, p=side, q=side)

    def error(self, hidden: Tensor, tokens: Tensor, target: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """How little is known of where blocks come from: hidden (f, m, c), tokens of the previous frame and of this one
        (f, n, d) -> negative log likelihoods (f,) of a mixture of all displacements on one axis, the other one given"""
        odds = self.log_odds(hidden).float().log_softmax(-1)
        before, now = self.picture(torch.stack([tokens, target])).float()
        with torch.no_grad():
            drawn = odds.exp().flatten(0, 3).multinomial(1, generator=generator).view(odds.shape[:-1])
            is_drawn = torch.rand(odds.shape[:2], generator=generator, device=odds.device) < CHANCE
            across, down = torch.where(is_drawn[..., None, None], drawn, odds.argmax(-1)) - self.reach
            along_rows = self.costs(before, now, down)
            # down is the same with rows and columns exchanged
            along_columns = self.costs(before.mT, now.mT, across.mT).transpose(1, 2)
        surprise = -torch.logsumexp(odds - torch.stack([along_rows, along_columns]), dim=-1)
        return WEIGHT * surprise.mean((0, 2, 3))

    def costs(self, before: Tensor, now: Tensor, down: Tensor) -> Tensor:
        """before, now (f, 3, h, w); down (f, r, s): how many pixels below blocks come from -> nats that each
        displacement across costs (f, r, s, k)"""
        height, width = before.shape[-2:]
        rows, columns = height // BLOCK, width // BLOCK
        pixels, window = (torch.arange(count, device=before.device) for count in (BLOCK, BLOCK + 2 * self.reach))
        blocks_down, blocks_across = (BLOCK * torch.arange(count, device=before.device) for count in (rows, columns))
        y = (blocks_down[:, None, None] + pixels + down[..., None]).clamp(0, height - 1)  # (f, r, s, i)
        x = (blocks_across[:, None] + window - self.reach).clamp(0, width - 1)  # (s, window)
        places = y[..., None] * width + x[:, None]  # (f, r, s, i, window)
        index = repeat(places.flatten(1), "f l -> f l 3")
        seen = rearrange(before, "f c h w -> f (h w) c").gather(1, index).unflatten(1, places.shape[1:])
        wanted = rearrange(now, "f c (r i) (s j) -> f r s i j c", i=BLOCK, j=BLOCK)
        cost = before.new_zeros(*down.shape, self.num_displacements)
        for j in range(BLOCK):
            off = (seen[..., j : j + self.num_displacements, :] - wanted[..., j : j + 1, :]).abs().mean(-1)
            cost += (off / SCALE).clamp(max=MOST).sum(-2)
        return EVIDENCE * cost


def copied(picture: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """picture (f, 3, h, w); across, down (f, r, s) int64: how many pixels to the right and below each block comes from,
    beyond the edge from the edge -> (f, 3, h, w)"""
    height, width = picture.shape[-2:]
    across, down = (repeat(x, "f r s -> f (r i) (s j)", i=BLOCK, j=BLOCK) for x in (across, down))
    y = (torch.arange(height, device=picture.device)[:, None] + down).clamp(0, height - 1)
    x = (torch.arange(width, device=picture.device) + across).clamp(0, width - 1)
    index = repeat(y * width + x, "f h w -> f 3 (h w)")
    return picture.flatten(2).gather(-1, index).unflatten(-1, (height, width))
