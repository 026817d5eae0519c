"""Trains the sound head on the frozen dynamics' hidden states: which sound belongs to each frame.

worldgen train recordings/ --out worlds/mine --stages sound_codec sound --steps 500

Silence is most of many games: how loud a frame is decides how much its latent counts, and half of the clips are chosen
because sounds begin in them. The latent of the frame before is the true one, noised and sometimes missing, so that in
play the head can go on from its own.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from worldgen.actions import ActionMap
from worldgen.data.dataset import ClipSampler
from worldgen.models.sound import SoundHead
from worldgen.models.sound_codec import SoundCodec
from worldgen.training.hidden_states import HiddenStates
from worldgen.training.recorded_sound import RecordedSound
from worldgen.training.rollout import led_to

EVENT_SHARE = 0.5  # of a batch's clips begin just before a sound does
PREVIOUS_NOISE = 0.3  # standard deviation on the latent of the frame before
PREVIOUS_MISSING = 0.15
DRAWS = 4  # of noise for each frame: the flow is small, reading the frame is not
LOUDEST = 4.0  # how much more than an average one a frame can count


def sound_loss(
    network: SoundHead,
    condition: Tensor,
    latents: Tensor,
    is_sounding: Tensor,
    weight: Tensor,
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor]:
    """condition (b, t, e), latents (b, t, d), is_sounding (b, t) bool, weight (b, t) of the latents' errors
    -> flow matching loss (x-prediction), cross-entropy of silence"""

    def normal(shape) -> Tensor:
        return torch.randn(shape, generator=generator, device=latents.device)

    def uniform(shape) -> Tensor:
        return torch.rand(shape, generator=generator, device=latents.device)

    b, t, d = latents.shape
    known = (latents + PREVIOUS_NOISE * normal(latents.shape)) * is_sounding[..., None]
    known = known * (uniform((b, t, 1)) > PREVIOUS_MISSING)
    previous = torch.cat([torch.zeros_like(known[:, :1]), known[:, :-1]], dim=1)
    context = network.context(condition, previous)
    silence = F.binary_cross_entropy_with_logits(network.sounding_logit(context).float(), is_sounding.float())
    sigma = uniform((DRAWS, b, t))
    noisy = (1 - sigma)[..., None] * latents + sigma[..., None] * normal((DRAWS, b, t, d))
    clean = network.clean(noisy, sigma, context.expand(DRAWS, -1, -1, -1))
    error = (clean.float() - latents).square().mean(-1) * (1 - 0.9 * sigma)  # the ramp of Dreamer 4
    weights = (weight * is_sounding).expand(DRAWS, -1, -1)
    return (error * weights).sum() / weights.sum().clamp_min(1e-6), silence


class SoundStage:
    name = "sound"

    def __init__(
        self,
        network: SoundHead,
        codec: SoundCodec,
        action_map: ActionMap,
        actions: np.ndarray,
        sound: RecordedSound,
        train: tuple[HiddenStates, ClipSampler],
        validation: tuple[HiddenStates, ClipSampler],
        batch: int,
    ):
        """actions (N, width), row i chosen on frame i. train, validation: hidden states, and a sampler of the same
        segments."""
        self.network = network
        self._action_map, self._actions, self._batch = action_map, actions, batch
        self._train, self._validation = train, validation
        self._codec = codec.eval().requires_grad_(False)
        self._is_silent = sound.is_silent()
        self._latents = np.zeros((len(self._is_silent), codec.config.latent_dim), np.float32)
        loudness = np.zeros(len(self._is_silent), np.float32)
        for hidden, _ in (train, validation):
            for start, stop in hidden.segments:
                waves = sound.rows(np.arange(start, stop))
                loudness[start:stop] = np.sqrt(np.square(waves).mean((1, 2)))
                self._latents[start:stop] = self._encode(waves)
        loud = loudness[loudness > 0]
        self._weight = 0.25 + np.minimum(LOUDEST, loudness / (loud.mean() if len(loud) else 1.0))
        starts = train[1].all_starts()
        begins = np.flatnonzero(loudness[1:] > 2 * loudness[:-1] + 0.01) + 1
        self._event_starts = np.intersect1d(starts, begins[begins > 4] - 4)

    @torch.inference_mode()
    def _encode(self, waves: np.ndarray) -> np.ndarray:
        """(t, s, x) -> (t, d)"""
        return self._codec.encode(torch.from_numpy(waves)[None])[0].numpy()

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        hidden, sampler = self._train
        starts = sampler.draw(rng, self._batch)
        num_events = int(EVENT_SHARE * self._batch) if len(self._event_starts) else 0
        starts[:num_events] = rng.choice(self._event_starts, num_events) if num_events else []
        return self._gather(hidden, starts, sampler.length)

    def _gather(self, hidden: HiddenStates, starts: np.ndarray, length: int) -> dict[str, Tensor]:
        rows = starts[:, None] + np.arange(length)
        return {
            "hidden": torch.from_numpy(hidden.at(rows)),
            "actions": torch.from_numpy(led_to(self._action_map, self._actions[rows])),
            "latents": torch.from_numpy(self._latents[rows]),
            "is_sounding": torch.from_numpy(~self._is_silent[rows]),
            "weight": torch.from_numpy(self._weight[rows].astype(np.float32)),
        }

    def loss(self, network, batch, generator, progress) -> tuple[Tensor, dict[str, Tensor]]:
        inner = network.module if hasattr(network, "module") else network
        condition = inner.condition(batch["hidden"], batch["actions"])
        flow, silence = sound_loss(inner, condition, batch["latents"], batch["is_sounding"], batch["weight"], generator)
        return flow + silence, {"flow_error": flow.detach(), "silence_error": silence.detach()}

    @torch.no_grad()
    def validate(self, network) -> tuple[dict[str, float], None]:
        """latent_error: of a frame's latent, drawn under the true past, over that of silence."""
        hidden, sampler = self._validation
        error = power = right = count = 0.0
        generator = torch.Generator(network.device).manual_seed(0)
        for starts in np.array_split(sampler.even_starts(32), 4):
            if not len(starts):
                continue
            batch = {k: v.to(network.device) for k, v in self._gather(hidden, starts, sampler.length).items()}
            latents, is_sounding = batch["latents"], batch["is_sounding"]
            previous = F.pad(latents * is_sounding[..., None], (0, 0, 1, 0))[:, :-1]
            context = network.context(network.condition(batch["hidden"], batch["actions"]), previous)
            noise = torch.randn((*latents.shape[:2], latents.shape[2] + 1), generator=generator, device=network.device)
            made = network.sample(context, noise)
            weight = batch["weight"][..., None] * is_sounding[..., None]
            error += float(((made - latents).square() * weight).sum())
            power += float((latents.square() * weight).sum())
            right += float(((network.sounding_logit(context) > 0) == is_sounding).sum())
            count += is_sounding.numel()
        return {"latent_error": error / max(power, 1e-9), "silence_accuracy": right / max(count, 1)}, None

    def finish(self, network) -> None:
        pass
