"""What teaches the dynamics where things move, besides the frame that it makes of it.

Pixels that are copied sharp (motion.py) tell gradient descent where to go from a pixel or two away only, so their
displacements learn from smaller pictures, too (a pyramid, as of optical flow: Bouguet 2001). A choice among whole
pixels (whole_motion.py) has no gradient at all, and that of the copied picture would mislead: it says how a little of
another place mixed in would help, not what would be there instead. So its odds are learned by likelihood: every
displacement explains the next frame more or less well, and the odds are those of a mixture of them. Where all do alike,
or none does, nothing is learned.

Letters: f frames, b t clips and their frames, m = n + 1 tokens with the action's, c width, n d tokens, h w pixels, r s
rows and columns of blocks, i j pixels of a block, k displacements.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.nn import functional as F

from worldgen.models.dynamics import Dynamics
from worldgen.models.motion import BLOCK, MotionCompensation, cubic_sample
from worldgen.models.whole_motion import WholeMotion

LEVELS = (4, 8)  # of the pyramid
SHARE = 0.25  # of the frames that whole pixels are learned from at each step
CHANCE = 0.5  # how often one axis is learned at a place drawn by the odds of the other, not at the likeliest
SCALE = 0.1  # mean difference of a pixel's colours, in [-1, 1], that costs as much as one unit
MOST = 3.0  # units that a pixel costs at most: it may have been drawn anew
EVIDENCE = 0.25  # nats a unit: pixels of a block are right or wrong together


def motion_error(
    network: Dynamics,
    hidden: Tensor,
    before: Tensor,
    tokens: Tensor,
    is_taught: Tensor,
    generator: torch.Generator,
    is_own: bool = False,
) -> Tensor | None:
    """hidden (b, t, m, c), before and tokens (b, t, n, d), is_taught (b, t); is_own: whether `before` is what the
    network has played -> the mean over frames that are taught; None where motion learns from what it copies alone"""
    motion = network.motion
    if not motion.reach or not isinstance(motion, MotionCompensation | WholeMotion):
        return None
    has_past = is_taught & (torch.arange(is_taught.shape[1], device=tokens.device) > 0)
    if is_own and isinstance(motion, WholeMotion):
        has_past = torch.zeros_like(has_past)  # where it has gone astray, what fits best is whatever is dark or flat
    rows = has_past.flatten().nonzero()[:, 0]
    is_none = not len(rows)  # nothing to learn, but gradients all the same: other processes wait for them
    rows = rows.new_zeros(1) if is_none else rows
    if isinstance(motion, WholeMotion):
        order = torch.randperm(len(rows), generator=generator, device=tokens.device)
        rows = rows[order[: math.ceil(SHARE * len(rows))]]
    with torch.autocast(tokens.device.type, enabled=False):
        seen, last, now = (x.flatten(0, 1)[rows].float() for x in (hidden, before, tokens))
        if isinstance(motion, WholeMotion):
            errors = surprise(motion, seen, last, now, generator)
        else:
            errors = coarse_error(motion, seen, last, now)
        return errors.mean() * (0.0 if is_none else 1.0)


def coarse_error(motion: MotionCompensation, hidden: Tensor, before: Tensor, tokens: Tensor) -> Tensor:
    """How far off the picture is, LEVELS times smaller (as far as tokens are as large as that) and moved: hidden
    (f, m, c), tokens of the previous frame and of this one (f, n, d) -> mean absolute errors of pictures in
    [-1, 1] (f,)"""
    displacement, pictures = motion.displacement(hidden), motion.picture(torch.stack([before, tokens])).float()
    errors = []
    for level in (level for level in LEVELS if level <= motion.patch):
        across, down = F.avg_pool2d(displacement, level) / level
        last, now = (F.avg_pool2d(x, level) for x in pictures)
        moved = cubic_sample(cubic_sample(last, across, dim=-1), down, dim=-2)
        errors.append((moved - now).abs().mean((1, 2, 3)))
    return torch.stack(errors).mean(0)


def surprise(motion: WholeMotion, hidden: Tensor, before: Tensor, tokens: Tensor, generator: torch.Generator) -> Tensor:
    """How little is known of where blocks come from: hidden (f, m, c), tokens of the previous frame and of this one
    (f, n, d) -> negative log likelihoods (f,) of a mixture of all displacements on one axis, the other one given"""
    odds = motion.log_odds(hidden).log_softmax(-1)
    last, now = motion.picture(torch.stack([before, tokens]))
    with torch.no_grad():
        uniform = torch.rand(odds.shape, generator=generator, device=odds.device).clamp_min(1e-20)
        drawn = (odds - (-uniform.log()).log()).argmax(-1)  # as probable as it is (Gumbel), and no error where NaN
        is_drawn = torch.rand(odds.shape[:2], generator=generator, device=odds.device) < CHANCE
        across, down = torch.where(is_drawn[..., None, None], drawn, odds.argmax(-1)) - motion.reach
        along_rows = costs(last, now, down, motion.reach)
        # down is the same with rows and columns exchanged
        along_columns = costs(last.mT, now.mT, across.mT, motion.reach).transpose(1, 2)
    return -torch.logsumexp(odds - torch.stack([along_rows, along_columns]), dim=-1).mean((0, 2, 3))


def costs(before: Tensor, now: Tensor, down: Tensor, reach: int) -> Tensor:
    """before, now (f, 3, h, w); down (f, r, s): how many pixels below blocks come from -> nats that each displacement
    across costs (f, r, s, k)"""
    height, width = before.shape[-2:]
    device, num_displacements = before.device, 2 * reach + 1
    tops, lefts = (torch.arange(0, size, BLOCK, device=device) for size in (height, width))
    y = tops[:, None, None] + torch.arange(BLOCK, device=device) + down[..., None]  # (f, r, s, i)
    x = lefts[:, None] + torch.arange(-reach, BLOCK + reach, device=device)  # (s, window)
    places = y.clamp(0, height - 1)[..., None] * width + x.clamp(0, width - 1)[:, None]  # (f, r, s, i, window)
    index = repeat(places.flatten(1), "f l -> f l 3")
    seen = rearrange(before, "f c h w -> f (h w) c").gather(1, index).unflatten(1, places.shape[1:])
    wanted = rearrange(now, "f c (r i) (s j) -> f r s i j c", i=BLOCK, j=BLOCK)
    total = before.new_zeros(*down.shape, num_displacements)
    for j in range(BLOCK):
        off = (seen[..., j : j + num_displacements, :] - wanted[..., j : j + 1, :]).abs().mean(-1)
        total += (off / SCALE).clamp(max=MOST).sum(-2)
    return EVIDENCE * total
