"""The video tokenizer: a causal, streamable convolutional autoencoder with a continuous bottleneck.

A token begins as the coordinates of its patch in a fixed linear basis (principal components of patches and of their
changes, so that what moves is kept); convolutions learn what to add to it, and what to add to the picture that it
spans. A one-frame memory at each token position mixes time, in the encoder and the decoder, so both run frame by frame
with a small explicit state. A little noise at the bottleneck in training keeps tokens decodable (no KL, no GAN; Dreamer
4). Tokens leave at unit scale, ready for diffusion.

Letters: b batch, t frames, h w pixels, n tokens a frame, d token width, c channels, r memory layers.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

STEM = 4  # pixels per side that the first convolution folds into channels


class ResidualConv(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


class FrameMemory(nn.Module):
    """A residual layer that also reads the previous frame at the same position."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.RMSNorm(channels, eps=1e-6)
        self.mix = nn.Linear(2 * channels, 2 * channels)
        self.out = nn.Linear(2 * channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x (b, t, n, c), state (b, n, c) of the frame before, zeros at the start -> x, state of the last frame"""
        now = self.norm(x)
        before = torch.cat([state[:, None], now[:, :-1]], dim=1)
        return x + self.out(F.silu(self.mix(torch.cat([now, before], dim=-1)))), now[:, -1]


class Tokenizer(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers declares config_name twice
    """encode() and decode() take any number of frames and a state, and give the state after the last one."""

    config: Any  # the arguments of __init__
    basis: Tensor
    basis_scale: Tensor
    patch_mean: Tensor
    token_mean: Tensor
    token_std: Tensor

    @register_to_config
    def __init__(
        self,
        *,
        height: int,
        width: int,
        token_dim: int = 160,
        channels: list[int] = [64, 96, 192],  # noqa: B006 (saved as JSON; never mutated)
        num_convs: int = 2,
        num_memories: int = 1,
    ):
        """channels: per stage, each half the size of the one before; a token covers STEM * 2^(stages - 1) pixels."""
        super().__init__()
        patch = STEM * 2 ** (len(channels) - 1)
        if height % patch or width % patch:
            raise ValueError(f"frame size {width}x{height} is not a multiple of the token size {patch}")
        self.patch = patch
        self.grid = (height // patch, width // patch)
        widths = list(channels)

        down: list[nn.Module] = [nn.Conv2d(3, widths[0], STEM, stride=STEM)]
        for i, c in enumerate(widths):
            if i:
                down.append(nn.Conv2d(widths[i - 1], c, 2, stride=2))
            if i < len(widths) - 1:
                down += [ResidualConv(c) for _ in range(num_convs)]
        self.down = nn.Sequential(*down)
        self.encoder_memory = nn.ModuleList(FrameMemory(widths[-1]) for _ in range(num_memories))
        self.to_tokens = nn.Linear(widths[-1], token_dim)
        nn.init.zeros_(self.to_tokens.weight)
        nn.init.zeros_(self.to_tokens.bias)

        self.from_tokens = nn.Linear(token_dim, widths[-1])
        self.decoder_memory = nn.ModuleList(FrameMemory(widths[-1]) for _ in range(num_memories))
        up: list[nn.Module] = [ResidualConv(widths[-1])]
        for i in range(len(widths) - 2, -1, -1):
            up += [nn.Conv2d(widths[i + 1], 4 * widths[i], 1), nn.PixelShuffle(2)]
            up += [ResidualConv(widths[i]) for _ in range(num_convs)]
        last = nn.Conv2d(widths[0], 3 * STEM * STEM, 3, padding=1)
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
        self.up = nn.Sequential(*up, last, nn.PixelShuffle(STEM))

        self.register_buffer("basis", torch.eye(3 * patch * patch)[:, :token_dim].contiguous())
        self.register_buffer("basis_scale", torch.ones(token_dim))
        self.register_buffer("patch_mean", torch.zeros(3 * patch * patch))
        self.register_buffer("token_mean", torch.zeros(token_dim))
        self.register_buffer("token_std", torch.ones(()))

    @property
    def num_tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def state_shape(self) -> tuple[int, ...]:
        """Of one slot, for the encoder and for the decoder: (r, n, c)."""
        return (self.config.num_memories, self.num_tokens, self.config.channels[-1])

    def empty_state(self, b: int) -> Tensor:
        return self.token_mean.new_zeros(b, *self.state_shape)

    def forward(self, frames: Tensor, noise: Tensor) -> Tensor:
        """frames (b, t, 3, h, w), noise (b, t, n, d) added at the bottleneck -> frames restored, for training"""
        bottleneck, _ = self.squeeze(frames, self.empty_state(len(frames)))
        return self.unsqueeze(bottleneck + noise, self.empty_state(len(frames)))[0]

    def encode(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """frames (b, t, 3, h, w) in [-1, 1], state (b, r, n, c) -> tokens (b, t, n, d) at unit scale, state"""
        bottleneck, state = self.squeeze(frames, state)
        return (bottleneck - self.token_mean) / self.token_std, state

    def decode(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (b, t, n, d), state (b, r, n, c) -> frames (b, t, 3, h, w) about [-1, 1], state"""
        return self.unsqueeze(tokens * self.token_std + self.token_mean, state)

    def squeeze(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """frames (b, t, 3, h, w) -> bottleneck (b, t, n, d), before standardisation"""
        b = frames.shape[0]
        coordinates = (self._patches(frames) - self.patch_mean) @ self.basis * self.basis_scale
        x = self.down(rearrange(frames, "b t c h w -> (b t) c h w"))
        x, state = _remember(self.encoder_memory, rearrange(x, "(b t) c y x -> b t (y x) c", b=b), state)
        return coordinates + self.to_tokens(x), state

    def unsqueeze(self, bottleneck: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """bottleneck (b, t, n, d) -> frames (b, t, 3, h, w)"""
        b, p = bottleneck.shape[0], self.patch
        spanned = F.linear(bottleneck / self.basis_scale, self.basis, self.patch_mean)
        spanned = rearrange(spanned, "b t (y x) (c p q) -> b t c (y p) (x q)", p=p, q=p, y=self.grid[0])
        x, state = _remember(self.decoder_memory, self.from_tokens(bottleneck), state)
        x = self.up(rearrange(x, "b t (y x) c -> (b t) c y x", y=self.grid[0]))
        return spanned + rearrange(x, "(b t) c h w -> b t c h w", b=b), state

    def _patches(self, frames: Tensor) -> Tensor:
        return rearrange(frames, "b t c (y p) (x q) -> b t (y x) (c p q)", p=self.patch, q=self.patch)

    @torch.no_grad()
    def fit_basis(self, frames: Tensor) -> None:
        """Sets the linear basis from training frames (b, t, 3, h, w): principal components of the patches and of their
        changes from frame to frame. Coordinates are scaled half-way to equal variance (variance^(-1/4))."""
        patches = self._patches(frames).double()
        change = (patches[:, 1:] - patches[:, :-1]).flatten(0, 2)
        patches = patches.flatten(0, 2)
        centred = patches - patches.mean(0)
        covariance = centred.T @ centred / len(centred) + change.T @ change / max(1, len(change))
        basis = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, : self.config.token_dim]
        variance = (centred @ basis).var(0).clamp_min(1e-6)
        scale = variance**-0.25
        scale = scale / (scale.square() * variance).mean().sqrt()
        for buffer, value in ((self.basis, basis), (self.basis_scale, scale), (self.patch_mean, patches.mean(0))):
            buffer.copy_(value)

    @torch.no_grad()
    def standardise(self, bottleneck: Tensor) -> None:
        """Sets the tokens' mean and common scale from bottlenecks (..., d) of training frames."""
        flat = bottleneck.reshape(-1, bottleneck.shape[-1])
        self.token_mean.copy_(flat.mean(0))
        self.token_std.copy_((flat - flat.mean(0)).square().mean().sqrt().clamp_min(1e-3))


def _remember(layers: nn.ModuleList, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """x (b, t, n, c) through memory layers, state (b, r, n, c)"""
    states = []
    for i, layer in enumerate(layers):
        x, last = layer(x, state[:, i])
        states.append(last)
    return x, torch.stack(states, dim=1)


def to_float(frames: Tensor) -> Tensor:
    """(..., h, w, 3) uint8 -> (..., 3, h, w) float32 in [-1, 1]"""
    return rearrange(frames, "... h w c -> ... c h w").float() / 127.5 - 1


def to_uint8(frames: Tensor) -> Tensor:
    """(..., 3, h, w) float in [-1, 1] -> (..., h, w, 3) uint8"""
    scaled = ((frames + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return rearrange(scaled, "... c h w -> ... h w c")
