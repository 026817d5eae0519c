"""A critic for clips: the dynamics learns to make frames that pass for recorded ones, not their mean.

    worldgen train recordings/ --out worlds/mine --from worlds/good --stages dynamics --sharpen 0.5

Squared errors ask for the mean of what may follow: what cannot be foretold is blurred, and what is played on and on
settles on what is least wrong. The critic looks at a frame behind those before it and learns to tell generated from
recorded ones, each against the recorded frame in its place (relativistic pairing with a gradient penalty, Huang et al.
2024, arXiv:2501.05441, on patches, Isola et al. 2017). Where the past is the network's own, all frames that it looks at
are (adversarial training on self-rollouts: Lin et al. 2025, arXiv:2506.09350).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from worldgen.training.critic import Criticised
from worldgen.training.dynamics import DynamicsStage, Made

FRAMES = 4  # that it looks at, the last of which it judges
WINDOWS = 48  # of a batch, at most
CHANNELS = (64, 96, 128)
PENALTY, PENALTY_NOISE = 0.03, 0.1  # of the slope of its scores, measured by noise on pictures in [-1, 1]
REFERENCE_DECAY = 0.95


class ClipCritic(nn.Module):
    """Scores patches of the last of FRAMES frames, high for recorded ones.

    reference: running mean of how strongly the network's own loss pulls at its frames where the past is recorded.
    """

    rate = 4.0  # times the network's learning rate: it must not fall behind (Heusel et al. 2017)
    reference: Tensor

    def __init__(self, channels: tuple[int, ...] = CHANNELS):
        super().__init__()
        widths = (3 * FRAMES, *channels)
        layers = [nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in zip(widths[:-1], widths[1:], strict=True)]
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, a=0.2)
        self.layers = nn.ModuleList(layers)
        self.score = nn.Conv2d(channels[-1], 1, 3, padding=1)
        self.register_buffer("reference", torch.zeros(()))

    def forward(self, windows: Tensor) -> Tensor:
        """windows (k, 3 * FRAMES, h, w) in [-1, 1] -> scores (k, 1, h / 8, w / 8), float32"""
        x = windows
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
        return self.score(x).float()


def windows_of(pictures: Tensor, clip: Tensor, frame: Tensor) -> Tensor:
    """pictures (b, t, 3, h, w); clip, frame (k,): where the last frame of each is -> (k, 3 * FRAMES, h, w)"""
    frames = frame[:, None] + torch.arange(1 - FRAMES, 1, device=frame.device)
    return rearrange(pictures[clip[:, None], frames], "k f c h w -> k (f c) h w")


def clip_critic_loss(
    critic: ClipCritic, made: Tensor, real: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Of the critic alone: made and real (k, 3 * FRAMES, h, w), pairs -> its loss, the share of pairs it tells apart"""
    both = torch.cat([made.detach(), real])
    scores = critic(both)
    noise = PENALTY_NOISE * torch.randn(both.shape, generator=generator, device=both.device)
    slope = (critic(both + noise) - scores).square().mean() / PENALTY_NOISE**2
    less, more = scores.chunk(2)
    right = (less.mean((1, 2, 3)) < more.mean((1, 2, 3))).float().mean()
    return F.softplus(less - more).mean() + PENALTY * slope, right.detach()


def realism_loss(critic: ClipCritic, made: Tensor, real: Tensor) -> Tensor:
    """Of what made the windows, the critic stands still"""
    still = {name: p.detach() for name, p in critic.named_parameters()}
    less, more = functional_call(critic, still, (torch.cat([made, real]),)).chunk(2)
    return F.softplus(more - less).mean()


class ClipCriticStage:
    """The dynamics with a critic, from where the network learns from its own past on.

    weight: how strongly the critic pulls at the frames that are made, against the stage's own loss; less where it
    cannot tell them from recorded ones. On its own past, which has left the recording, neither pulls more strongly than
    the own loss does on recorded ones.
    """

    name = "dynamics"

    def __init__(self, stage: DynamicsStage, weight: float):
        self.network = Criticised(stage.network, ClipCritic())
        self._stage, self._weight = stage, weight

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        return self._stage.batch(rng)

    def loss(self, network, batch, generator, progress) -> tuple[Tensor, dict[str, Tensor]]:
        own, figures, made = self._stage.make(network.network, batch, generator, progress)
        if progress < self._stage.recipe.own_past_from:
            return own, figures
        pair = _windows(network.network, made, self._stage.recorded(batch), generator)
        if pair is None:
            return own, figures
        critic = network.critic
        judged, right = clip_critic_loss(critic, *pair, generator)
        adversarial = realism_loss(critic, *pair)
        own_pull, pull = (torch.autograd.grad(x, made.clean, retain_graph=True)[0].float() for x in (own, adversarial))
        strength = own_pull.norm()
        if not made.is_own:
            decay = REFERENCE_DECAY if critic.reference > 0 else 0.0
            critic.reference.lerp_(strength, 1 - decay)
        share = (critic.reference / strength).clamp(max=1) if made.is_own and critic.reference > 0 else 1.0
        certainty = (2 * right - 1).clamp_min(0)
        pull = pull * (self._weight * certainty * strength / pull.norm().clamp_min(1e-12))
        # what pulls at the frames with this strength: only its gradient counts
        towards = (made.clean.float() * pull).sum()
        past = "own" if made.is_own else "recorded"
        figures |= {f"told_apart_{past}": right, f"critic_{past}": judged.detach()}
        return share * (own + towards - towards.detach()) + judged, figures

    def validate(self, network) -> tuple[dict[str, float], np.ndarray | None]:
        return self._stage.validate(network.network)

    def finish(self, network) -> None:
        self._stage.finish(network.network)

    def compile(self) -> None:
        self._stage.compile()


def _windows(network: Any, made: Made, recorded: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor] | None:
    """recorded (b, t, n, d) -> frames that were made and the recorded ones in their place, each behind those before it
    (k, 3 * FRAMES, h, w); None where there are none"""
    at = made.is_pure[:, FRAMES - 1 :].nonzero()
    if not len(at):
        return None
    at = at[torch.randperm(len(at), generator=generator, device=at.device)[:WINDOWS]]
    clip, frame = at[:, 0], at[:, 1] + FRAMES - 1
    with torch.no_grad():
        real, past = windows_of(network.motion.picture(recorded), clip, frame), network.motion.picture(made.past)
    shown = network.motion.picture(made.clean.float())
    if made.is_own:
        return windows_of(torch.where(made.is_pure[..., None, None, None], shown, past), clip, frame), real
    return torch.cat([windows_of(past, clip, frame)[:, :-3], shown[clip, frame]], dim=1), real
