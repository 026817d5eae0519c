"""Motion compensation: the previous frame, each pixel of it copied from where it came from.

A camera that turns or a level that scrolls moves every pixel. Through a transformer's narrow stream that picture would
have to be drawn anew each frame; here the network only says from where to copy, as video codecs do:

- the camera moves the whole picture by a polynomial of the second degree in x and y (global motion compensation, as in
  MPEG-4), which a turn of it is but for little; of that each block of BLOCK x BLOCK pixels takes a share, so that what
  is drawn over the picture stays;
- each block moves besides by the mean of a softmax over all displacements up to `reach` pixels (CDNA, Finn et al.
  2016), whose logits are the block's and some that all blocks share.

Pixels are moved across first, in the row that they come from, then down. What lies between pixels is interpolated by
cubic convolution (Keys 1981), which fades it little: nothing is averaged, or what is fine would be smeared within a few
frames. Displacements learn from smaller pictures, too (training/motion_error.py). Tokens become pixels and pixels
tokens by the linear part of the tokenizer, so that no motion is a copy.

Letters: f frames, n tokens a frame, m = n + 1 with the action token, d token width, c width, h w pixels, y x rows and
columns of tokens, p q of blocks in a token, a across and down, k displacements or terms of the polynomial.
"""

from __future__ import annotations

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from worldgen.models.basis import Basis

BLOCK = 4  # pixels a side
STILL = 3.0  # the first logit of no displacement: begins near a copy
BRIGHTEST = 1.05  # of what is copied from, a little above what there is: errors copied on and on stay bounded
FOLLOWS = 2.0  # the first logit of a block's share of the camera's motion


class BlockMotion(Basis):
    """What says how far blocks move: log odds of displacements across and down, of each block (kernels) and shared by
    all (camera). In torch always in float32: what is rounded in every frame and copied on is grain after some."""

    def __init__(self, dim: int, token_dim: int, grid: tuple[int, int], patch: int, reach: int):
        """dim: width of the hidden state; grid: rows and columns of tokens; patch: pixels a side of a token; reach:
        the longest displacement, in pixels."""
        super().__init__(token_dim, grid, patch)
        self.reach, self.num_displacements = reach, 2 * reach + 1
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
        kind = tokens.device.type
        if not torch.is_autocast_enabled(kind):
            return self.moved(hidden, tokens)
        with torch.autocast(kind, enabled=False):
            return self.moved(hidden.float(), tokens.float())

    def moved(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """As forward(), where something moves"""
        raise NotImplementedError

    def log_odds(self, hidden: Tensor) -> Tensor:
        """hidden (f, m, c) -> of each block's displacements (2, f, r, s, k), r s rows and columns of blocks: where it
        comes from, pixels to the right and below"""
        camera = rearrange(self.camera(hidden[:, -1]), "f (a k) -> a f 1 1 k", a=2)
        return camera + self.of_blocks(self.kernels(hidden[:, :-1]))

    def of_blocks(self, values: Tensor) -> Tensor:
        """Values of each token's blocks (f, n, 2 * blocks * k) -> (2, f, r, s, k), across and down"""
        side = self.patch // BLOCK
        return rearrange(values, "f (y x) (a p q k) -> a f (y p) (x q) k", y=self.grid[0], a=2, p=side, q=side)


class MotionCompensation(BlockMotion):
    """The tokens of the previous frame, moved."""

    places: Tensor
    terms: Tensor

    def __init__(self, dim: int, token_dim: int, grid: tuple[int, int], patch: int, reach: int):
        """As of BlockMotion; reach: besides the camera's motion; 0: everything is copied from its place."""
        super().__init__(dim, token_dim, grid, patch, reach)
        terms = _terms(grid[0] * patch, grid[1] * patch)
        self.polynomial = nn.Linear(dim, 2 * len(terms), bias=False)
        self.follows = nn.Linear(dim, (patch // BLOCK) ** 2)
        for layer in (self.polynomial, self.follows):
            nn.init.zeros_(layer.weight)
        nn.init.constant_(self.follows.bias, FOLLOWS)
        self.register_buffer("places", torch.arange(-reach, reach + 1.0), persistent=False)
        self.register_buffer("terms", terms, persistent=False)

    def moved(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        across, down = self.displacement(hidden)
        picture = self.picture(tokens).clamp(-BRIGHTEST, BRIGHTEST)
        picture = cubic_sample(picture, across, dim=-1)
        return self.tokens(cubic_sample(picture, down, dim=-2))

    def displacement(self, hidden: Tensor) -> Tensor:
        """hidden (f, m, c) -> how far below each pixel comes from, and what is there from how far to the right, in
        pixels: across, down (2, f, h, w)"""
        of_blocks, of_all = hidden[:, :-1], hidden[:, -1]
        logits = rearrange(self.kernels(of_blocks), "f n (a b k) -> a f n b k", a=2, k=len(self.places))
        shared = rearrange(self.camera(of_all), "f (a k) -> a f 1 1 k", a=2)
        own = ((logits + shared).softmax(-1) * self.places).sum(-1)
        coefficients = rearrange(self.polynomial(of_all), "f (a k) -> a f k 1 1", a=2)
        turned = (coefficients * self.terms).sum(2)  # not a matrix product, which engines round
        return self._pixels(self.follows(of_blocks).sigmoid()) * turned + self._pixels(own)

    def _pixels(self, of_blocks: Tensor) -> Tensor:
        """Figures of blocks (..., n, blocks) -> of pixels (..., h, w)"""
        y, side = self.grid[0], self.patch // BLOCK
        return repeat(of_blocks, "... (y x) (p q) -> ... (y p i) (x q j)", y=y, p=side, i=BLOCK, j=BLOCK)


def cubic_sample(picture: Tensor, displacement: Tensor, dim: int) -> Tensor:
    """picture (f, c, h, w); displacement (f, h, w): how many pixels further along dim (-1 or -2) each pixel comes from,
    beyond the edge from the edge -> (f, c, h, w)"""
    size = picture.shape[dim]
    here = torch.arange(size, device=picture.device)
    place = displacement + (here if dim == -1 else here[:, None])
    before = place.floor()
    out = torch.zeros_like(picture)
    for tap in range(-1, 3):
        # clamped last: NaN is no place, and must not be one beyond the picture either
        index = (before + tap).long().clamp(0, size - 1)[:, None].expand_as(picture)
        out = out + picture.gather(dim, index) * cubic_kernel(place - before - tap)[:, None]
    return out


def cubic_kernel(distance: Tensor) -> Tensor:
    """Keys' cubic convolution, which interpolates without the blur of a mean: distances in pixels -> weights"""
    x = distance.abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _terms(height: int, width: int) -> Tensor:
    """The terms of the camera's polynomial at the middle of each pixel, x and y from -1 to 1 (k, h, w)"""
    y, x = (torch.linspace(-1, 1, 2 * size + 1)[1::2] for size in (height, width))
    y, x = torch.broadcast_tensors(y[:, None], x)
    return torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y])
