"""A small network that sees which pixels of a frame show what."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldgen.training.watch import OnProgress

STEPS, BATCH, CHANNELS = 300, 24, 16
LIMITS = np.linspace(-6, 6, 49)  # logits, tried as the border between what shows a thing and what does not


def train_seer(frames: np.ndarray, masks: np.ndarray, on_steps: OnProgress, seed: int) -> nn.Module:
    """frames (n, h, w, 3) uint8, masks (n, k, h, w) bool -> what gives k logits a pixel, above 0 where it shows the
    thing: the border with the best F1 on these frames. Frames that show a thing, each kind alike, are half of what is
    learned from or more; half are blurred a little, as a tokenizer may do."""
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for channels in (3, *[CHANNELS] * 4):
            layers += [nn.Conv2d(channels, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), nn.ReLU()]
        last = nn.Conv2d(CHANNELS, masks.shape[1], 1)
        network = nn.Sequential(*layers, last)
    rare = torch.from_numpy(masks.mean((0, 2, 3))).float().clamp(1e-4, 0.5)
    is_shown = masks.any((2, 3))  # (n, k)
    share = (is_shown / np.maximum(is_shown.sum(0), 1)).mean(1) + 1 / len(frames)
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=STEPS)
    for step in range(STEPS):
        on_steps(step, STEPS)
        picks = rng.choice(len(frames), BATCH, p=share / share.sum())
        x = _to_input(frames[picks])
        blur = torch.from_numpy(rng.uniform(0, 0.5, (BATCH, 1, 1, 1)) * (rng.random((BATCH, 1, 1, 1)) < 0.5)).float()
        x = torch.lerp(x, F.avg_pool2d(x, 3, stride=1, padding=1), blur)
        x = x + 0.02 * torch.from_numpy(rng.standard_normal(tuple(x.shape), np.float32))
        loss = F.binary_cross_entropy_with_logits(
            network(x), torch.from_numpy(masks[picks]).float(), pos_weight=rare.rsqrt()[:, None, None]
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    network.eval()
    logits = torch.cat(_logits(network, frames)).numpy()
    best = np.stack([_f1(logits > limit, masks) for limit in LIMITS]).argmax(0)
    with torch.no_grad():
        assert last.bias is not None
        last.bias -= torch.from_numpy(LIMITS[best]).float()
    return network


def see(network: nn.Module, frames: np.ndarray, least: int) -> np.ndarray:
    """frames (n, h, w, 3) uint8 -> of which of the k things each shows `least` pixels (n, k)"""
    return np.concatenate([(x > 0).sum((2, 3)).numpy() >= least for x in _logits(network, frames)])


def pixel_f1(network: nn.Module, frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Of the pixels said to show each thing against those that do: frames (n, h, w, 3) uint8, masks (n, k, h, w) bool
    -> (k,), 0 where neither are any"""
    return _f1(torch.cat(_logits(network, frames)).numpy() > 0, masks)


def _f1(said: np.ndarray, masks: np.ndarray) -> np.ndarray:
    either = said.sum((0, 2, 3)) + masks.sum((0, 2, 3))
    return 2 * (said & masks).sum((0, 2, 3)) / np.maximum(either, 1)


@torch.no_grad()
def _logits(network: nn.Module, frames: np.ndarray) -> list[Tensor]:
    return [network(_to_input(frames[i : i + 64])) for i in range(0, len(frames), 64)]


def _to_input(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1
