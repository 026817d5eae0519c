"""Trains in-between frames: of three frames in a row the middle one is to be told from the two around it.

worldgen train recordings/ --out worlds/mine --stages between

In play the same network makes the frame half way between two frames in a row, which no recording holds: what moved
twice as far was harder. Half of the clips are the recordings', half what the tokenizer makes of them, as in play; their
own middle frame is the target, so that it is as sharp as those around it and nothing flickers at twice the rate.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from worldgen.data.dataset import ClipSampler
from worldgen.models.between import Between
from worldgen.models.tokenizer import Tokenizer, to_float, to_uint8
from worldgen.training.metrics import contact_sheet, psnr
from worldgen.training.tokens import restored

LENGTH = 3  # frames: the two around, and the middle one
DECODED, HELD_OUT = 1000, 96  # clips that the tokenizer restores, and that training is validated on
PART = 50  # of them that are looked at together
SOFTNESS = 0.1  # of the Charbonnier loss: nearly squared for all but what is quite wrong
SHOWN = 4  # clips in the picture of a validation


def between_loss(network, frames: Tensor) -> tuple[Tensor, Tensor]:
    """frames (b, 3, c, h, w) in [-1, 1], three in a row -> the error of the middle one, and that of blending"""
    before, middle, after = frames.unbind(dim=1)
    return _charbonnier(network(before, after).float() - middle), _charbonnier((before + after) / 2 - middle)


def _charbonnier(error: Tensor) -> Tensor:
    return (error.square() + SOFTNESS**2).sqrt().mean() - SOFTNESS


class BetweenStage:
    name = "between"

    def __init__(
        self,
        network: Between,
        tokenizer: Tokenizer,
        tokens: np.ndarray,
        train: ClipSampler,
        validation: ClipSampler,
        batch: int,
    ):
        """tokens (N, n, d) of the cache's frames; train, validation: clips of LENGTH frames"""
        self.network = network
        self._batch, self._train = batch, train
        rng = np.random.default_rng(0)
        chosen = np.concatenate([livelier(train, rng, PART) for _ in range(DECODED // PART)])
        self._decoded = restored(tokenizer, tokens, train.cache, chosen, LENGTH)
        held_out = validation.even_starts(HELD_OUT)
        self._held_out = {
            "recorded": validation.at(held_out).frames,
            "decoder": restored(tokenizer, tokens, validation.cache, held_out, LENGTH),
        }

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        recorded = self._train.at(livelier(self._train, rng, self._batch - self._batch // 2)).frames
        decoded = self._decoded[rng.integers(len(self._decoded), size=self._batch // 2)]
        return {"frames": torch.from_numpy(np.concatenate([recorded, decoded]))}

    def loss(self, network, batch, generator, progress) -> tuple[Tensor, dict[str, Tensor]]:
        loss, blend = between_loss(network, to_float(batch["frames"]))
        return loss, {"blend_error": blend}

    @torch.no_grad()
    def validate(self, network) -> tuple[dict[str, float], np.ndarray]:
        figures, strips = {}, []
        for kind, clips in self._held_out.items():
            frames = to_float(torch.from_numpy(clips).to(network.device))
            made = torch.cat([network(part[:, 0], part[:, 2]) for part in frames.split(32)])
            shown, blend = (to_uint8(x).cpu().numpy() for x in (made, (frames[:, 0] + frames[:, 2]) / 2))
            figures[f"psnr_{kind}"] = psnr(shown, clips[:, 1])
            figures[f"over_blend_{kind}"] = figures[f"psnr_{kind}"] - psnr(blend, clips[:, 1])
            lively = np.argsort(motion(clips))[-SHOWN:]
            strips += [list(frames[lively]) for frames in (clips[:, 1], shown, blend)]
        return figures, contact_sheet(*strips)

    def finish(self, network) -> None:
        pass


def livelier(sampler: ClipSampler, rng: np.random.Generator, count: int) -> np.ndarray:
    """Where `count` clips begin, each the one in which more moves of two that were drawn: (count,)"""
    starts = sampler.draw(rng, 2 * count)
    moved = motion(sampler.at(starts).frames)
    return np.where(moved[:count] >= moved[count:], starts[:count], starts[count:])


def motion(clips: np.ndarray) -> np.ndarray:
    """clips (b, 3, h, w, c) uint8 -> mean change from the first frame to the last: (b,)"""
    first, last = clips[:, 0].astype(np.int16), clips[:, -1].astype(np.int16)
    return np.abs(last - first).mean((1, 2, 3))
