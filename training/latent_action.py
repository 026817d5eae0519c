"""Trains the latent-action model on video without actions, and labels the video with its codes.

worldgen train videos/ --out worlds/mine --actions latent --stages latent_action --steps 200

The encoder sees a shifted, tinted view of the clip, the decoder the clip itself: a code cannot say what is where, only
what happens. Where some frames have recorded actions, --labels lets a share of them draw the codes towards buttons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from worldgen.actions import ActionMap
from worldgen.data.cache import Cache
from worldgen.data.dataset import ClipSampler, Segments
from worldgen.errors import InputError
from worldgen.models.latent_action import LatentActionModel
from worldgen.models.tokenizer import to_float, to_uint8
from worldgen.training.code_scores import action_classes
from worldgen.training.metrics import contact_sheet, psnr
from worldgen.training.tokenizer import motion_weight

SHIFT = 4  # pixels that the encoder's view is moved by at most
TINT = 0.2  # standard deviation of its gain in each colour
CODEBOOK_WEIGHT, LABEL_WEIGHT = 0.02, 0.02  # beside the error of the picture
UNKNOWN = -1
RARE = 0.005  # of all frames: a code that explains fewer is dropped


class LatentActionStage:
    name = "latent_action"

    def __init__(
        self,
        network: LatentActionModel,
        train: ClipSampler,
        validation: ClipSampler,
        batch: int,
        labels: Labels | None = None,
        motion: float = 4.0,
    ):
        self.network = network
        self._train, self._batch, self._motion, self._labels = train, batch, motion, labels
        self._all_starts = train.all_starts() if labels is not None else np.zeros(0, np.int64)
        self._held_out = validation.evenly(32).frames
        self._statistics = train.evenly(256).frames

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        if self._labels is None:
            return {"frames": torch.from_numpy(self._train.sample(rng, self._batch).frames)}
        starts, length = self._train.draw(rng, self._batch), self._train.length
        # every third clip holds a labelled frame, so that a few of them count at all
        seen = rng.choice(self._labels.rows, len(starts[::3])) - rng.integers(0, length - 1, len(starts[::3]))
        starts[::3] = np.where(np.isin(seen, self._all_starts), seen, starts[::3])
        return {
            "frames": torch.from_numpy(self._train.at(starts).frames),
            "labels": torch.from_numpy(self._labels.actions[starts[:, None] + np.arange(length - 1)]),
        }

    def loss(self, network, batch, generator, progress) -> tuple[Tensor, dict[str, Tensor]]:
        frames = to_float(batch["frames"])
        latents = network.latents(another_view(frames, generator))
        quantised, codes, codebook_loss = network.quantizer(latents)
        predicted = network.decode(frames[:, :-1], quantised)
        weight = motion_weight(frames, self._motion)[:, 1:]
        # the first frame has no past to tell its speed from
        error = (weight * (predicted.float() - frames[:, 1:]).square())[:, 1:].mean()
        loss = error + CODEBOOK_WEIGHT * codebook_loss
        figures = {"error": error.detach(), "perplexity": perplexity(codes)}
        if "labels" in batch:
            logits = torch.stack([network.to_labels(x) for x in (latents, quantised)]).flatten(0, 2).float()
            wanted = batch["labels"].flatten().repeat(2)
            label_loss = F.cross_entropy(logits, wanted, ignore_index=UNKNOWN)
            loss = loss + LABEL_WEIGHT * label_loss.nan_to_num()  # a part of the batch may have none
            figures["label_loss"] = label_loss.detach()
        return loss, figures

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

    @torch.no_grad()
    def finish(self, network) -> None:
        """Drops the codes that explain next to nothing."""
        codes = network.encode(to_float(torch.from_numpy(self._statistics).to(network.device)))
        share = torch.bincount(codes.flatten(), minlength=network.config.num_codes) / codes.numel()
        network.keep_codes(torch.nonzero(share >= RARE).flatten())


@dataclass(frozen=True)
class Labels:
    """A few training frames whose recorded action may be seen. rows (n,): which frames of the cache; actions (N,): the
    kind of action chosen on each frame of the cache, UNKNOWN but on those; names: of the kinds."""

    rows: np.ndarray
    actions: np.ndarray
    names: tuple[str, ...]


def choose_labels(cache: Cache, segments: Segments, share: float, seed: int) -> Labels:
    """`share` of the frames of the segments, drawn by the seed"""
    if cache.actions is None:
        raise InputError("--labels takes recorded actions, and no video has a sidecar with any: leave it out")
    assert cache.action_map is not None
    recorded = np.asarray(cache.actions)
    rows = np.concatenate([np.arange(start, stop - 1) for start, stop in segments])
    rows = rows[(recorded[rows] != cache.action_map.null()).any(-1)]
    found = action_classes(recorded[rows], cache.action_map)
    if isinstance(found, str):
        raise InputError(f"--labels: {found}: leave it out")
    kinds, action_map = found
    order = np.random.default_rng(seed).permutation(len(rows))[: max(1, round(share * len(rows)))]
    actions = np.full(len(recorded), UNKNOWN, np.int64)
    actions[rows[order]] = kinds[order]
    return Labels(np.sort(rows[order]), actions, action_map.names)


def another_view(frames: Tensor, generator: torch.Generator) -> Tensor:
    """frames (b, t, 3, h, w) -> each clip moved by up to SHIFT pixels and tinted, all its frames alike"""
    b, t, _, h, w = frames.shape
    wide = F.pad(frames.flatten(1, 2), (SHIFT,) * 4, mode="replicate").view(b, t, 3, h + 2 * SHIFT, w + 2 * SHIFT)
    device = frames.device
    places = torch.randint(0, 2 * SHIFT + 1, (b, 2), generator=generator, device=device).tolist()
    moved = torch.stack([clip[..., y : y + h, x : x + w] for clip, (y, x) in zip(wide, places, strict=True)])
    return moved * (1 + TINT * torch.randn(b, 1, 3, 1, 1, generator=generator, device=device))


def perplexity(codes: Tensor) -> Tensor:
    """How many codes are in use, as the exponential of their entropy: 1 .. num_codes"""
    counts = torch.bincount(codes.flatten()).float()
    share = counts / counts.sum()
    return torch.exp(-(share * share.clamp_min(1e-9).log()).sum())


def latent_action_map(num_codes: int) -> ActionMap:
    """Codes as actions, on the number keys until someone names them."""
    return ActionMap.discrete([f"code {i}" for i in range(num_codes)], [[str(i + 1)] for i in range(num_codes)])


@torch.inference_mode()
def latents_of(cache: Cache, network: LatentActionModel, rows: np.ndarray, batch: int = 128) -> np.ndarray:
    """What happened from each frame of the cache (n,) to the next one, before it is made a code: (n, d) float32. The
    last frame of an episode has no next one and is none of them."""
    first = cache.starts[np.searchsorted(cache.starts, rows, side="right") - 1]
    found = [np.zeros((0, network.config.code_dim), np.float32)]
    for i in range(0, len(rows), batch):
        part = rows[i : i + batch]
        triples = np.stack([np.maximum(part - 1, first[i : i + batch]), part, part + 1])
        frames = np.asarray(cache.frames[triples.ravel()]).reshape(*triples.shape, *cache.frames.shape[1:])
        found.append(network.transition(*to_float(torch.from_numpy(frames).to(network.device))).cpu().numpy())
    return np.concatenate(found)


def code_of(network: LatentActionModel, latents: np.ndarray) -> np.ndarray:
    """latents (n, d) -> codes (n,)"""
    with torch.inference_mode():
        return network.quantizer(torch.from_numpy(latents).to(network.device))[1].cpu().numpy()


def label(cache: Cache, network: LatentActionModel) -> np.ndarray:
    """The code chosen on each frame of the dataset, (N, 1) int64; NULL on the last frame of every episode."""
    actions = latent_action_map(network.config.num_codes).null(len(cache.frames))
    rows = np.setdiff1d(np.arange(len(cache.frames)), np.asarray(cache.starts[1:]) - 1)
    actions[rows, 0] = code_of(network, latents_of(cache, network, rows))
    return actions
