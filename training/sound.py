"""Trains the sound head on the frozen dynamics' hidden states: which sound belongs to each frame. Half of them are of
recorded frames, half of frames as the dynamics plays them.

worldgen train recordings/ --out worlds/mine --stages sound_codec sound --steps 500

Silence is most of many games: how loud a frame is decides how much its latent counts, and half of the clips are chosen
because sounds begin in them. The latent of the frame before is the true one, noised and sometimes missing, so that in
play the head can go on from its own. The threshold at which a sound begins is set at the end, on held-out clips.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from worldgen.actions import ActionMap
from worldgen.data.dataset import ClipSampler
from worldgen.models.sound import NUM_PLACES, SoundHead
from worldgen.models.sound_codec import SoundCodec
from worldgen.training.hidden_states import HiddenStates, every_second
from worldgen.training.recorded_sound import RecordedSound
from worldgen.training.rollout import led_to
from worldgen.training.sound_onsets import PlayedClips, balance, onset_f1, recorded_onset_places

PREVIOUS_NOISE = 0.3  # standard deviation on the latent of the frame before, at most
PREVIOUS_MISSING = 0.1
DRAWS = 4  # of noise for each frame: the flow is small, reading the frame is not
LOUDEST = 4.0  # how much more than an average one a frame can count


def sound_loss(
    network: SoundHead, batch: dict[str, Tensor], generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor]:
    """batch: of SoundStage.batch -> flow matching loss (x-prediction), cross-entropy of silence, and of onsets"""
    latents, told, is_sounding = batch["latents"], batch["told"], batch["is_sounding"]
    b, t, d = latents.shape

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=latents.device)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=latents.device)

    before = batch["before"]
    known = (before[..., :d] + PREVIOUS_NOISE * uniform(b, 1, 1) * normal(b, t, d)) * before[..., :d].any(-1, True)
    known = torch.cat([known, before[..., d:]], dim=-1) * (uniform(b, t, 1) > PREVIOUS_MISSING)
    context = network.context(batch["hidden"], batch["actions"], known)
    onset = onset_loss(*network.onset_logits(context), told)
    informed = context + network.told_in(told)
    silence = F.binary_cross_entropy_with_logits(network.sounding_logit(informed).float(), is_sounding.float())
    sigma = uniform(DRAWS, b, t)
    noisy = (1 - sigma)[..., None] * latents + sigma[..., None] * normal(DRAWS, b, t, d)
    clean = network.clean(noisy, sigma, informed.expand(DRAWS, -1, -1, -1))
    error = (clean.float() - latents).square().mean(-1) * (1 - 0.9 * sigma)  # the ramp of Dreamer 4
    weights = (batch["weight"] * is_sounding).expand(DRAWS, -1, -1)
    return (error * weights).sum() / weights.sum().clamp_min(1e-6), silence, onset


def onset_loss(logit: Tensor, places: Tensor, told: Tensor) -> Tensor:
    """logit (b, t) of a sound that begins, places (b, t, f), told (b, t, f): 1 where one begins -> cross-entropy"""
    begins = told.amax(-1)
    place = F.cross_entropy(places.float().flatten(0, 1), told.argmax(-1).flatten(), reduction="none")
    entropy = F.binary_cross_entropy_with_logits(logit.float(), begins)
    return entropy + (place * begins.flatten()).mean()


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
        self._places = np.full(len(self._is_silent), -1, np.float32)
        loudness = np.zeros(len(self._is_silent), np.float32)
        for hidden, _ in (train, validation):
            self._places = np.maximum(self._places, recorded_onset_places(sound, hidden.segments))
            for start, stop in hidden.segments:
                waves = sound.rows(np.arange(start, stop))
                loudness[start:stop] = np.sqrt(np.square(waves).mean((1, 2)))
                self._latents[start:stop] = self._encode(waves)
        loud = loudness[loudness > 0]
        self._latents[self._is_silent] = 0
        self._weight = 0.25 + np.minimum(LOUDEST, loudness / (loud.mean() if len(loud) else 1.0))
        self._clips = PlayedClips(*train, self._places >= 0)

    @torch.inference_mode()
    def _encode(self, waves: np.ndarray) -> np.ndarray:
        """(t, s, x) -> (t, d)"""
        return self._codec.encode(torch.from_numpy(waves)[None])[0].numpy()

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        hidden, sampler = self._train
        return self._gather(hidden, self._clips.draw(rng, self._batch), sampler.length, every_second(self._batch))

    def _gather(
        self, hidden: HiddenStates, starts: np.ndarray, length: int, is_played: np.ndarray
    ) -> dict[str, Tensor]:
        rows = starts[:, None] + np.arange(length)
        is_first = np.isin(rows, hidden.segments.starts)[..., None]  # silence came before
        before = np.concatenate([self._latents[rows - 1], told(self._places[rows - 1])], axis=-1) * ~is_first
        return {
            "hidden": torch.from_numpy(hidden.at(rows, is_played)),
            "actions": torch.from_numpy(led_to(self._action_map, self._actions[rows])),
            "latents": torch.from_numpy(self._latents[rows]),
            "before": torch.from_numpy(before),
            "told": torch.from_numpy(told(self._places[rows])),
            "is_sounding": torch.from_numpy(~self._is_silent[rows]),
            "weight": torch.from_numpy(self._weight[rows].astype(np.float32)),
        }

    def loss(self, network, batch, generator, progress) -> tuple[Tensor, dict[str, Tensor]]:
        inner = network.module if hasattr(network, "module") else network
        flow, silence, onset = sound_loss(inner, batch, generator)
        parts = {"flow_error": flow.detach(), "silence_error": silence.detach(), "onset_error": onset.detach()}
        return flow + silence + 2 * onset, parts

    @torch.no_grad()
    def validate(self, network) -> tuple[dict[str, float], None]:
        """Half of recorded, half of played frames: latent_error, of a frame's latent, drawn under the true past, over
        that of silence, and silence_accuracy. Of played frames, going on from the head's own past: onset_f1, within a
        frame, and onsets; recorded_onset_f1: of recorded ones."""
        hidden, sampler = self._validation
        error = power = right = count = 0.0
        generator = torch.Generator(network.device).manual_seed(0)
        for starts in np.array_split(hidden.in_one_play(sampler).even_starts(32), 4):
            if not len(starts):
                continue
            given = self._gather(hidden, starts, sampler.length, every_second(len(starts)))
            batch = {k: v.to(network.device) for k, v in given.items()}
            latents, is_sounding = batch["latents"], batch["is_sounding"]
            context = network.context(batch["hidden"], batch["actions"], batch["before"])
            informed = context + network.told_in(batch["told"])
            noise = torch.randn((*latents.shape[:2], network.noise_dim), generator=generator, device=network.device)
            made = network.sample(informed, noise)
            weight = batch["weight"][..., None] * is_sounding[..., None]
            error += float(((made - latents).square() * weight).sum())
            power += float((latents.square() * weight).sum())
            right += float(((network.sounding_logit(informed) > 0) == is_sounding).sum())
            count += is_sounding.numel()
        f1, made_onsets, real_onsets = onset_f1(*self._onsets(network))
        recorded_f1, _, _ = onset_f1(*self._onsets(network, is_played=False))
        figures = {"latent_error": error / max(power, 1e-9), "silence_accuracy": right / max(count, 1)}
        figures |= {"onset_f1": f1, "recorded_onset_f1": recorded_f1}
        return figures | {"made_onsets": made_onsets, "real_onsets": real_onsets}, None

    @torch.no_grad()
    def _onsets(self, network, is_played: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """What the head lets begin in held-out clips, going on from its own past, and what begins: (b, t) bool each"""
        hidden, sampler = self._validation
        starts = hidden.in_one_play(sampler).even_starts(48)
        batch = self._gather(hidden, starts, sampler.length, np.full(len(starts), is_played))
        b, t = batch["is_sounding"].shape
        generator = torch.Generator(network.device).manual_seed(0)
        memory, urge = torch.zeros(b, network.config.dim), torch.zeros(b, 1)
        state = torch.cat([memory, batch["before"][:, 0], urge], dim=-1).to(network.device)
        made = []
        for i in range(t):
            noise = torch.randn(b, network.noise_dim, generator=generator, device=network.device)
            inputs = (batch[k][:, i].to(network.device) for k in ("hidden", "actions"))
            _, state = network.step(*inputs, noise, state)
            made.append(state[:, -1 - NUM_PLACES : -1].amax(-1) > 0)
        return torch.stack(made, 1).cpu().numpy(), batch["told"].bool().any(-1).numpy()

    def finish(self, network) -> None:
        """Sets the threshold."""
        balance(network, self._onsets)


def told(places: np.ndarray) -> np.ndarray:
    """places (...,) in [0, 1), -1 for none -> (..., f) float32: 1 where a sound begins"""
    return (np.floor(places[..., None] * NUM_PLACES) == np.arange(NUM_PLACES)).astype(np.float32)
