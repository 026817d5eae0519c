"""The networks, as diffusers models. Each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

_CLASSES = {
    "tokenizer": ("worldgen.models.tokenizer", "Tokenizer"),
    "latent_action": ("worldgen.models.latent_action", "LatentActionModel"),
    "dynamics": ("worldgen.models.dynamics", "Dynamics"),
    "heads": ("worldgen.models.heads", "Heads"),
    "super_resolution": ("worldgen.models.super_resolution", "SuperResolution"),
    "between": ("worldgen.models.between", "Between"),
    "sound_codec": ("worldgen.models.sound_codec", "SoundCodec"),
    "sound": ("worldgen.models.sound", "SoundHead"),
    "sound_events": ("worldgen.models.sound_events", "SoundEvents"),
}


def network_of(name: str, config: Mapping[str, Any]) -> Any:
    """One of a world's networks, as its config.json says."""
    module, cls = _CLASSES[name]
    return getattr(import_module(module), cls).from_config(config)
