"""The dynamics: a space-time block-causal diffusion transformer that predicts the next frame's tokens.

DiT blocks (Peebles & Xie 2023) with attention factorised over space and time (Genie, Bruce et al. 2024), trained by
diffusion forcing (Chen et al. 2024) with x-prediction (Dreamer 4, Hafner et al. 2025) and steps of several sizes.

Noisy tokens are (1 - sigma) * tokens + sigma * noise. Each frame also has the previous ones in two forms: the tokens
of the last `history` slightly noised (`context_sigma`, GameNGen) to look at, two so that what flies has a speed, and
those of the last one as they are to copy from, each pixel from where it came from (motion.py), so that capacity goes
into what is new.

Letters: b batch, t frames, n tokens a frame, d token width, m = n + 1 with the action token, c width, l time layers,
k heads, s cache slots, e head width, p = 1 + history.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from worldgen import sampler
from worldgen.models.attention import FeedForward, SpaceAttention, TimeAttention, time_rope_period
from worldgen.models.conditioning import ActionEmbedding, LevelEmbedding
from worldgen.models.motion import MotionCompensation
from worldgen.models.plain_motion import PlainMotion
from worldgen.models.ring import write_ring
from worldgen.models.stem import Stem
from worldgen.models.tokenizer import Tokenizer
from worldgen.models.whole_motion import WholeMotion

# x (f, m, c) of all frames -> its time attention (f, m, c), over a clip or against the ring
AttendTime = Callable[[TimeAttention, Tensor], Tensor]
LEAST_DOUBT, MOST_DOUBT = -9.0, 4.0  # log variances that half precision can hold the inverse of
FINEST_STEP = 0.25  # of the noise level: the step that commit() is told


class Block(nn.Module):
    """Space attention, in some blocks time attention, and a feed-forward, each gated by the frame's condition."""

    def __init__(self, dim: int, num_heads: int, context: int | None):
        super().__init__()
        self.space_norm = nn.RMSNorm(dim, eps=1e-6, elementwise_affine=False)
        self.space = SpaceAttention(dim, num_heads)
        self.time_norm = nn.RMSNorm(dim, eps=1e-6) if context is not None else None
        self.time = TimeAttention(dim, num_heads, context) if context is not None else None
        self.feed_norm = nn.RMSNorm(dim, eps=1e-6, elementwise_affine=False)
        self.feed = FeedForward(dim)
        self.modulation = nn.Parameter(torch.zeros(6, dim))  # this block's own share of adaLN-single (PixArt-alpha)

    def forward(self, x: Tensor, modulation: Tensor, attend_time: AttendTime) -> Tensor:
        """x (f, m, c), f frames; modulation (f, 6, c) -> (f, m, c)"""
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.modulation).unsqueeze(-2).unbind(1)
        x = x + gate1 * self.space(self.space_norm(x) * (1 + scale1) + shift1)
        if self.time is not None and self.time_norm is not None:
            x = x + attend_time(self.time, self.time_norm(x))
        return x + gate2 * self.feed(self.feed_norm(x) * (1 + scale2) + shift2)


