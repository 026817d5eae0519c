"""Trains the video tokenizer: frames -> tokens -> the same frames.

worldgen train recordings/ --out worlds/mine --stages tokenizer --steps 200
"""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from worldgen.data.dataset import ClipSampler
from worldgen.models.tokenizer import Tokenizer, to_float, to_uint8
from worldgen.training.metrics import changed_pixels, contact_sheet, psnr

NOISE = 0.05  # standard deviation at the bottleneck: tokens stay decodable when the dynamics is a little off


def motion_weight(frames: Tensor, strength: float) -> Tensor:
    """(b, t, 3, h, w) in [-1, 1] -> (b, t, 1, h, w) with mean 1: pixels near a change since the last frame count more,
    so that small moving things are not the first to vanish."""
    b, t = frames.shape[:2]
    change = torch.zeros_like(frames[:, :, :1])
    change[:, 1:] = (frames[:, 1:] - frames[:, :-1]).abs().mean(2, keepdim=True)
    near = F.avg_pool2d(rearrange(change, "b t c h w -> (b t) c h w"), 5, stride=1, padding=2)
    weight = 1 + strength * (near * 10).clamp(0, 1)
    return rearrange(weight / weight.mean(), "(b t) c h w -> b t c h w", b=b, t=t)


def tokenizer_loss(network: nn.Module, frames: Tensor, noise: Tensor, motion: float) -> tuple[Tensor, Tensor]:
    """frames (b, t, 3, h, w) in [-1, 1], noise (b, t, n, d) -> squared error weighted by motion, restored frames"""
    restored = network(frames, NOISE * noise).float()
    return (motion_weight(frames, motion) * (restored - frames).square()).mean(), restored


class TokenizerStage:
    name = "tokenizer"

    def __init__(
        self, network: Tokenizer, train: ClipSampler, validation: ClipSampler, batch: int, motion: float = 4.0
    ):
        self.network = network
        self._train, self._batch, self._motion = train, batch, motion
        self._held_out = validation.evenly(32).frames
        self._statistics = train.evenly(64).frames
        if not network.basis_scale.ne(1).any():  # a fresh one; a known one comes with its basis
            network.fit_basis(to_float(torch.from_numpy(train.evenly(256).frames)))

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        return {"frames": torch.from_numpy(self._train.sample(rng, self._batch).frames)}

    def loss(self, network, batch, generator, progress) -> tuple[Tensor, dict[str, Tensor]]:
        return self.compare(network, batch, generator)[:2]

    def compare(self, network, batch, generator) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
        """-> loss, figures, made and recorded frames (b t, 3, h, w)"""
        frames = to_float(batch["frames"])
        shape = (*frames.shape[:2], self.network.num_tokens, self.network.config.token_dim)
        noise = torch.randn(shape, generator=generator, device=frames.device)
        loss, restored = tokenizer_loss(network, frames, noise, self._motion)
        return loss, {}, restored.flatten(0, 1), frames.flatten(0, 1)

    @torch.no_grad()
    def validate(self, network) -> tuple[dict[str, float], np.ndarray]:
        real = torch.from_numpy(self._held_out).to(network.device)
        tokens, _ = network.encode(to_float(real), network.empty_state(len(real)))
        restored = to_uint8(network.decode(tokens, network.empty_state(len(real)))[0]).cpu().numpy()
        moving = changed_pixels(self._held_out[:, 1:], self._held_out[:, :-1])
        figures = {
            "psnr": psnr(restored, self._held_out),
            "copy_last_psnr": psnr(self._held_out[:, :-1], self._held_out[:, 1:]),
            "psnr_changed": psnr(restored[:, 1:], self._held_out[:, 1:], moving),
        }
        return figures, contact_sheet(list(self._held_out[:8, -1]), list(restored[:8, -1]))

    @torch.no_grad()
    def finish(self, network) -> None:
        """Standardises the tokens."""
        frames = to_float(torch.from_numpy(self._statistics).to(network.device))
        network.standardise(network.squeeze(frames, network.empty_state(len(frames)))[0])
