"""The latent-action model: which of a few codes explains how a frame became the next one (Genie, Bruce et al. 2024).

Each code is a predictor of its own, and a transition's code is the one that foretells it best (a mixture of experts
trained by expectation and maximisation): no encoder has to find out first what the decoder needs, and no decoder can do
without the code. What is foretold is motion, pixel by pixel: a probability for each of a few displacements that the
pixel may have come from, and for being drawn anew. A pixel in a flat or still region is explained by whatever is said
and teaches nothing; a small player counts as much as its pixels are surprising, whatever their contrast.

Letters: b batch, t frames, f transitions, h w pixels, p places (pixels looked at), k codes, m moves, c channels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

PATCH = 4  # pixels a side of what the surroundings are read in
NUM_MOVES = 24  # displacements beside none
NEAR = 2  # pixels around a place that are read one by one
MOVED, DRAWN = 0.1, 0.3  # standard deviation of a colour that was moved, and of one drawn anew; colours are in [-1, 1]
STILL = 3.0  # the first logit of no displacement
CHANGE = 0.12  # of a colour: something happened there
WORST = 50.0  # nats by which a code is worse than the best at most, as latents tell it


class ConvBlock(nn.Sequential):
    def __init__(self, c_in: int, c_out: int, stride: int = 1):
        super().__init__(nn.Conv2d(c_in, c_out, 3, stride, padding=1), nn.GroupNorm(8, c_out), nn.SiLU())


class Surroundings(nn.Module):
    """The last three frames -> what is around each patch."""

    def __init__(self, dim: int):
        super().__init__()
        self.patches_in = nn.Conv2d(9 * PATCH * PATCH, dim, 1)
        self.fine, self.last = ConvBlock(dim, dim), ConvBlock(dim, dim)
        self.down, self.coarse = ConvBlock(dim, 2 * dim, stride=2), ConvBlock(2 * dim, 2 * dim)
        self.up = nn.Conv2d(2 * dim, dim, 1)

    def forward(self, past: Tensor) -> Tensor:
        """past (f, 9, h, w) -> (f, c, h / PATCH, w / PATCH)"""
        x = self.patches_in(F.pixel_unshuffle(past, PATCH))
        x = x + self.fine(x)
        coarse = self.down(x)
        coarse = coarse + self.coarse(coarse)
        x = x + F.interpolate(self.up(coarse), size=x.shape[-2:])
        return x + self.last(x)


class LatentActionModel(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers declares config_name twice
    config: Any  # the arguments of __init__
    moves: Tensor
    order: Tensor

    @register_to_config
    def __init__(
        self,
        *,
        height: int,
        width: int,
        num_codes: int = 8,
        dim: int = 32,
        hidden_dim: int = 64,
        num_places: int = 192,
        num_labels: int = 0,
    ):
        """num_places: pixels of a frame that are looked at, those where something happens first. num_labels: how many
        recorded actions the codes learn to stand for, where a few are known; 0: none are."""
        super().__init__()
        if height % (2 * PATCH) or width % (2 * PATCH):
            raise ValueError(f"frame size {width}x{height} is not a multiple of {2 * PATCH}")
        self.surroundings = Surroundings(dim)
        window = 3 * (2 * NEAR + 1) ** 2
        self.place = nn.Sequential(
            nn.Linear(dim + window + 9, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, hidden_dim), nn.SiLU()
        )
        # of each code: logits of no displacement, of the moves and of being drawn, and the colour that is drawn
        outputs = 1 + NUM_MOVES + 1 + 3
        self.predictors = nn.Parameter(0.05 * torch.randn(num_codes, outputs, hidden_dim))
        self.biases = nn.Parameter(torch.zeros(num_codes, outputs))
        with torch.no_grad():
            self.biases[:, 0] = STILL
        self.label_logits = nn.Parameter(torch.zeros(num_codes, num_labels)) if num_labels else None
        near = torch.cartesian_prod(torch.arange(-2, 3), torch.arange(-2, 3))
        self.register_buffer("moves", 2 * near[(near != 0).any(1)])
        order = torch.rand(height * width, generator=torch.Generator().manual_seed(0))
        self.register_buffer("order", order, persistent=False)

    def take_moves(self, moves: Tensor) -> None:
        """moves (m, 2) int64: how many half pixels below and to the right of a pixel the colour lay that it has now"""
        self.moves.copy_(moves)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """frames (b, t, 3, h, w) in [-1, 1] -> frames 1.. as their codes foretell them (b, t - 1, 3, h, w), codes"""
        codes = self.encode(frames)
        return self.decode(frames[:, :-1], codes), codes

    def encode(self, frames: Tensor) -> Tensor:
        """frames (b, t, 3, h, w) -> codes (b, t - 1) int64; codes[:, i] leads from frame i to i + 1"""
        return self.latents(frames).argmax(-1)

    def latents(self, frames: Tensor) -> Tensor:
        """frames (b, t, 3, h, w) -> how much worse than the best each code explains each transition, in nats: 0 for the
        best, negative for others (b, t - 1, k)"""
        past, after = transitions(frames)
        return rearrange(self.compare(past, after), "(b t) k -> b t k", b=len(frames))

    def compare(self, past: Tensor, after: Tensor) -> Tensor:
        """past (f, 3, 3, h, w), after (f, 3, h, w) -> latents (f, k)"""
        evidence = self.evidence(past, after, self.busy(past, after, self.order))
        return (evidence - evidence.amax(1, keepdim=True)).clamp_min(-WORST)

    def evidence(self, past: Tensor, after: Tensor, places: Tensor) -> Tensor:
        """past (f, 3, 3, h, w), after (f, 3, h, w), places (f, p) -> log likelihood of what came under each code
        (f, k), against one that was certain of all"""
        features, candidates = self._read(past, places)
        said = torch.einsum("f p c, k o c -> f p k o", features, self.predictors) + self.biases
        chances, drawn = said[..., :-3].log_softmax(-1), said[..., -3:].tanh()
        truth = _at(after, places)[:, :, None]
        moved = -(candidates - truth).square().sum(-1) / (2 * MOVED**2)
        new = -(drawn - truth).square().sum(-1) / (2 * DRAWN**2) - 3 * math.log(DRAWN / MOVED)
        ways = torch.cat([chances[..., :-1] + moved[:, :, None], chances[..., -1:] + new[..., None]], dim=-1)
        return ways.logsumexp(-1).sum(1)

    def decode(self, frames: Tensor, codes: Tensor) -> Tensor:
        """frames (b, t, 3, h, w) and the code that follows each (b, t) -> the next frames (b, t, 3, h, w)"""
        made = [
            self._draw(past, code) for past, code in zip(pasts(frames).split(8), codes.flatten().split(8), strict=True)
        ]
        return torch.cat(made).view_as(frames)

    def _draw(self, past: Tensor, code: Tensor) -> Tensor:
        """past (f, 3, 3, h, w), code (f,) -> the mean of what it foretells (f, 3, h, w)"""
        h, w = past.shape[-2:]
        features, candidates = self._read(past, torch.arange(h * w, device=past.device).expand(len(past), -1))
        said = torch.einsum("f p c, f o c -> f p o", features, self.predictors[code]) + self.biases[code][:, None]
        chances, drawn = said[..., :-3].softmax(-1), said[..., -3:].tanh()
        mean = torch.einsum("f p m, f p m c -> f p c", chances, torch.cat([candidates, drawn[:, :, None]], dim=2))
        return rearrange(mean, "f (h w) c -> f c h w", h=h)

    def _read(self, past: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """past (f, 3, 3, h, w), places (f, p) -> what every code reads there (f, p, c), and the colours that may have
        come there, its own first (f, p, 1 + m, 3)"""
        h, w = past.shape[-2:]
        last = past[:, 2]
        motion = torch.cat([last, past[:, 1] - last, past[:, 0] - past[:, 1]], dim=1)
        y, x = places // w, places % w
        patches = (y // PATCH) * (w // PATCH) + x // PATCH
        moves = torch.cat([torch.zeros_like(self.moves[:1]), self.moves])
        steps = 2 * torch.arange(-NEAR, NEAR + 1, device=past.device)
        around = torch.cartesian_prod(steps, steps)
        # pictures are smaller than games, and things move by fractions of their pixels
        halves = F.interpolate(last, size=(2 * h - 1, 2 * w - 1), mode="bilinear", align_corners=True)

        def colours(offsets: Tensor) -> Tensor:
            rows = (2 * y[..., None] + offsets[:, 0]).clamp(0, 2 * h - 2)
            columns = (2 * x[..., None] + offsets[:, 1]).clamp(0, 2 * w - 2)
            return _at(halves, (rows * (2 * w - 1) + columns).flatten(1)).unflatten(1, (-1, len(offsets)))

        near = colours(around).flatten(2)
        features = torch.cat([_at(self.surroundings(motion), patches), near, _at(motion, places)], dim=-1)
        return self.place(features), colours(moves)

    def busy(self, past: Tensor, after: Tensor, order: Tensor) -> Tensor:
        """past (f, 3, 3, h, w), after (f, 3, h, w), order (..., h w) in [0, 1) -> the places to look at (f, p): where
        something changes now or has just changed nearby, then others, by their order"""
        now = (after - past[:, 2]).abs().amax(1) > CHANGE
        before = (past[:, 1:] - past[:, :-1]).abs().amax((1, 2)) > CHANGE
        nearby = F.max_pool2d(before[:, None].float(), 3, stride=1, padding=1)[:, 0]
        rank = (now + 0.9 * nearby).flatten(1) + order
        return rank.topk(min(self.config.num_places, rank.shape[1])).indices

    def keep_codes(self, kept: Tensor) -> None:
        """Drops all codes but these (k,) int64; what they explained goes to the next best that is left."""
        for name in ("predictors", "biases", "label_logits"):
            if (parameter := getattr(self, name)) is not None:
                setattr(self, name, nn.Parameter(parameter.detach()[kept].clone(), parameter.requires_grad))
        self.register_to_config(num_codes=len(kept))


def pasts(frames: Tensor) -> Tensor:
    """(b, t, 3, h, w) -> each frame after the two before it, the first one where there are none: (b t, 3, 3, h, w)"""
    return torch.stack([earlier(frames, 2), earlier(frames, 1), frames], dim=2).flatten(0, 1)


def transitions(frames: Tensor) -> tuple[Tensor, Tensor]:
    """(b, t, 3, h, w) -> the three frames before (f, 3, 3, h, w) and the frame after each transition (f, 3, h, w)"""
    return pasts(frames[:, :-1]), frames[:, 1:].flatten(0, 1)


def earlier(frames: Tensor, by: int) -> Tensor:
    """Each frame's `by`-th predecessor, the first one where there is none: (b, t, ...)"""
    t = frames.shape[1]
    return frames[:, (torch.arange(t, device=frames.device) - by).clamp_min(0)]


def _at(picture: Tensor, places: Tensor) -> Tensor:
    """(f, c, h, w), places (f, p) -> (f, p, c)"""
    flat = rearrange(picture, "f c h w -> f (h w) c")
    return flat.gather(1, places[..., None].expand(-1, -1, flat.shape[-1]))
