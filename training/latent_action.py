"""Trains the latent-action model on video without actions, and labels the video with its codes.

worldgen train videos/ --out worlds/mine --actions latent --stages latent_action --steps 200

Expectation: which codes explain each transition of a batch, all codes equally often, so that none is left without work.
Maximisation: each code gets better at what it explains. Where some frames have recorded actions, --labels lets a share
of them draw the codes towards buttons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from worldgen.actions import ActionMap
from worldgen.bundle import load_network, network_hashes
from worldgen.data.cache import Cache
from worldgen.data.dataset import ClipSampler, Segments
from worldgen.errors import InputError
from worldgen.files import write_bytes
from worldgen.models.latent_action import LatentActionModel, transitions
from worldgen.models.tokenizer import to_float, to_uint8
from worldgen.training.code_scores import action_classes
from worldgen.training.metrics import contact_sheet, psnr

TEMPERATURE = 8.0  # nats of evidence for a code that count as one
BALANCING = 3  # rounds of making codes equally frequent in a batch
LABEL_WEIGHT = 20.0  # what a label says beside a transition's pixels
LABEL_SCALE = 10.0  # of its logits: they are to be learned faster than weights
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
    ):
        self.network = network
        self._train, self._batch, self._labels = train, batch, labels
        self._all_starts = train.all_starts() if labels is not None else np.zeros(0, np.int64)
        self._held_out = validation.evenly(32).frames
        self._statistics = train.evenly(256).frames

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        if self._labels is None:
            return {"frames": torch.from_numpy(self._train.sample(rng, self._batch).frames)}
        starts, length = self._train.draw(rng, self._batch), self._train.length
        # every third clip holds a labelled frame, so that a few of them count at all
        seen = rng.choice(self._labels.rows, len(starts[::3])) - rng.integers(1, length - 1, len(starts[::3]))
        starts[::3] = np.where(np.isin(seen, self._all_starts), seen, starts[::3])
        return {
            "frames": torch.from_numpy(self._train.at(starts).frames),
            "labels": torch.from_numpy(self._labels.actions[starts[:, None] + np.arange(length - 1)]),
        }

    def loss(self, network, batch, generator, progress) -> tuple[Tensor, dict[str, Tensor]]:
        frames = to_float(batch["frames"])
        t = frames.shape[1] - 1
        # the first transition of a clip has no past to tell its speed from
        past, after = (rearrange(x, "(b t) ... -> b t ...", t=t)[:, 1:].flatten(0, 1) for x in transitions(frames))
        order = torch.rand(after[:, 0].flatten(1).shape, generator=generator, device=after.device)
        places = network.busy(past, after, order)
        evidence = network.evidence(past, after, places)
        told = evidence.detach()
        label_loss = None
        if "labels" in batch:
            labels = batch["labels"][:, 1:].flatten()
            is_known = labels != UNKNOWN
            meanings = (LABEL_SCALE * network.label_logits).log_softmax(-1)[:, labels.clamp_min(0)].T
            told = told + LABEL_WEIGHT * meanings.detach() * is_known[:, None]
            label_loss = -meanings * is_known[:, None] / is_known.sum().clamp_min(1)
        shares = balanced(told / TEMPERATURE)
        loss = -(shares * evidence).sum(1).mean() / places.shape[1]
        figures = {"surprise": loss.detach(), "perplexity": perplexity(evidence.argmax(1))}
        if label_loss is not None:
            label_loss = (shares * label_loss).sum()
            loss = loss + label_loss
            figures["label_loss"] = label_loss.detach()
        return loss, figures

    @torch.no_grad()
    def validate(self, network) -> tuple[dict[str, float], np.ndarray]:
        real = torch.from_numpy(self._held_out).to(network.device)
        frames = to_float(real)
        predicted, codes = network(frames)
        other = network.decode(frames[:, :-1], codes.flatten().roll(1).view_as(codes))
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


def balanced(evidence: Tensor) -> Tensor:
    """evidence (f, k) -> shares of each transition that fall to each code, those of a transition summing to 1, those of
    a code nearly alike (Sinkhorn and Knopp; as in SwAV, Caron et al. 2020)"""
    shares = evidence.softmax(1)
    for _ in range(BALANCING):
        shares = shares / (shares.mean(0) * shares.shape[1] + 1e-3)
        shares = shares / shares.sum(1, keepdim=True)
    return shares


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


def perplexity(codes: Tensor) -> Tensor:
    """How many codes are in use, as the exponential of their entropy: 1 .. num_codes"""
    counts = torch.bincount(codes.flatten()).float()
    share = counts / counts.sum()
    return torch.exp(-(share * share.clamp_min(1e-9).log()).sum())


def latent_action_map(num_codes: int) -> ActionMap:
    """Codes as actions, on the number keys until someone names them."""
    return ActionMap.discrete([f"code {i}" for i in range(num_codes)], [[str(i + 1)] for i in range(num_codes)])


@torch.inference_mode()
def latents_of(cache: Cache, network: LatentActionModel, rows: np.ndarray, batch: int = 64) -> np.ndarray:
    """How much worse than the best each code explains what comes after each frame of the cache (n,), in nats: (n, k)
    float32. The last frame of an episode has no next one and is none of them."""
    first = cache.starts[np.searchsorted(cache.starts, rows, side="right") - 1]
    found = [np.zeros((0, network.config.num_codes), np.float32)]
    for i in range(0, len(rows), batch):
        part = rows[i : i + batch, None]
        wanted = np.maximum(part + np.arange(-2, 2), first[i : i + batch, None])
        frames = np.asarray(cache.frames[wanted.ravel()]).reshape(*wanted.shape, *cache.frames.shape[1:])
        pictures = to_float(torch.from_numpy(frames).to(network.device))
        found.append(network.compare(pictures[:, :3], pictures[:, 3]).cpu().numpy())
    return np.concatenate(found)


def label(cache: Cache, network: LatentActionModel) -> np.ndarray:
    """The code chosen on each frame of the dataset, (N, 1) int64; NULL on the last frame of every episode."""
    actions = latent_action_map(network.config.num_codes).null(len(cache.frames))
    rows = np.setdiff1d(np.arange(len(cache.frames)), np.asarray(cache.starts[1:]) - 1)
    actions[rows, 0] = latents_of(cache, network, rows).argmax(1)
    return actions


def kept_codes(cache: Cache, world: Path, device: str, say: Callable[[str], None]) -> np.ndarray:
    """label() by the world's model, kept beside its training state. Made again when the data or the model change."""
    model = network_hashes(world, ("latent_action",)).get("latent_action")
    path, key = world / "training" / "codes.npz", f"{cache.path.name} {model}"
    try:
        with np.load(path) as kept:
            if str(kept["key"]) == key:
                return np.asarray(kept["actions"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        pass
    network = load_network(world, "latent_action").to(device)
    say(f"labelling {cache.num_frames} frames with latent actions")
    actions = label(cache, network)
    content = BytesIO()
    np.savez(content, key=key, actions=actions)
    write_bytes(path, content.getvalue())
    return actions