class Dynamics(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers declares config_name twice
    """forward() runs whole clips in training; denoise() and commit() run one frame against a ring cache. All three are
    the same function: commit() over a clip equals forward() with the same noise."""

    config: Any  # the arguments of __init__

    @register_to_config
    def __init__(
        self,
        *,
        grid: list[int],
        patch: int,
        token_dim: int,
        action_kind: str,
        action_sizes: list[int],
        dim: int = 192,
        num_layers: int = 6,
        num_heads: int = 6,
        time_every: int = 2,
        context: int = 16,
        reach: int = 8,
        history: int = 1,
        stem_channels: int = 0,
        cubic: bool = False,
        whole: bool = False,
        warp: bool = False,
        blank: bool = False,
        grain: float | None = None,
    ):
        """grid: rows and columns of tokens in a frame; patch: pixels a side of a token; context: frames of look-back;
        reach: pixels that things move in a frame at most, as far as they are copied (motion.py); history: frames before
        each that it sees place by place, beside what it attends to; stem_channels: of the first convolution over these
        and itself (stem.py), 0 for none; warp: whether pixels are copied, also as the camera moves, not blocks
        averaged (plain_motion.py); whole: whether blocks are copied by whole pixels instead (whole_motion.py); cubic:
        whether averaging kernels are partly cubic ones; blank: whether pure noise is not shown to it, which says
        nothing: the first step gives the mean of what may follow; grain: of the noise of noisy tokens so much stays in
        the clean ones at most, however much is in doubt, None: no limit."""
        super().__init__()
        if whole and (warp or cubic):
            raise ValueError("whole goes with neither warp nor cubic: blocks are copied in one way")
        if history < 1:
            raise ValueError(f"history is at least 1 frame, got {history}")
        num_tokens = grid[0] * grid[1]
        self.tokens_in = nn.Linear((1 + history) * token_dim, dim)
        self.stem = Stem(1 + history, stem_channels, patch, dim) if stem_channels else None
        self.position = nn.Parameter(0.02 * torch.randn(num_tokens + 1, dim))
        self.action = ActionEmbedding(action_kind, action_sizes, dim)
        self.sigma = LevelEmbedding(dim)
        self.step_size = LevelEmbedding(dim)
        self.context_sigma = LevelEmbedding(dim)
        self.condition = nn.Sequential(nn.SiLU(), nn.Linear(dim, dim), nn.SiLU())
        self.modulation = nn.Linear(dim, 6 * dim)
        self.blocks = nn.ModuleList(
            Block(dim, num_heads, context if i % time_every == time_every - 1 else None) for i in range(num_layers)
        )
        self.norm = nn.RMSNorm(dim, eps=1e-6)
        self.tokens_out = nn.Linear(dim, token_dim)
        self.doubt = nn.Linear(dim, token_dim)
        sizes = (dim, token_dim, (grid[0], grid[1]), patch, reach)
        if whole:
            self.motion: WholeMotion | MotionCompensation | PlainMotion = WholeMotion(*sizes)
        else:
            self.motion = MotionCompensation(*sizes) if warp else PlainMotion(*sizes, cubic)
        self._init_weights()

    @classmethod
    def of_tokens(cls, tokenizer: Tokenizer, **arguments: Any) -> Dynamics:
        """A new one of a tokenizer's tokens; arguments: the others of __init__."""
        network = cls(
            grid=list(tokenizer.grid), patch=tokenizer.patch, token_dim=tokenizer.config.token_dim, **arguments
        )
        network.motion.take_basis(tokenizer)
        return network

    def _init_weights(self) -> None:
        """Blocks begin as the identity and the output close to a copy of the previous frame."""
        nn.init.zeros_(self.modulation.weight)
        with torch.no_grad():
            self.modulation.bias.copy_(
                torch.tensor([0.0, 0, 0.1, 0, 0, 0.1]).repeat_interleave(len(self.modulation.bias) // 6)
            )
        nn.init.zeros_(self.tokens_out.weight)
        nn.init.zeros_(self.tokens_out.bias)
        nn.init.zeros_(self.doubt.weight)
        nn.init.constant_(self.doubt.bias, -2.0)

    @property
    def num_tokens(self) -> int:
        return self.config.grid[0] * self.config.grid[1]

    @property
    def cache_shape(self) -> tuple[int, ...]:
        """Of one slot: (l, 2, m, k, s, e)."""
        c = self.config
        num_time_layers = sum(block.time is not None for block in self.blocks)
        return (num_time_layers, 2, self.num_tokens + 1, c.num_heads, c.context, c.dim // c.num_heads)

    @property
    def previous_shape(self) -> tuple[int, ...]:
        """Of one slot: (p, n, d)."""
        return (1 + self.config.history, self.num_tokens, self.config.token_dim)

    @property
    def position_period(self) -> int:
        return time_rope_period(self.config.context)

    def forward(
        self, noisy: Tensor, sigma: Tensor, step_size: Tensor, previous: Tensor, context_sigma: Tensor, action: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A clip at once, under a banded causal mask.

        noisy (b, t, n, d); previous (b, t, p, n, d), as of previous_of();
        sigma, step_size, context_sigma (b, t) in [0, 1]; action (b, t, width), the one that led to the frame
        -> clean tokens (b, t, n, d), hidden (b, t, m, c)
        """
        b, t, _, _ = noisy.shape
        flat = [
            rearrange(x, "b t ... -> (b t) ...") for x in (noisy, sigma, step_size, previous, context_sigma, action)
        ]

        def attend_time(time: TimeAttention, x: Tensor) -> Tensor:
            out = time(rearrange(x, "(b t) m c -> b t m c", b=b))
            return rearrange(out, "b t m c -> (b t) m c")

        clean, hidden = self._run(attend_time, *flat)
        return rearrange(clean, "(b t) n d -> b t n d", b=b), rearrange(hidden, "(b t) m c -> b t m c", b=b)

    def denoise(
        self,
        noisy: Tensor,
        sigma: Tensor,
        step_size: Tensor,
        previous: Tensor,
        context_sigma: Tensor,
        action: Tensor,
        cache: Tensor,
        position: Tensor,
        filled: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One evaluation of one frame; reads the cache, writes nothing.

        noisy (b, n, d); previous (b, p, n, d); sigma, step_size, context_sigma (b,); action (b, width);
        cache (b, l, 2, m, k, s, e); position (b,) int64 modulo position_period; filled (b,) int64, frames in the ring
        -> clean tokens (b, n, d), hidden (b, m, c), keys and values of this frame (b, l, 2, m, k, e)
        """
        written: list[Tensor] = []

        def attend_time(time: TimeAttention, x: Tensor) -> Tensor:
            out, keys_values = time.step(x, cache[:, len(written)], position, filled)
            written.append(keys_values)
            return out

        clean, hidden = self._run(attend_time, noisy, sigma, step_size, previous, context_sigma, action)
        return clean, hidden, torch.stack(written, dim=1)

    def sample(self, noise: Tensor, nfe: int, previous: Tensor, context_sigma: Tensor, *ring: Tensor) -> Tensor:
        """A frame's clean tokens (b, n, d) in nfe Euler steps from noise (b, n, d), the rest as in denoise()."""
        x, step_size = noise, torch.full_like(context_sigma, 1 / nfe)
        for sigma in sampler.sigmas(nfe):
            level = torch.full_like(context_sigma, sigma)
            clean, _, _ = self.denoise(x, level, step_size, previous, context_sigma, *ring)
            x = sampler.euler_step(x, clean, sigma, 1 / nfe)
        return x

    def commit(
        self,
        tokens: Tensor,
        noise: Tensor,
        previous: Tensor,
        context_sigma: Tensor,
        action: Tensor,
        cache: Tensor,
        position: Tensor,
        filled: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Writes a finished frame into the ring, noised by context_sigma.

        tokens, noise (b, n, d); the rest as in denoise()
        -> cache (b, l, 2, m, k, s, e), previous of the next frame (b, p, n, d), hidden (b, m, c)
        """
        level = context_sigma[:, None, None]
        noisy = (1 - level) * tokens + level * noise
        step_size = torch.full_like(context_sigma, FINEST_STEP)
        _, hidden, keys_values = self.denoise(
            noisy, context_sigma, step_size, previous, context_sigma, action, cache, position, filled
        )
        slot = position % self.config.context
        cache = write_ring(cache, keys_values.unsqueeze(-2), slot, hidden)
        return cache, torch.stack([tokens, noisy, *previous.unbind(1)[1:-1]], dim=1), hidden

    def _run(
        self, attend_time: AttendTime, noisy, sigma, step_size, previous, context_sigma, action
    ) -> tuple[Tensor, Tensor]:
        """noisy (f, n, d); previous (f, p, n, d); levels (f,); action (f, width), f frames
        -> clean (f, n, d), hidden (f, m, c)"""
        act = self.action(action)
        condition = self.condition(
            self.sigma(sigma) + self.step_size(step_size) + self.context_sigma(context_sigma) + act
        )
        modulation = self.modulation(condition).unflatten(-1, (6, -1))
        before, *seen = previous.unbind(1)
        shown = noisy * (sigma < 1)[:, None, None] if self.config.blank else noisy
        x = self.tokens_in(torch.cat([shown, *seen], dim=-1))
        if self.stem is not None:
            x = x + self.stem(self.motion.picture(torch.stack([shown, *seen], dim=1)))
        x = torch.cat([x, act[:, None]], dim=1) + self.position
        for block in self.blocks:
            x = block(x, modulation, attend_time)
        hidden = self.norm(x)
        # the frame before, moved, is never faded out: what cannot be placed can only be smeared, so motion is learned
        expected = self.motion(hidden, before) + self.tokens_out(hidden[:, :-1])
        return kalman_update(expected, noisy, sigma, self.doubt(hidden[:, :-1]), self.config.grain), hidden


def kalman_update(expected: Tensor, noisy: Tensor, sigma: Tensor, doubt: Tensor, grain: float | None = None) -> Tensor:
    """What is expected, corrected by noisy = (1 - sigma) * clean + sigma * noise as much as it is in doubt (Kalman
    1960): a share of the noisy tokens that is the same everywhere would leave grain in what stands still. Where much is
    in doubt it would leave grain, too, which is copied on and on, so no more than the share `grain` of the noise stays.

    expected, noisy (f, n, d); sigma (f,); doubt (f, n, d), log of the variance of what is expected -> (f, n, d)
    """
    precision = (-doubt.clamp(LEAST_DOUBT, MOST_DOUBT)).exp()
    level = sigma[:, None, None]
    kept = 1 - level
    gain = kept / (kept.square() + level.square() * precision)
    if grain is not None:
        gain = gain.minimum(grain / level.clamp_min(1e-3))
    return expected + gain * (noisy - kept * expected)


def previous_of(tokens: Tensor, noised: Tensor, history: int) -> Tensor:
    """tokens of a clip, and the same noised (b, t, n, d) -> what each frame has of those before it (b, t, p, n, d): the
    tokens of the last one, then the last `history` ones noised, the latest first; zeros before the first frame"""

    def before(x: Tensor, age: int) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, age, 0))[:, : x.shape[1]]

    return torch.stack([before(tokens, 1), *(before(noised, age) for age in range(1, history + 1))], dim=2)
