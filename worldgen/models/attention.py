"""Factorised space-time attention: within a frame, then over time at each token position.

Letters: b batch, t frames, m tokens a frame (with the action token), c width, k heads, e head width, s cache slots.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


def time_rope_table(context: int, head_dim: int) -> Tensor:
    """Cosines and sines of every time position, (period, 2, head_dim / 2) float32.

    All frequencies divide the period, so a position may be counted modulo the period for ever: frame 1,000,000 has
    exact phases without large angles. (RoPE: Su et al. 2021.)
    """
    period = time_rope_period(context)
    turns = torch.logspace(math.log10(period / 4), 0, head_dim // 2, dtype=torch.float64).round()
    angle = torch.arange(period, dtype=torch.float64)[:, None] * turns * (2 * math.pi / period)
    return torch.stack([angle.cos(), angle.sin()], dim=1).float()


def time_rope_period(context: int) -> int:
    """Frames after which a time position repeats: a multiple of the ring's length."""
    return 16 * context


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (..., e), cos and sin broadcastable to (..., e / 2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


class Projections(nn.Module):
    """Queries, keys (both RMS-normalised: Henry et al. 2020) and values of one attention."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.query_norm = nn.RMSNorm(dim // num_heads, eps=1e-6)
        self.key_norm = nn.RMSNorm(dim // num_heads, eps=1e-6)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (..., c) -> three of (..., k, e)"""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(-3)
        return self.query_norm(q), self.key_norm(k), v


def attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention. In float32 on a CPU: over so few keys torch's bfloat16 gradient takes 15 times as
    long."""
    if q.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=visible)


class SpaceAttention(nn.Module):
    """Every token of a frame attends to all tokens of the same frame."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.projections = Projections(dim, num_heads)

    def forward(self, x: Tensor) -> Tensor:
        """x (f, m, c), f any number of frames -> (f, m, c)"""
        q, k, v = (rearrange(part, "f m k e -> f k m e") for part in self.projections(x))
        out = attend(q, k, v)
        return self.projections.out(rearrange(out, "f k m e -> f m (k e)"))


class TimeAttention(nn.Module):
    """Every token position attends to itself over the last `context` frames and its own."""

    rope: Tensor

    def __init__(self, dim: int, num_heads: int, context: int):
        super().__init__()
        self.context = context
        self.projections = Projections(dim, num_heads)
        self.register_buffer("rope", time_rope_table(context, dim // num_heads), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (b, t, m, c) -> (b, t, m, c), causal, each frame sees `context` earlier ones"""
        _, t, _, _ = x.shape
        frames = torch.arange(t, device=x.device)
        cos, sin = self.rope[frames % len(self.rope)].unbind(1)  # (t, e / 2)
        q, k, v = (rearrange(part, "b t m k e -> b m k t e") for part in self.projections(x))
        age = frames[:, None] - frames[None, :]
        visible = (age >= 0) & (age <= self.context)
        out = attend(rotate(q, cos, sin), rotate(k, cos, sin), v, visible)
        return self.projections.out(rearrange(out, "b m k t e -> b t m (k e)"))

    def step(self, x: Tensor, cache: Tensor, position: Tensor, filled: Tensor) -> tuple[Tensor, Tensor]:
        """One frame against the ring.

        x (b, m, c); cache (b, 2, m, k, s, e) rotated keys and values; position (b,) int64 of the frame modulo the
        period; filled (b,) int64 slots that hold a frame -> out (b, m, c), this frame's keys and values (b, 2, m, k, e)
        """
        cos, sin = self.rope[position][:, :, None, None].unbind(1)  # (b, 1, 1, e / 2)
        q, k, v = self.projections(x)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        keys = torch.cat([cache[:, 0], k[..., None, :]], dim=-2)  # (b, m, k, s + 1, e)
        values = torch.cat([cache[:, 1], v[..., None, :]], dim=-2)
        slots = torch.arange(self.context + 1, device=x.device)
        visible = (slots < filled[:, None]) | (slots == self.context)
        mask = torch.where(visible, 0.0, -1e4)[:, None, None, None, :].to(x.dtype)
        scores = q[..., None, :] @ keys.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (b, m, k, 1, s + 1)
        out = (scores + mask).softmax(-1) @ values  # spelled out: the exporter takes 4-D attention only
        return self.projections.out(rearrange(out, "b m k 1 e -> b m (k e)")), torch.stack([k, v], dim=1)


class FeedForward(nn.Sequential):
    def __init__(self, dim: int, ratio: int = 4):
        super().__init__(nn.Linear(dim, ratio * dim), nn.GELU(approximate="tanh"), nn.Linear(ratio * dim, dim))
