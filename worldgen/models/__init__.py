"""The networks, as diffusers models. Each is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_CLASSES = {
    "tokenizer": ("worldgen.models.tokenizer", "Tokenizer"),
    "latent_action": ("worldgen.models.latent_action", "LatentActionModel"),
    "dynamics": ("worldgen.models.dynamics", "Dynamics"),
    "heads": ("worldgen.models.heads", "Heads"),
    "super_resolution": ("worldgen.models.super_resolution", "SuperResolution"),
    "sound_codec": ("worldgen.models.sound_codec", "SoundCodec"),
    "sound": ("worldgen.models.sound", "SoundHead"),
    "sound_events": ("worldgen.models.sound_events", "SoundEvents"),
}


_FORMER = {"PlainSoundHead": "worldgen.models.plain_sound"}  # of bundled worlds that were trained before


def network_class(name: str, class_name: str | None = None) -> Any:
    """The class of one of a world's networks, by its folder's name and what its config.json says."""
    module, cls = (_FORMER[class_name], class_name) if class_name in _FORMER else _CLASSES[name]
    return getattr(import_module(module), cls)
