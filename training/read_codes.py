"""Does a code mean the same from every start? A world's own latent-action model reads generated frames back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from worldgen.bundle import load_network
from worldgen.training.action_clips import ActionClips

KEYS = {
    "read_as": "the code that is read most often off the frames that this one makes",
    "consistency": "share of all its frames, over all starts, that are read as that code: 1 if it does the same "
    "everywhere",
    "read_back": "share that is read as the code itself",
    "starts": "of the starts, which code is read most often",
}


def read_codes(world: Path, clips: ActionClips) -> dict[str, dict[str, Any]]:
    """clips of every code of a latent world -> of each, by its name, the keys of KEYS"""
    import torch

    from worldgen.models.tokenizer import to_float

    network = load_network(world, "latent_action")
    out = {}
    for code, name in enumerate(clips.actions.names):
        frames = np.concatenate([clips.shown[:, None], clips.frames[code]], axis=1)
        with torch.inference_mode():
            read = network.encode(to_float(torch.from_numpy(frames).to(network.device))).cpu().numpy()  # (s, t)
        counts = np.bincount(read.ravel(), minlength=len(clips.actions.names))
        most = int(counts.argmax())
        out[name] = {
            "read_as": clips.actions.names[most],
            "consistency": float((read == most).mean()),
            "read_back": float((read == code).mean()),
            "starts": [clips.actions.names[int(np.bincount(row).argmax())] for row in read],
        }
    return out
