"""Trains super-resolution on pairs of the world's small frames and the recordings' own large ones.

worldgen train recordings/ --out worlds/mine --stages super_resolution --steps 500

Half of the small frames are the recordings', made smaller by averaging areas; the other half are what the tokenizer
makes of those, as in play, so that its blur is repaired too. Two frames in a row go through together: the change from
one to the next is part of the loss, so that what stands still does not flicker.
"""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from worldgen.data.cache import Cache
from worldgen.models.super_resolution import FOLD, SuperResolution
from worldgen.models.tokenizer import Tokenizer, to_float, to_uint8
from worldgen.training.enlarge import bicubic
from worldgen.training.metrics import contact_sheet, psnr
from worldgen.training.native_frames import NativeClips
from worldgen.training.tokens import restored

CROP = 32  # pixels a side of the small frame
STEADINESS = 0.5  # weight of the error of changes
COLOUR = 0.05  # weight of the cross-entropy of colours, where the game has few
SOFTNESS = 0.02  # of the Charbonnier loss: squared below, absolute above


def super_resolution_loss(network, small: Tensor, large: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """small (b, t, 3, h, w), large (b, t, 3, s*h, s*w) in [-1, 1] -> the error of frames, and of their changes; with a
    palette the cross-entropy of the nearest colours, else 0; the frames it made"""
    b = len(small)
    out = network.logits(rearrange(small, "b t c h w -> (b t) c h w"))
    entropy = torch.zeros((), device=small.device)
    if network.config.palette is not None:
        entropy = palette_entropy(network, out, rearrange(large, "b t c h w -> (b t) c h w"))
        out = network.mixed(out)
    made = rearrange(network.shuffle(out), "(b t) c h w -> b t c h w", b=b).float()
    error = made - large
    # with a palette the mean of what a pixel may be is best where it is not sure; the absolute error makes it guess
    measure = _charbonnier if network.config.palette is None else _squared
    return measure(error), measure(error[:, 1:] - error[:, :-1]), entropy, made


def palette_entropy(network, logits: Tensor, large: Tensor) -> Tensor:
    """logits (b, k * (2s)^2, h / 2, w / 2), large (b, 3, s*h, s*w) -> cross-entropy of each pixel's nearest colour"""
    nearest = 2 * torch.einsum("kc,bchw->bkhw", network.colours, large)
    nearest = (nearest - network.colours.square().sum(-1)[:, None, None]).argmax(1)
    return F.cross_entropy(network.shuffle(logits).float(), nearest)


def _charbonnier(error: Tensor) -> Tensor:
    return (error.square() + SOFTNESS**2).sqrt().mean() - SOFTNESS


def _squared(error: Tensor) -> Tensor:
    return error.square().mean()


class SuperResolutionStage:
    name = "super_resolution"

    def __init__(
        self,
        network: SuperResolution,
        tokenizer: Tokenizer,
        cache: Cache,
        tokens: np.ndarray,
        train: NativeClips,
        validation: NativeClips,
        batch: int,
    ):
        """tokens (N, n, d) of the cache's frames"""
        self.network = network
        self._batch, self._train, self._validation = batch, train, validation
        self._inputs = [_small(cache, train), restored(tokenizer, tokens, cache, train.rows, train.frames.shape[1])]
        decoded = restored(tokenizer, tokens, cache, validation.rows, validation.frames.shape[1])
        self._held_out = {"area": _small(cache, validation), "decoder": decoded}

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        s = self.network.config.scale
        _, t, h, w, _ = self._inputs[0].shape
        side_y, side_x = min(CROP, h), min(CROP, w)
        small = np.empty((self._batch, t, side_y, side_x, 3), np.uint8)
        large = np.empty((self._batch, t, s * side_y, s * side_x, 3), np.uint8)
        for i, clip in enumerate(rng.integers(len(self._train.rows), size=self._batch)):
            y = FOLD * int(rng.integers((h - side_y) // FOLD + 1))
            x = FOLD * int(rng.integers((w - side_x) // FOLD + 1))
            small[i] = self._inputs[i % 2][clip, :, y : y + side_y, x : x + side_x]
            large[i] = self._train.frames[clip, :, s * y : s * (y + side_y), s * x : s * (x + side_x)]
        return {"small": torch.from_numpy(small), "large": torch.from_numpy(large)}

    def loss(self, network, batch, generator, progress) -> tuple[Tensor, dict[str, Tensor]]:
        return self.compare(network, batch, generator)[:2]

    def compare(self, network, batch, generator) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
        """-> loss, figures, made and recorded frames (b t, 3, s*h, s*w)"""
        small, large = to_float(batch["small"]), to_float(batch["large"])
        still, change, entropy, made = super_resolution_loss(network, small, large)
        parts = {"frame_error": still.detach(), "change_error": change.detach(), "colour_error": entropy.detach()}
        return still + STEADINESS * change + COLOUR * entropy, parts, made.flatten(0, 1), large.flatten(0, 1)

    @torch.no_grad()
    def validate(self, network) -> tuple[dict[str, float], np.ndarray]:
        figures, strips = {}, []
        real = np.asarray(self._validation.frames)[:, -1]
        for kind, clips in self._held_out.items():
            small = clips[:, -1]
            parts = [network(to_float(torch.from_numpy(x).to(network.device))) for x in np.array_split(small, 8)]
            made = to_uint8(torch.cat(parts)).cpu().numpy()
            plain = bicubic(small, network.config.scale)
            figures[f"psnr_{kind}"] = psnr(made, real)
            figures[f"over_bicubic_{kind}"] = figures[f"psnr_{kind}"] - psnr(plain, real)
            strips += [list(plain[:4]), list(made[:4])]
        return figures, contact_sheet(*strips, list(real[:4]))

    def finish(self, network) -> None:
        network.fold()


def _small(cache: Cache, clips: NativeClips) -> np.ndarray:
    """The cache's own frames of the clips: (p, t, h, w, 3)"""
    rows = clips.rows[:, None] + np.arange(clips.frames.shape[1])
    return np.asarray(cache.frames[rows.ravel()]).reshape(*rows.shape, *cache.frames.shape[1:])
