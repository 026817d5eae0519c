"""A small network that sees which pixels of a frame show what."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldgen.training.watch import OnProgress

STEPS, BATCH, CHANNELS = 300, 24, 16
QUANTILES = np.linspace(0, 1, 101)  # of the frames, tried as the border between seen and not


def train_seer(frames: np.ndarray, masks: np.ndarray, least: int, on_steps: OnProgress, seed: int) -> nn.Sequential:
    """frames (n, h, w, 3) uint8, masks (n, k, h, w) bool -> what gives k logits a pixel. Frames that show a thing are
    half of what is learned from; half are blurred a little, as a tokenizer may do. A pixel whose logit is above 0 shows
    it: where that is, is chosen so that see() is right about the frames."""
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for channels in (3, *[CHANNELS] * 4):
            layers += [nn.Conv2d(channels, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), nn.ReLU()]
        last = nn.Conv2d(CHANNELS, masks.shape[1], 1)
        network = nn.Sequential(*layers, last)
    rare = torch.from_numpy(masks.mean((0, 2, 3))).float().clamp(1e-4, 0.5)
    assert last.bias is not None
    nn.init.zeros_(last.bias)
    is_shown = masks.any((1, 2, 3)).astype(np.float64)
    weight = is_shown / max(is_shown.sum(), 1) + 1 / len(frames)
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=STEPS)
    for step in range(STEPS):
        on_steps(step, STEPS)
        picks = rng.choice(len(frames), BATCH, p=weight / weight.sum())
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
    peaks = _peaks(network, frames, least)
    with torch.no_grad():
        for i, true in enumerate((masks.sum((2, 3)) >= least).T):
            limits = np.quantile(peaks[:, i], QUANTILES)
            last.bias[i] -= float(limits[np.argmax([f1(peaks[:, i] > limit, true) for limit in limits])])
    return network


def see(network: nn.Module, frames: np.ndarray, least: int) -> np.ndarray:
    """frames (n, h, w, 3) uint8 -> of which of the k things each shows `least` pixels (n, k)"""
    return _peaks(network, frames, least) > 0


def f1(said: np.ndarray, true: np.ndarray) -> float:
    """Of what is said to be so (n,) bool, and what is"""
    either = said.sum() + true.sum()
    return float(2 * (said & true).sum() / either) if either else 0.0


@torch.no_grad()
def _peaks(network: nn.Module, frames: np.ndarray, least: int) -> np.ndarray:
    """-> the logit that `least` pixels of each thing reach (n, k)"""
    logits = [network(_to_input(frames[i : i + 64])).flatten(2) for i in range(0, len(frames), 64)]
    return torch.cat([x.topk(least, dim=-1).values[..., -1] for x in logits]).numpy()


def _to_input(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1
