"""Trains the sound codec: the samples of a frame -> a latent -> the same samples.

worldgen train recordings/ --out worlds/mine --stages sound_codec --steps 500
"""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from worldgen.data.dataset import ClipSampler
from worldgen.models.sound_codec import SoundCodec
from worldgen.training.recorded_sound import RecordedSound

FFT_SIZES = (128, 512, 2048)
NOISE = 0.05  # standard deviation added to the latents: those that the head generates are never exact
EVENT_SHARE = 0.75  # of a batch's clips are chosen by loudness, as most of many games is silence
FLOOR = 1e-3  # of spectral magnitudes, where hearing ends


def stft_magnitudes(sound: Tensor, size: int) -> Tensor:
    """sound (b, samples) -> (b, size / 2 + 1, windows), of a sine of amplitude 1 about 1"""
    window = torch.hann_window(size, device=sound.device)
    spectrum = torch.stft(
        sound, size, hop_length=size // 4, window=window, return_complex=True, center=True, pad_mode="constant"
    )
    return spectrum.abs() * (2 / window.sum())


def spectral_loss(made: Tensor, real: Tensor) -> Tensor:
    """Multi-resolution STFT loss (Yamamoto et al. 2020): (b, samples) each -> logarithmic magnitudes and magnitudes"""
    total = torch.zeros((), device=made.device)
    for size in FFT_SIZES:
        a, b = stft_magnitudes(made, size), stft_magnitudes(real, size)
        total = total + ((a + FLOOR).log() - (b + FLOOR).log()).abs().mean()
        total = total + (a - b).abs().sum((1, 2)).div(b.sum((1, 2)) + FLOOR * b[0].numel()).mean()
    return total / len(FFT_SIZES)


def codec_loss(network: SoundCodec, sound: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """sound (b, t, s, x), noise (b, t, d) -> the error of the waveform over its power, and of spectra"""
    made = rearrange(network(sound, noise).float(), "b t s x -> (b x) (t s)")
    real = rearrange(delayed(sound, network), "b t s x -> (b x) (t s)")
    power = real.square().mean() + 1e-6
    return F.mse_loss(made, real) / power, spectral_loss(made, real)


def delayed(sound: Tensor, network) -> Tensor:
    """What the codec should give: sound (b, t, s, x) `overlap` samples later, silence before"""
    inner = network.module if hasattr(network, "module") else network
    b, t = sound.shape[:2]
    line = rearrange(sound, "b t s x -> b (t s) x")
    return rearrange(F.pad(line, (0, 0, inner.overlap, 0))[:, : line.shape[1]], "b (t s) x -> b t s x", t=t)


class SoundCodecStage:
    name = "sound_codec"

    def __init__(
        self, network: SoundCodec, sound: RecordedSound, train: ClipSampler, validation: ClipSampler, batch: int
    ):
        self.network = network
        self._sound, self._train, self._batch = sound, train, batch
        starts = train.all_starts()
        energy = np.where(sound.is_silent(), 0.0, 1.0)
        total = np.concatenate([[0.0], np.cumsum(energy)])
        events = total[starts + train.length] - total[starts]
        self._event_starts = starts[events >= max(1.0, np.median(events))]
        self._held_out = self._clips(validation.even_starts(32), validation.length)
        self._statistics = self._clips(self._draw(np.random.default_rng(0), 64), train.length)
        if network.sound_std == 1:  # a fresh one
            network.fit_scale(self._statistics)

    def _draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        starts = self._train.draw(rng, count)
        num_events = int(EVENT_SHARE * count) if len(self._event_starts) else 0
        starts[:num_events] = rng.choice(self._event_starts, num_events) if num_events else []
        return starts

    def _clips(self, starts: np.ndarray, length: int) -> Tensor:
        return torch.from_numpy(self._sound.rows(starts[:, None] + np.arange(length)))

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        return {"sound": self._clips(self._draw(rng, self._batch), self._train.length)}

    def loss(self, network, batch, generator, progress) -> tuple[Tensor, dict[str, Tensor]]:
        sound = batch["sound"]
        shape = (*sound.shape[:2], self.network.config.latent_dim)
        noise = NOISE * torch.randn(shape, generator=generator, device=sound.device)
        wave, spectrum = codec_loss(network, sound, noise)
        return wave + spectrum, {"wave_error": wave.detach(), "spectral_error": spectrum.detach()}

    @torch.no_grad()
    def validate(self, network) -> tuple[dict[str, float], None]:
        sound = self._held_out.to(network.device)
        latents = network.encode(sound)
        wave, spectrum = codec_loss(network, sound, torch.zeros_like(latents))
        silence = spectral_loss(
            torch.zeros_like(delayed(sound, network)).flatten(1), delayed(sound, network).flatten(1)
        )
        return {"wave_error": float(wave), "spectral_error": float(spectrum), "of_silence": float(silence)}, None

    @torch.no_grad()
    def finish(self, network) -> None:
        """Standardises the latents of frames that are not silent."""
        latents = network.encode(self._statistics.to(network.device))
        loud = self._statistics.abs().amax((-2, -1)) > 1e-3
        if loud.any():
            network.standardise(latents[loud.to(latents.device)])
