"""In-domain Frechet distances: are the generated frames, clips and changes distributed as the recorded ones?

The features are those of features.py, fitted on the recorded side; neither FID nor FVD, whose networks are not ours to
ship, and not to be compared with them. What can be compared: the same recordings under two worlds, or a world with its
own codec and with what two halves of the recordings are apart.
"""

from __future__ import annotations

import numpy as np

from worldgen.training.features import Embedding, Kinds, describe, describe_changes, frechet_distance
from worldgen.training.replay import Replay

CLIP = 4  # frames of a clip
STRIDE = 2  # frames from one of them to the next
MAX_FRAMES = 4096  # of each side

KEYS = {
    "frame": "in-domain Frechet distance of single generated frames to the recorded ones of the same clips; 1 is the "
    "variance of the recorded frames",
    "clip": "temporal Frechet distance: the same for stacks of 4 frames, every second one, so that order and timing "
    "count; null for a horizon under 8",
    "change": "temporal Frechet distance: the same for differences of neighbouring frames: a frozen picture is far off",
    "frame_codec": "frame, of the recorded frames through the tokenizer alone",
    "clip_codec": "clip, likewise",
    "change_codec": "change, likewise",
    "frame_real": "frame, between the recorded clips of one half of the episodes and those of the other: what chance "
    "and other levels do; null with a single episode",
    "clip_real": "clip, likewise",
    "change_real": "change, likewise",
    "score": "in-domain inception-style score: exp of the mean divergence between the kind of each generated frame and "
    "the mix of kinds of all of them; the kinds are 16 clusters of the recorded frames, not the 1000 classes of the "
    "Inception Score. From 1 (all of one kind, or of none clearly) to 16",
    "score_real": "the same of the recorded frames of the same clips: score is not to be above it, but as large",
    "score_codec": "the same of those through the tokenizer alone",
    "samples": "frames on each side",
}


def distribution_figures(played: Replay, seed: int = 0) -> dict[str, float | int | None]:
    """-> the keys of KEYS"""
    step = max(1, -(-played.real.shape[0] * played.num_frames // MAX_FRAMES))  # whole clips are left out, evenly
    chosen = slice(None, None, step)
    real, made, codec = (x[chosen] for x in (played.real, played.made, played.restored))
    _, index = np.unique(played.episode[chosen], return_inverse=True)
    is_second = index % 2 == 1
    figures: dict[str, float | int | None] = {"samples": real.shape[0] * real.shape[1]}
    frames = {name: describe(x) for name, x in (("real", real), ("made", made), ("codec", codec))}
    changes = {name: describe_changes(x) for name, x in (("real", real), ("made", made), ("codec", codec))}
    single = Embedding.fit(_flat(frames["real"]))
    kinds = Kinds.fit(_flat(single(frames["real"])), np.random.default_rng(seed))
    for key, name in (("score", "made"), ("score_real", "real"), ("score_codec", "codec")):
        figures[key] = kinds.score(_flat(single(frames[name])))
    stacks = {name: _stacks(single(x)) for name, x in frames.items()}
    for key, vectors in (("frame", frames), ("clip", stacks), ("change", changes)):
        if vectors["real"].shape[1] == 0:
            figures |= {key: None, f"{key}_codec": None, f"{key}_real": None}
            continue
        embed = single if key == "frame" else Embedding.fit(_flat(vectors["real"]))
        known = embed(vectors["real"])
        figures[key] = frechet_distance(_flat(embed(vectors["made"])), _flat(known))
        figures[f"{key}_codec"] = frechet_distance(_flat(embed(vectors["codec"])), _flat(known))
        halves = _flat(known[~is_second]), _flat(known[is_second])
        figures[f"{key}_real"] = frechet_distance(*halves) if is_second.any() else None
    return figures


def _stacks(vectors: np.ndarray) -> np.ndarray:
    """vectors (b, t, d) -> (b, s, CLIP * d): CLIP of them STRIDE apart, beginning at every second frame"""
    b, t, d = vectors.shape
    begins = np.arange(0, max(0, t - STRIDE * (CLIP - 1)), STRIDE)
    rows = begins[:, None] + STRIDE * np.arange(CLIP)
    return vectors[:, rows].reshape(b, len(begins), CLIP * d)


def _flat(vectors: np.ndarray) -> np.ndarray:
    return vectors.reshape(-1, vectors.shape[-1])
