"""Tokens as the pixels that they span, and back: the linear part of the tokenizer, without its convolutions."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from worldgen.models.tokenizer import Tokenizer


class Basis(nn.Module):
    """Letters: n tokens a frame, d token width, h w pixels, y x rows and columns of tokens."""

    basis: Tensor
    gain: Tensor
    offset: Tensor
    patch_mean: Tensor

    def __init__(self, token_dim: int, grid: tuple[int, int], patch: int):
        """grid: rows and columns of tokens; patch: pixels a side of a token."""
        super().__init__()
        self.grid, self.patch = grid, patch
        self.register_buffer("basis", torch.eye(3 * patch * patch)[:, :token_dim].contiguous())
        self.register_buffer("gain", torch.ones(token_dim))
        self.register_buffer("offset", torch.zeros(token_dim))
        self.register_buffer("patch_mean", torch.zeros(3 * patch * patch))

    @torch.no_grad()
    def take_basis(self, tokenizer: Tokenizer) -> None:
        self.basis.copy_(tokenizer.basis)
        self.gain.copy_(tokenizer.basis_scale / tokenizer.token_std)
        self.offset.copy_(tokenizer.token_mean / tokenizer.token_std)
        self.patch_mean.copy_(tokenizer.patch_mean)

    def picture(self, tokens: Tensor) -> Tensor:
        """tokens (..., n, d) -> the pixels that they span (..., 3, h, w)"""
        patches = F.linear((tokens + self.offset) / self.gain, self.basis, self.patch_mean)
        return rearrange(patches, "... (y x) (c p q) -> ... c (y p) (x q)", y=self.grid[0], c=3, p=self.patch)

    def tokens(self, picture: Tensor) -> Tensor:
        """picture (..., 3, h, w) -> the tokens that span what is nearest to it (..., n, d)"""
        patches = rearrange(picture, "... c (y p) (x q) -> ... (y x) (c p q)", p=self.patch, q=self.patch)
        return (patches - self.patch_mean) @ self.basis * self.gain - self.offset
