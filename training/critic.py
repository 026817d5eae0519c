"""A critic for pictures: adversarial and perceptual losses that any stage which makes pictures can be given.

worldgen train recordings/ --out worlds/mine --stages tokenizer super_resolution --sharpen 0.1

What is least wrong on average is blurred. The critic learns to tell made pictures from recorded ones (hinge loss, Lim
and Ye 2017, on patches, Isola et al. 2017); the network learns to pass for recorded, and to look alike in what the
critic sees (feature matching, Wang et al. 2018), which is perceptual without any network to download. Sharper, and a
little further from the recordings pixel by pixel: off unless asked for.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

CHANNELS = (32, 64, 96)
LEARNING = 0.1  # of the critic's own loss


class Critic(nn.Module):
    """Scores patches of pictures, high for recorded ones."""

    def __init__(self, channels: tuple[int, ...] = CHANNELS):
        super().__init__()
        widths = (3, *channels)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in zip(widths[:-1], widths[1:], strict=True)
        )
        self.score = nn.Conv2d(channels[-1], 1, 3, padding=1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        """pictures (n, 3, h, w) in [-1, 1] -> scores (n, 1, h / 8, w / 8), and what each layer saw"""
        x, seen = pictures, []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            seen.append(x)
        return self.score(x), seen


def critic_loss(critic: Critic, made: Tensor, real: Tensor) -> Tensor:
    """Of the critic alone: made and real (n, 3, h, w) -> hinge loss"""
    return F.relu(1 - critic(real)[0]).mean() + F.relu(1 + critic(made.detach())[0]).mean()


def sharpness_loss(critic: Critic, made: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Of what made the pictures, the critic stands still: (n, 3, h, w) each -> adversarial, perceptual"""
    still = {name: p.detach() for name, p in critic.named_parameters()}
    score, seen = functional_call(critic, still, (made,))
    with torch.no_grad():
        wanted = critic(real)[1]
    perceptual = sum((a - b).abs().mean() / (b.abs().mean() + 1e-3) for a, b in zip(seen, wanted, strict=True))
    return -score.mean(), perceptual / len(wanted)


class PictureStage(Protocol):
    """A stage that makes pictures: compare() is its loss(), and gives the pictures and the recorded ones too."""

    name: str
    network: Any

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]: ...
    def compare(
        self, network: nn.Module, batch: dict[str, Tensor], generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]: ...
    def validate(self, network: nn.Module) -> tuple[dict[str, float], np.ndarray | None]: ...
    def finish(self, network: nn.Module) -> None: ...


class Criticised(nn.Module):
    """A network and its critic, trained and kept in checkpoints together; only the network is saved for others."""

    def __init__(self, network: Any):
        super().__init__()
        self.network = network
        self.critic = Critic()

    def save_pretrained(self, *args: Any, **options: Any) -> None:
        self.network.save_pretrained(*args, **options)


class CriticStage:
    """A stage with the critic's losses added. weight: of each, as a share of the stage's own loss."""

    def __init__(self, stage: PictureStage, weight: float):
        self.name = stage.name
        self.network = Criticised(stage.network)
        self._stage, self._weight = stage, weight

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        return self._stage.batch(rng)

    def loss(self, network, batch, generator, progress) -> tuple[Tensor, dict[str, Tensor]]:
        own, parts, made, real = self._stage.compare(network.network, batch, generator)
        adversarial, perceptual = sharpness_loss(network.critic, made, real)
        critic = critic_loss(network.critic, made, real)
        parts = parts | {"own_loss": own.detach(), "perceptual": perceptual.detach(), "critic": critic.detach()}
        share = self._weight * own.detach()
        return own + share * (adversarial + perceptual) + LEARNING * critic, parts

    def validate(self, network) -> tuple[dict[str, float], np.ndarray | None]:
        return self._stage.validate(network.network)

    def finish(self, network) -> None:
        self._stage.finish(network.network)
