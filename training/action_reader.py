"""A small network that reads the action off two neighbouring frames.

What was trained is kept beside the decoded recordings, so that the next world of the same ones is read by the same
network, and at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from worldgen.training.held_out import HeldOut
from worldgen.training.watch import OnProgress, unheard

if TYPE_CHECKING:
    import torch

SIDE = 64  # pixels of the longer side that it reads
STEPS, BATCH = 600, 64
VERSION = 1  # of the network and how it is trained: what is kept of another one is not used


class Reader:
    """Reads actions off pairs of frames, with a trained network."""

    def __init__(self, network: torch.nn.Module, sizes: Sequence[int]):
        self.network, self._sizes = network, tuple(sizes)

    def __call__(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """before, after (..., h, w, 3) uint8 -> rows (..., width)"""
        import torch

        lead, picture = before.shape[:-3], before.shape[-3:]
        first, second = before.reshape(-1, *picture), after.reshape(-1, *picture)
        read = []
        with torch.no_grad():
            for i in range(0, len(first), 256):
                logits = self.network(_to_input(first[i : i + 256], second[i : i + 256]))
                read.append(torch.stack([part.argmax(1) for part in logits.split(self._sizes, dim=1)], dim=1).numpy())
        return np.concatenate(read).reshape(*lead, len(self._sizes))


def known_reader(
    held_out: HeldOut, rows: np.ndarray, sizes: Sequence[int], seed: int = 0, on_steps: OnProgress = unheard
) -> Reader:
    """train_reader(), or what it gave the last time: kept in the folder of the decoded recordings, by what it learned
    from and how."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    held_out_actions = np.ascontiguousarray(held_out.actions[rows])
    facts = [VERSION, STEPS, BATCH, seed, list(sizes), held_out.cache.path.name, held_out.cache.frames.shape[1:]]
    digest = hashlib.blake2b(repr(facts).encode() + rows.tobytes() + held_out_actions.tobytes(), digest_size=12)
    path = held_out.cache.path / f"inverse-dynamics-{digest.hexdigest()}.safetensors"
    network = _fresh(held_out, rows, sizes, seed)
    if path.is_file():
        try:
            network.load_state_dict(load_file(path))
            return Reader(network.eval(), sizes)
        except (OSError, RuntimeError, SafetensorError):
            path.unlink(missing_ok=True)  # damaged: it is trained again
    reader = train_reader(held_out, rows, sizes, seed, on_steps)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):  # a cache that may not be written to is no reason to stop
        save_file({k: v.contiguous() for k, v in reader.network.state_dict().items()}, temporary)
        temporary.replace(path)
    return reader


def _fresh(held_out: HeldOut, rows: np.ndarray, sizes: Sequence[int], seed: int) -> torch.nn.Module:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(sizes)
        network(_to_input(*(held_out.frames(rows[:2, None])[:, 0] for _ in range(2))))  # its last layer learns its size
    return network


def train_reader(
    held_out: HeldOut, rows: np.ndarray, sizes: Sequence[int], seed: int = 0, on_steps: OnProgress = unheard
) -> Reader:
    """rows (n,): first frames of real pairs. Every action is shown equally often."""
    import torch
    from torch.nn import functional

    actions = held_out.actions[rows]
    _, kind, count = np.unique(actions, axis=0, return_inverse=True, return_counts=True)
    weight = 1 / count[kind.ravel()]
    weight /= weight.sum()
    rng = np.random.default_rng(seed)
    network = _fresh(held_out, rows, sizes, seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=STEPS, pct_start=0.1)
    for step in range(STEPS):
        on_steps(step, STEPS)
        picks = rng.choice(len(rows), BATCH, p=weight)
        pairs = held_out.frames(rows[picks, None] + np.arange(2))
        x = _to_input(pairs[:, 0], pairs[:, 1])
        x = x + 0.02 * torch.from_numpy(rng.standard_normal(tuple(x.shape), np.float32))  # what a codec may do
        wanted = torch.from_numpy(actions[picks]).long()
        parts = network(x).split(tuple(sizes), dim=1)
        loss = torch.stack([functional.cross_entropy(part, wanted[:, c]) for c, part in enumerate(parts)]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return Reader(network.eval(), sizes)


def _network(sizes: Sequence[int]) -> torch.nn.Module:
    from torch import nn

    layers: list[nn.Module] = []
    channels = (6, 24, 48, 64)
    for c_in, c_out in zip(channels, channels[1:], strict=False):
        layers += [nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), nn.GroupNorm(8, c_out), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(6), nn.Flatten(), nn.LazyLinear(128), nn.ReLU(), nn.Linear(128, sum(sizes))]
    return nn.Sequential(*layers)


def _to_input(before: np.ndarray, after: np.ndarray) -> torch.Tensor:
    """(n, h, w, 3) uint8 twice -> (n, 6, h', w') float32: the first frame, and what changed, at about SIDE"""
    import torch

    first, second = (torch.from_numpy(np.ascontiguousarray(x)).float() / 127.5 - 1 for x in (before, after))
    pairs = torch.cat([first, 2 * (second - first)], dim=-1).movedim(-1, 1)
    step = max(1, round(max(pairs.shape[-2:]) / SIDE))
    return torch.nn.functional.avg_pool2d(pairs, step, ceil_mode=True) if step > 1 else pairs
