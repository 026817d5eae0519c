"""Behaviour cloning from video: a policy learned from an expert's video, whose actions nobody recorded (Genie, 2024).

The video is labelled with latent codes; a policy learns which code an expert chooses from what is on the screen; a few
labelled frames say which real button each code stands for. Beside it play an oracle that saw every button of the same
video, one that learned from the few labelled frames alone, and a random player.

Letters: b batch, c channels, h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from worldgen.data.cache import Cache
from worldgen.models.tokenizer import to_float
from worldgen.training.code_scores import counts_of
from worldgen.training.real_game import RealGame, shrink

PAST = 3  # frames that a policy sees
BATCH = 48
CHECKED = 512  # frames that share_right() looks at, at most
Choose = Callable[[np.ndarray], int]  # the last frames (PAST, h, w, 3) -> a button


class Policy(nn.Module):
    """The last PAST frames -> how likely each kind of action is."""

    def __init__(self, num_kinds: int):
        super().__init__()
        layers: list[nn.Module] = []
        for c_in, c_out in ((3 * PAST, 24), (24, 48), (48, 64)):
            layers += [nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), nn.GroupNorm(8, c_out), nn.SiLU()]
        layers += [nn.AdaptiveAvgPool2d((6, 8)), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 48, 128), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(128, num_kinds))

    def forward(self, frames: Tensor) -> Tensor:
        """frames (b, PAST, 3, h, w) in [-1, 1] -> logits (b, kinds)"""
        last = frames[:, -1]
        return self.layers(torch.cat([last, 2 * (last - frames[:, -2]), 2 * (last - frames[:, -3])], dim=1))


def past_of(cache: Cache, rows: np.ndarray) -> np.ndarray:
    """What was on the screen up to frames of the cache (n,): (n, PAST, h, w, 3) uint8, the first frame of an episode
    repeated before it"""
    first = cache.starts[np.searchsorted(cache.starts, rows, side="right") - 1]
    wanted = np.maximum(rows[:, None] + np.arange(1 - PAST, 1), first[:, None])
    return np.asarray(cache.frames[wanted.ravel()]).reshape(*wanted.shape, *cache.frames.shape[1:])


def train_policy(
    cache: Cache, rows: np.ndarray, kinds: np.ndarray, num_kinds: int, steps: int, seed: int = 0
) -> Policy:
    """rows (n,) frames of the cache and the kind of action chosen on each (n,) -> the policy"""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    policy = Policy(num_kinds)
    optimiser = torch.optim.AdamW(policy.parameters(), lr=1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        picks = rng.integers(0, len(rows), BATCH)
        frames = to_float(torch.from_numpy(past_of(cache, rows[picks])))
        loss = F.cross_entropy(policy(frames), torch.from_numpy(kinds[picks]).long(), label_smoothing=0.05)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return policy.eval()


def share_right(policy: Policy, table: np.ndarray, cache: Cache, rows: np.ndarray, buttons: np.ndarray) -> float:
    """table (kinds, buttons) as of sampler(); rows (n,) frames of the cache, buttons (n,) pressed there -> the share
    of them for which the player finds that button the likeliest"""
    picks = np.unique(np.linspace(0, len(rows) - 1, CHECKED).astype(int))
    parts = np.array_split(picks, -(-len(picks) // BATCH))
    said = [(probabilities(policy, past_of(cache, rows[part])) @ table).argmax(1) for part in parts]
    return float((np.concatenate(said) == buttons[picks]).mean())


@torch.inference_mode()
def probabilities(policy: Policy, frames: np.ndarray) -> np.ndarray:
    """frames (b, PAST, h, w, 3) uint8 -> (b, kinds)"""
    return policy(to_float(torch.from_numpy(frames))).softmax(-1).numpy()


def button_table(codes: np.ndarray, buttons: np.ndarray, num_codes: int, num_buttons: int) -> np.ndarray:
    """From a few labelled frames (n,): how likely each button is, given the code: (num_codes, num_buttons). A code that
    none of them shows says what the buttons' own frequencies say."""
    often = np.bincount(buttons, minlength=num_buttons) / len(buttons)
    counts = counts_of(codes, buttons, num_codes, num_buttons) + often
    return counts / counts.sum(1, keepdims=True)


@dataclass(frozen=True)
class Played:
    """What came of some games: the sum of rewards and the number of frames of each."""

    returns: tuple[float, ...]
    frames: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        mean, count = float(np.mean(self.returns)), len(self.returns)
        spread = float(np.std(self.returns, ddof=1) / np.sqrt(count)) if count > 1 else None
        return {"return": mean, "standard_error": spread, "games": count, "frames": float(np.mean(self.frames))}


def play_games(
    game: RealGame, choose: Choose, seeds: Sequence[int], height: int, width: int, max_frames: int
) -> Played:
    """Frames are shrunk as recordings are."""
    returns, lengths = [], []
    for seed in seeds:
        frame, total, count = game.reset(seed), 0.0, 0
        past = [shrink(frame.image, height, width)] * PAST
        while not (frame.terminated or frame.truncated) and count < max_frames:
            frame = game.step(choose(np.stack(past)))
            past = [*past[1:], shrink(frame.image, height, width)]
            total, count = total + frame.reward, count + 1
        returns.append(total)
        lengths.append(count)
    return Played(tuple(returns), tuple(lengths))


def sampler(policy: Policy, table: np.ndarray, rng: np.random.Generator, sharpness: float) -> Choose:
    """Draws buttons as the policy finds them likely, to the power of `sharpness`; table (kinds, buttons): what a kind
    presses."""

    def choose(past: np.ndarray) -> int:
        likely = probabilities(policy, past[None])[0] @ table
        drawn = (likely / likely.max()) ** sharpness
        return int(rng.choice(len(drawn), p=drawn / drawn.sum()))

    return choose
