"""Trains the latent-action model on video without actions, and labels the video with its codes.

worldgen train videos/ --out worlds/mine --actions latent --stages latent_action --steps 200
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from worldgen.actions import ActionMap
from worldgen.data.cache import Cache
from worldgen.data.dataset import ClipSampler
from worldgen.models.latent_action import LatentActionModel
from worldgen.models.tokenizer import to_float, to_uint8
from worldgen.training.metrics import contact_sheet, psnr
from worldgen.training.tokenizer import motion_weight


class LatentActionStage:
    name = "latent_action"

    def __init__(
        self, network: LatentActionModel, train: ClipSampler, validation: ClipSampler, batch: int, motion: float = 4.0
    ):
        self.network = network
        self._train, self._batch, self._motion = train, batch, motion
        self._held_out = validation.evenly(32).frames

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        return {"frames": torch.from_numpy(self._train.sample(rng, self._batch).frames)}

    def loss(self, network, batch, generator, progress) -> tuple[Tensor, dict[str, Tensor]]:
        frames = to_float(batch["frames"])
        predicted, codes, codebook_loss = network(frames)
        weight = motion_weight(frames, self._motion)[:, 1:]
        error = (weight * (predicted.float() - frames[:, 1:]).square()).mean()
        return error + 0.02 * codebook_loss, {"error": error.detach(), "perplexity": perplexity(codes)}

    @torch.no_grad()
    def validate(self, network) -> tuple[dict[str, float], np.ndarray]:
        real = torch.from_numpy(self._held_out).to(network.device)
        frames = to_float(real)
        predicted, codes, _ = network(frames)
        wrong = codes.flatten().roll(1).view_as(codes)
        other = network.decode(frames[:, :-1], network.quantizer.codes[wrong])
        made, made_wrong = to_uint8(predicted).cpu().numpy(), to_uint8(other).cpu().numpy()
        truth = self._held_out[:, 1:]
        figures = {
            "psnr": psnr(made, truth),
            "copy_last_psnr": psnr(self._held_out[:, :-1], truth),
            "psnr_of_wrong_code": psnr(made_wrong, truth),
            "perplexity": float(perplexity(codes)),
        }
        return figures, contact_sheet(list(truth[:8, -1]), list(made[:8, -1]))

    def finish(self, network) -> None:
        pass


def perplexity(codes: Tensor) -> Tensor:
    """How many codes are in use, as the exponential of their entropy: 1 .. num_codes"""
    counts = torch.bincount(codes.flatten()).float()
    share = counts / counts.sum()
    return torch.exp(-(share * share.clamp_min(1e-9).log()).sum())


def latent_action_map(num_codes: int) -> ActionMap:
    """Codes as actions, on the number keys until someone names them."""
    return ActionMap.discrete([f"code {i}" for i in range(num_codes)], [[str(i + 1)] for i in range(num_codes)])


@torch.inference_mode()
def label(cache: Cache, network: LatentActionModel, length: int | None = None, batch: int = 16) -> np.ndarray:
    """The code chosen on each frame of the dataset, (N, 1) int64; NULL on the last frame of every episode. Windows of
    `length` overlap by half, so that each code has seen at least length / 2 frames of past, where there are as many; by
    default as many as the network looks back on."""
    length = length or 2 * network.config.context
    actions = latent_action_map(network.config.num_codes).null(len(cache.frames))
    half = length // 2
    windows = []
    for first, last in zip(cache.starts[:-1], cache.starts[1:], strict=True):
        for start in range(int(first), max(int(first) + 1, int(last) - half), half):
            windows.append((start, int(last), start == int(first)))
    for i in range(0, len(windows), batch):
        part = windows[i : i + batch]
        rows = np.array([np.minimum(start + np.arange(length + 1), last - 1) for start, last, _ in part])
        frames = np.asarray(cache.frames[rows.ravel()]).reshape(*rows.shape, *cache.frames.shape[1:])
        codes = network.encode(to_float(torch.from_numpy(frames).to(network.device))).cpu().numpy()
        for row, (start, last, is_first) in zip(codes, part, strict=True):
            begin = 0 if is_first else half
            stop = min(length, last - 1 - start)
            if stop > begin:
                actions[start + begin : start + stop, 0] = row[begin:stop]
    return actions
