"""The dynamics' hidden states of recorded frames, computed once: what the sound head learns from.

Only of as many episodes as LIMIT frames hold; beside the training state, in half precision.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from worldgen.bundle import WEIGHTS
from worldgen.data.cache import Cache
from worldgen.data.dataset import Segments
from worldgen.files import file_hash, write_json
from worldgen.models.dynamics import FINEST_STEP, Dynamics, previous_of

CHUNK = 128  # frames at a time
LANES = 8  # segments side by side
PIECE = 1000  # frames


@dataclass(frozen=True)
class HiddenStates:
    """hidden (M, m, c) float16 of the frames of `segments`, end to end; first (S + 1,): where each segment's begin."""

    segments: Segments
    first: np.ndarray
    hidden: np.ndarray

    def at(self, rows: np.ndarray) -> np.ndarray:
        """rows (b, t) of the cache, each b inside one segment -> (b, t, m, c) float32"""
        which = np.searchsorted(self.segments.starts, rows[:, 0], side="right") - 1
        places = self.first[which][:, None] + rows - self.segments.starts[which][:, None]
        return np.asarray(self.hidden[places.ravel()]).reshape(*rows.shape, *self.hidden.shape[1:]).astype(np.float32)


def hidden_states(
    dynamics: Dynamics,
    cache: Cache,
    tokens: np.ndarray,
    led_to: np.ndarray,
    context_sigma: float,
    segments: Segments,
    limit: int,
    world: Path,
    folder: Path,
    say: Callable[[str], None] = print,
) -> HiddenStates:
    """tokens (N, n, d) and led_to (N, width), the actions that led to the frames, of the whole cache."""
    whole, segments = segments, _some(segments, limit)
    begins = whole.starts[np.searchsorted(whole.starts, segments.starts, side="right") - 1]
    first = np.append(0, np.cumsum(segments.lengths))
    shape = (int(first[-1]), dynamics.num_tokens + 1, dynamics.config.dim)
    key = {
        "data": cache.path.name,
        "networks": [file_hash(world / name / WEIGHTS) for name in ("tokenizer", "dynamics")],
        "shape": list(shape),
        "rows": hashlib.sha256(segments.starts.tobytes() + segments.stops.tobytes()).hexdigest(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path, facts = folder / "hidden.f16", folder / "hidden.json"
    try:
        if json.loads(facts.read_text()) == key and path.stat().st_size == 2 * int(np.prod(shape)):
            return HiddenStates(segments, first, np.memmap(path, np.float16, "r", shape=shape))
    except (OSError, ValueError):
        pass
    facts.unlink(missing_ok=True)
    say(f"hidden states of {shape[0]} frames")
    out = np.memmap(path, np.float16, "w+", shape=shape)
    _run(dynamics, tokens, led_to, context_sigma, segments, begins, first, out)
    out.flush()
    write_json(facts, key)
    return HiddenStates(segments, first, out)


def _some(segments: Segments, limit: int) -> Segments:
    """Segments spread evenly over all, that hold about `limit` frames: where there are more, of PIECE frames at most,
    so that of a single long recording not all is kept"""
    stride = max(1, round(segments.num_frames / limit))
    if stride == 1:
        return segments
    pieces = [(a, min(a + PIECE, stop)) for start, stop in segments for a in range(start, stop, PIECE)]
    starts, stops = np.array(pieces, np.int64)[::stride].T
    return Segments(starts, stops)


@torch.inference_mode()
def _run(
    dynamics: Dynamics,
    tokens: np.ndarray,
    led_to: np.ndarray,
    sigma: float,
    segments: Segments,
    begins: np.ndarray,
    first: np.ndarray,
    out: np.ndarray,
) -> None:
    """As commit() gives them in play: each chunk also sees the frames that it can look back on. begins: how far each
    segment can, to the frame that its episode begins with"""
    num_time_layers = dynamics.cache_shape[0]
    reach = num_time_layers * dynamics.config.context + dynamics.config.history
    device = dynamics.tokens_in.weight.device
    generator = torch.Generator(device).manual_seed(0)
    jobs = [(s, a) for s, (start, stop) in enumerate(segments) for a in range(start, stop, CHUNK)]
    jobs.sort(key=lambda job: min(segments.stops[job[0]], job[1] + CHUNK) - max(begins[job[0]], job[1] - reach))
    for begin in range(0, len(jobs), LANES):
        group = jobs[begin : begin + LANES]
        spans = [(max(int(begins[s]), a - reach), min(int(segments.stops[s]), a + CHUNK)) for s, a in group]
        length = max(b - a for a, b in spans)
        rows = np.stack([np.minimum(np.arange(a, a + length), b - 1) for a, b in spans])  # the last frame fills up
        clip = torch.from_numpy(np.asarray(tokens[rows.ravel()])).float().unflatten(0, rows.shape).to(device)
        hidden = committed(dynamics, clip, torch.from_numpy(led_to[rows]).to(device), sigma, generator).half().cpu()
        for lane, ((s, a), (seen_from, stop)) in enumerate(zip(group, spans, strict=True)):
            where = int(first[s]) + a - int(segments.starts[s])
            out[where : where + stop - a] = hidden[lane, a - seen_from : stop - seen_from].numpy()


def committed(
    dynamics: Dynamics, tokens: torch.Tensor, led_to: torch.Tensor, sigma: float, generator: torch.Generator | None
) -> torch.Tensor:
    """What commit() would give for every frame of clips: tokens (b, t, n, d), led_to (b, t, width) -> (b, t, m, c)"""
    level = torch.full(tokens.shape[:2], sigma, device=tokens.device)
    noise = torch.randn(tokens.shape, generator=generator, device=tokens.device)
    noisy = (1 - sigma) * tokens + sigma * noise
    previous = previous_of(tokens, noisy, dynamics.config.history)
    return dynamics(noisy, level, torch.full_like(level, FINEST_STEP), previous, level, led_to)[1]
