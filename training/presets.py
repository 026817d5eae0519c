"""Presets: sizes and schedules of all stages, as functions that return one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from worldgen.errors import InputError
from worldgen.training.fit import Fit


@dataclass(frozen=True)
class Preset:
    """side: the longer side of a frame, in pixels. context: frames of look-back. The dicts are keyword arguments of the
    networks; loss: those of DynamicsLoss."""

    side: int
    context: int
    tokenizer: dict[str, Any]
    latent_action: dict[str, Any]
    dynamics: dict[str, Any]
    heads: dict[str, Any]
    fits: dict[str, Fit]
    loss: dict[str, Any] = field(default_factory=dict)
    super_resolution: dict[str, Any] = field(default_factory=dict)
    between: dict[str, Any] = field(default_factory=dict)
    sound_codec: dict[str, Any] = field(default_factory=dict)
    sound: dict[str, Any] = field(default_factory=dict)
    sound_events: dict[str, Any] = field(default_factory=dict)


SMALLEST = {"dim": 192, "num_layers": 6, "num_heads": 6, "history": 2, "stem_channels": 24, "blank": True}  # dynamics


def tiny() -> Preset:
    """Two CPU cores, an hour or two: about 64x48 pixels, 12 tokens a frame, 6 M parameters."""
    return Preset(
        side=64,
        context=16,
        tokenizer={"token_dim": 384, "channels": [48, 64, 128]},
        latent_action={},
        dynamics=SMALLEST | {"warp": True, "grain": 0.2},
        loss={"even": 0.03, "own_past_ahead": 64},
        heads={"dim": 32},
        super_resolution={"channels": 48, "num_layers": 6},
        between={"channels": 32, "num_layers": 4},
        sound_codec={"latent_dim": 48, "dim": 256, "num_atoms": 96},
        sound={"dim": 96},
        sound_events={"dim": 96},
        fits={
            "tokenizer": Fit(steps=4000, batch=8, length=8, learning_rate=1e-3),
            "latent_action": Fit(steps=1500, batch=12, length=5, learning_rate=4e-3, ema=0.99),
            "dynamics": Fit(steps=8000, batch=8, length=17, learning_rate=1e-3, optimizer="muon"),
            "heads": Fit(steps=600, batch=16, length=17, learning_rate=1e-3, ema=0.99),
            "super_resolution": Fit(steps=3000, batch=8, length=2, learning_rate=1e-3, ema=0.995),
            "between": Fit(steps=1500, batch=16, length=3, learning_rate=2e-3, ema=0.99),
            "sound_codec": Fit(steps=3000, batch=8, length=16, learning_rate=1e-3, ema=0.995),
            "sound": Fit(steps=3000, batch=12, length=40, learning_rate=1e-3, ema=0.995),
            "sound_events": Fit(steps=3000, batch=12, length=40, learning_rate=1e-3, ema=0.995),
        },
    )


def fine() -> Preset:
    """As tiny, with tokens of 8x8 pixels instead of 16x16, and of 128 numbers for their 192: for small things, at twice
    the time of a frame or more. What moves is averaged as before: ToyGame is worse where it is copied."""
    tokenizer = {"token_dim": 128, "channels": [64, 128]}
    return replace(tiny(), tokenizer=tokenizer, dynamics=SMALLEST | {"cubic": True}, loss={})


def pixel() -> Preset:
    """Two CPU cores, two hours or more, for games drawn pixel by pixel whose longer side is 128 pixels, at that size:
    as tiny, with 64 tokens a frame of 768 numbers each, all that 16x16 pixels have (98 KB a frame on disk), and blocks
    copied by whole pixels, which stay sharp. Not for frames that are made smaller: what moves in them does not do so
    by whole pixels."""
    motion = {"whole": True, "reach": 16}
    return replace(
        tiny(),
        side=128,
        tokenizer=tiny().tokenizer | {"token_dim": 768},
        dynamics=SMALLEST | motion,
        loss={"even": 0.03, "own_past_ahead": 16},
        fits=tiny().fits | {"tokenizer": replace(tiny().fits["tokenizer"], steps=300)},  # it begins as a copy
    )


def small() -> Preset:
    """For one GPU and half an hour, not tried at length: 128x96 pixels, 48 tokens a frame, 50 M parameters."""
    return Preset(
        side=128,
        context=32,
        tokenizer={"token_dim": 192, "channels": [96, 192, 384], "num_convs": 3},
        latent_action={"dim": 64, "hidden_dim": 128, "num_places": 512},
        dynamics={
            "dim": 512,
            "num_layers": 10,
            "num_heads": 8,
            "history": 2,
            "stem_channels": 24,
            "cubic": True,
            "blank": True,
            "reach": 16,
        },  # fmt: skip
        heads={"dim": 256},
        super_resolution={"channels": 64, "num_layers": 8},
        between={"channels": 48, "num_layers": 5},
        sound_codec={"latent_dim": 64, "dim": 512, "num_atoms": 160},
        sound={"dim": 256},
        sound_events={"dim": 192},
        fits={
            "tokenizer": Fit(steps=20_000, batch=32, length=8, learning_rate=5e-4, warmup=500),
            "latent_action": Fit(steps=15_000, batch=64, length=5, learning_rate=1e-3, warmup=500),
            "dynamics": Fit(steps=30_000, batch=64, length=33, learning_rate=5e-4, warmup=1000, ema=0.9995),
            "heads": Fit(steps=3000, batch=64, length=33, learning_rate=5e-4, ema=0.99),
            "super_resolution": Fit(steps=20_000, batch=64, length=2, learning_rate=1e-3),
            "between": Fit(steps=20_000, batch=64, length=3, learning_rate=1e-3),
            "sound_codec": Fit(steps=20_000, batch=32, length=32, learning_rate=5e-4),
            "sound": Fit(steps=20_000, batch=32, length=33, learning_rate=5e-4),
            "sound_events": Fit(steps=20_000, batch=32, length=33, learning_rate=5e-4),
        },
    )


def base() -> Preset:
    """For a day of one data-centre GPU, not tried at length: 256x192 pixels, 192 tokens a frame, 210 M parameters."""
    return Preset(
        side=256,
        context=64,
        tokenizer={"token_dim": 256, "channels": [128, 256, 512], "num_convs": 4},
        latent_action={"dim": 96, "hidden_dim": 192, "num_places": 1024},
        dynamics={
            "dim": 896,
            "num_layers": 16,
            "num_heads": 14,
            "history": 2,
            "stem_channels": 24,
            "cubic": True,
            "blank": True,
            "reach": 32,
        },  # fmt: skip
        heads={"dim": 256},
        super_resolution={"channels": 64, "num_layers": 8},
        between={"channels": 48, "num_layers": 5},
        sound_codec={"latent_dim": 64, "dim": 512, "num_atoms": 160},
        sound={"dim": 256},
        sound_events={"dim": 192},
        fits={
            "tokenizer": Fit(steps=100_000, batch=32, length=8, learning_rate=3e-4, warmup=1000, ema=0.9995),
            "latent_action": Fit(steps=60_000, batch=64, length=5, learning_rate=5e-4, warmup=1000, ema=0.9995),
            "dynamics": Fit(steps=200_000, batch=32, length=65, learning_rate=3e-4, warmup=2000, ema=0.9998),
            "heads": Fit(steps=5000, batch=32, length=65, learning_rate=5e-4, ema=0.99),
            "super_resolution": Fit(steps=40_000, batch=64, length=2, learning_rate=1e-3),
            "between": Fit(steps=40_000, batch=64, length=3, learning_rate=1e-3),
            "sound_codec": Fit(steps=40_000, batch=32, length=32, learning_rate=5e-4),
            "sound": Fit(steps=40_000, batch=32, length=64, learning_rate=5e-4),
            "sound_events": Fit(steps=40_000, batch=32, length=64, learning_rate=5e-4),
        },
    )


PRESETS: dict[str, Callable[[], Preset]] = {"tiny": tiny, "fine": fine, "pixel": pixel, "small": small, "base": base}


def get_preset(name: str) -> Preset:
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}; choose {', '.join(PRESETS)}")
    return PRESETS[name]()


def frame_size(side: int, width: int, height: int, multiple: int = 16) -> tuple[int, int]:
    """The (width, height) nearest to a video's shape with the longer one `side`, both multiples of a token's side."""
    scale = side / max(width, height)
    sizes = [max(multiple, round(length * scale / multiple) * multiple) for length in (width, height)]
    return sizes[0], sizes[1]
