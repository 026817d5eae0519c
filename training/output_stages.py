"""The stages of super-resolution, in-between frames and sound, made ready for a run: their data, and networks that fit
it."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from worldgen.bundle import load_network
from worldgen.data.dataset import ClipSampler, Segments
from worldgen.models.between import Between
from worldgen.models.conditioning import action_arguments
from worldgen.models.dynamics import Dynamics
from worldgen.models.sound import SoundHead
from worldgen.models.sound_codec import SoundCodec
from worldgen.models.sound_events import SoundEvents
from worldgen.models.super_resolution import SuperResolution
from worldgen.models.tokenizer import Tokenizer
from worldgen.training.between import BetweenStage
from worldgen.training.fit import Fit
from worldgen.training.hidden_states import HiddenStates, hidden_states
from worldgen.training.native_frames import best_scale, native_clips
from worldgen.training.palette import find_palette
from worldgen.training.recorded_sound import RecordedSound, SoundFormat, choose_format, recorded_sound
from worldgen.training.rollout import led_to
from worldgen.training.sound import SoundStage
from worldgen.training.sound_codec import SoundCodecStage
from worldgen.training.sound_events import SoundEventsStage
from worldgen.training.sound_files import replace_with
from worldgen.training.sound_library import build_library
from worldgen.training.sound_music import find_music
from worldgen.training.super_resolution import SuperResolutionStage

if TYPE_CHECKING:
    from worldgen.training.run import Run

NATIVE_CLIPS, NATIVE_HELD_OUT = 2000, 64  # that super-resolution learns from and is validated on
HIDDEN_FRAMES, HIDDEN_HELD_OUT = 18_000, 2400  # of the sound heads

KnownFrames = tuple[HiddenStates, ClipSampler]


def super_resolution_stage(run: Run, fit: Fit, tokenizer: Tokenizer, tokens: np.ndarray) -> SuperResolutionStage:
    """With --from the other world's palette stays."""
    cache, data = run.cache, run.recipe.data
    scale = best_scale(cache)
    kept = run.recipe.out / "training" / "super_resolution"
    train = native_clips(cache, data, run.train, scale, NATIVE_CLIPS, fit.length, kept, run.say)
    validation = native_clips(cache, data, run.validation, scale, NATIVE_HELD_OUT, fit.length, say=lambda text: None)
    known = run.source_config("super_resolution")
    palette = find_palette(train.frames) if known is None else known["palette"]
    if palette is not None:
        run.say(f"  the game has {len(palette)} colours: super-resolution chooses among them")
    network = run.fresh(SuperResolution, scale=scale, palette=palette, **run.preset.super_resolution)
    network = run.begin(network, "super_resolution", network.load_folded)
    return SuperResolutionStage(network, tokenizer, cache, tokens, train, validation, fit.batch)


def between_stage(run: Run, fit: Fit, tokenizer: Tokenizer, tokens: np.ndarray) -> BetweenStage:
    network = run.begin(run.fresh(Between, **run.preset.between), "between")
    train, validation = (run.sampler(segments, fit.length) for segments in (run.train, run.validation))
    return BetweenStage(network, tokenizer, tokens, train, validation, fit.batch)


def sound_codec_stage(run: Run, fit: Fit) -> SoundCodecStage:
    """With --from the other world's codec decides the format."""
    known = run.source_config("sound_codec")
    sound_format = choose_format(run.cache, run.recipe.data) if known is None else SoundFormat.of(known)
    sound = _recorded_sound(run, sound_format)
    network = run.fresh(SoundCodec, **{**(known or run.preset.sound_codec), **asdict(sound_format)})
    train, validation = (run.sampler(sound.segments(run.cache, s), fit.length) for s in (run.train, run.validation))
    return SoundCodecStage(run.begin(network, "sound_codec"), sound, train, validation, fit.batch)


def sound_stage(run: Run, fit: Fit, tokens: np.ndarray, device: str) -> SoundStage:
    codec = load_network(run.recipe.out, "sound_codec")
    sound = _recorded_sound(run, SoundFormat.of(codec.config))
    dynamics, known = _hidden(run, fit, tokens, sound, device)
    network = run.fresh(
        SoundHead,
        hidden_dim=dynamics.config.dim,
        latent_dim=codec.config.latent_dim,
        **action_arguments(run.action_map()),
        **run.preset.sound,
    )
    network = run.begin(network, "sound")
    return SoundStage(network, codec, run.action_map(), run.actions(), sound, *known, fit.batch)


def sound_events_stage(run: Run, fit: Fit, tokens: np.ndarray, device: str) -> SoundEventsStage:
    """Also writes the world's library of recorded sounds."""
    sound = _recorded_sound(run, choose_format(run.cache, run.recipe.data))
    dynamics, known = _hidden(run, fit, tokens, sound, device)
    hidden = [k[0].segments for k in known]
    both = Segments(*(np.concatenate([getattr(s, edge) for s in hidden]) for edge in ("starts", "stops")))
    music = find_music(sound, both)
    library, events = build_library(sound, both, music, run.say)
    if run.recipe.sounds is not None:
        library = replace_with(library, run.recipe.sounds, run.say)
    if run.is_main:
        library.save(run.recipe.out)
    network = run.fresh(
        SoundEvents,
        hidden_dim=dynamics.config.dim,
        num_sounds=library.num_effects,
        num_music=library.num_music,
        **action_arguments(run.action_map()),
        **run.preset.sound_events,
    )
    return SoundEventsStage(network, run.action_map(), run.actions(), events, music.track, *known, fit.batch)


def _hidden(
    run: Run, fit: Fit, tokens: np.ndarray, sound: RecordedSound, device: str
) -> tuple[Dynamics, tuple[KnownFrames, KnownFrames]]:
    """-> the dynamics; its hidden states of frames whose sound is known, of training and held out"""
    dynamics = load_network(run.recipe.out, "dynamics").requires_grad_(False).to(device)
    actions = run.actions()
    rows = np.concatenate(
        [led_to(run.action_map(), actions[None, a:b])[0] for a, b in pairwise(run.cache.starts.tolist())]
    )

    def known(segments: Segments, limit: int, kept: str) -> KnownFrames:
        hidden = hidden_states(
            dynamics, run.cache, tokens, rows, run.config(), sound.segments(run.cache, segments), limit,
            run.recipe.out, run.recipe.out / "training" / "hidden" / kept, run.say, fit.length,
        )  # fmt: skip
        return hidden, run.sampler(hidden.segments, fit.length)

    return dynamics, (
        known(run.train, HIDDEN_FRAMES, "train"),
        known(run.validation, HIDDEN_HELD_OUT, "validation"),
    )


def _recorded_sound(run: Run, sound_format: SoundFormat) -> RecordedSound:
    sound = recorded_sound(
        run.cache, run.recipe.data, sound_format, run.recipe.out / "training" / "sound_codec", run.say
    )
    for note in sound.notes:
        run.say(f"  {note}")
    return sound
