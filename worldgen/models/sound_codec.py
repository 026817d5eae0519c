"""The sound codec: the samples of one video frame <-> one small latent, causal, frame by frame.

A frame's samples are cut into blocks. A block is a sum of learned atoms under a window that fades in and out over
`overlap` samples, and neighbouring blocks are added up where they overlap, across the borders of frames too: there is
nothing to click. That costs `overlap` samples of delay, about 3 ms. No layer has a bias, so silence is the latent zero
and the latent zero is silence, exactly.

Letters: b batch, t frames, s samples a frame, x channels, d latent width, j blocks a frame, o overlap.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import Tensor, nn

BLOCK = 256  # samples a block should have, about


def blocks_in(samples: int) -> int:
    """How many blocks a frame of so many samples is cut into: they divide it, each as near to BLOCK long as can be."""
    fitting = [j for j in range(1, samples + 1) if samples % j == 0]
    return min(fitting, key=lambda j: abs(math.log(samples / j / BLOCK)))


class SoundCodec(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers declares config_name twice
    config: Any  # the arguments of __init__
    window: Tensor
    sound_std: Tensor
    latent_std: Tensor

    @register_to_config
    def __init__(
        self,
        *,
        samples: int,
        channels: int,
        sample_rate: int,
        latent_dim: int = 48,
        dim: int = 256,
        num_atoms: int = 96,
        overlap: int = 64,
    ):
        """samples: of a frame. sample_rate: in Hz, for whoever plays them."""
        super().__init__()
        self.num_blocks = blocks_in(samples)
        self.hop = samples // self.num_blocks
        self.overlap = min(overlap, self.hop)
        length = channels * (self.hop + self.overlap)
        self.analysis = nn.Linear(length, num_atoms, bias=False)
        self.encoder = nn.Sequential(
            nn.Linear(self.num_blocks * num_atoms, dim, bias=False),
            nn.SiLU(),
            nn.Linear(dim, latent_dim, bias=False),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, dim, bias=False),
            nn.SiLU(),
            nn.Linear(dim, dim, bias=False),
            nn.SiLU(),
            nn.Linear(dim, self.num_blocks * num_atoms, bias=False),
        )
        self.synthesis = nn.Linear(num_atoms, length, bias=False)
        fade = torch.sin(math.pi / 2 * (torch.arange(self.overlap) + 0.5) / self.overlap).square()
        window = torch.cat([fade, torch.ones(self.hop - self.overlap), fade.flip(0)])
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("sound_std", torch.ones(()))
        self.register_buffer("latent_std", torch.ones(latent_dim))

    @property
    def tail_shape(self) -> tuple[int, int]:
        """Of one slot: what the last block of a frame leaves for the next frame, (o, x)."""
        return (self.overlap, self.config.channels)

    def forward(self, sound: Tensor, noise: Tensor) -> Tensor:
        """sound (b, t, s, x) in [-1, 1], noise (b, t, d) added to the latents at their scale, for training -> the sound
        `overlap` samples later"""
        latents = self.encode(sound)
        scale = latents.detach().square().mean().sqrt()
        return self.decode(latents + scale * noise, self.empty_tail(len(sound)))[0]

    def empty_tail(self, b: int) -> Tensor:
        return self.window.new_zeros(b, *self.tail_shape)

    def encode(self, sound: Tensor, before: Tensor | None = None) -> Tensor:
        """sound (b, t, s, x), before (b, o, x): the last samples before it, silence if None -> latents (b, t, d) at
        about unit scale"""
        before = self.empty_tail(len(sound)) if before is None else before
        line = torch.cat([before, rearrange(sound, "b t s x -> b (t s) x")], dim=1).transpose(1, 2) / self.sound_std
        blocks = line.unfold(-1, self.hop + self.overlap, self.hop)
        atoms = self.analysis(rearrange(blocks, "b x (t j) n -> b t j (x n)", j=self.num_blocks))
        return self.encoder(rearrange(atoms, "b t j a -> b t (j a)")) / self.latent_std

    def decode(self, latents: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """latents (b, t, d), tail (b, o, x) of the frame before -> sound (b, t, s, x), tail of the last frame"""
        b, t, _ = latents.shape
        atoms = rearrange(self.decoder(latents * self.latent_std), "b t (j a) -> b (t j) a", j=self.num_blocks)
        blocks = rearrange(self.synthesis(atoms), "b i (x n) -> b i n x", x=self.config.channels)
        blocks = blocks * (self.window * self.sound_std)[:, None]
        body, tails = blocks[:, :, : self.hop], blocks[:, :, self.hop :]
        before = torch.cat([tail[:, None], tails[:, :-1]], dim=1)
        body = torch.cat([body[:, :, : self.overlap] + before, body[:, :, self.overlap :]], dim=2)
        return rearrange(body, "b (t j) n x -> b t (j n) x", t=t), tails[:, -1]

    @torch.no_grad()
    def fit_scale(self, sound: Tensor) -> None:
        """Sets the scale of the sound (..., s, x) that it works at: of what is not silent."""
        loud = sound[sound.abs().amax((-2, -1)) > 1e-3]
        self.sound_std.copy_(loud.square().mean().sqrt().clamp_min(1e-3) if len(loud) else torch.tensor(1.0))

    @torch.no_grad()
    def standardise(self, latents: Tensor) -> None:
        """Sets the scale of each of the latents (..., d), of frames that are not silent, to 1."""
        flat = latents.reshape(-1, latents.shape[-1]) * self.latent_std
        self.latent_std.copy_(flat.square().mean(0).sqrt().clamp_min(1e-3))
