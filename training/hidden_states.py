"""The dynamics' hidden states, computed once: what the sound heads learn from.

Of recorded frames, and of the same moments as the dynamics plays on to them for up to PLAYED_SECONDS, or as long as a
clip, from recorded frames before, under the recorded actions: in play a head sees such ones alone, and what it would be
sure of may be blurred or gone there. Of as many frames as a limit says, spread over all episodes; beside the training
state, in half precision. Where the processor multiplies bfloat16 they are computed so, twice as fast.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from worldgen.bundle import WEIGHTS
from worldgen.config import WorldConfig
from worldgen.data.cache import Cache
from worldgen.data.dataset import ClipSampler, Segments
from worldgen.files import allocate, file_hash, write_json
from worldgen.models.dynamics import FINEST_STEP, Dynamics, previous_of
from worldgen.training.compiled import multiplies_bfloat16
from worldgen.training.own_past import play_on
from worldgen.training.rollout import PROMPT

CHUNK = 128  # frames at a time
LANES = 8  # segments side by side
PLAYED_LANES = 16
PLAYED_SECONDS = 3.0  # that the dynamics plays on from recorded frames
PIECE = 1000  # frames


@dataclass(frozen=True)
class HiddenStates:
    """hidden (2, M, m, c) float16 of the frames of `segments`, end to end, recorded ones and played ones; first
    (S + 1,): where each segment's begin; stretch: after so many frames what is played begins anew from recorded
    ones."""

    segments: Segments
    first: np.ndarray
    hidden: np.ndarray
    stretch: int

    def at(self, rows: np.ndarray, is_played: np.ndarray) -> np.ndarray:
        """rows (b, t) of the cache, each b inside one segment; is_played (b,) bool -> (b, t, m, c) float32"""
        which = np.searchsorted(self.segments.starts, rows[:, 0], side="right") - 1
        places = self.first[which][:, None] + rows - self.segments.starts[which][:, None]
        found = self.hidden[is_played.astype(np.int64)[:, None], places]
        return np.asarray(found).astype(np.float32)

    def in_one_play(self, sampler: ClipSampler) -> ClipSampler:
        """As the sampler, which has the same segments, but in no clip what is played begins anew"""
        begins = [np.arange(start, stop, self.stretch) for start, stop in self.segments]
        stops = [np.minimum(x + self.stretch, stop) for x, stop in zip(begins, self.segments.stops, strict=True)]
        plays = Segments(np.concatenate(begins), np.concatenate(stops))
        return ClipSampler(sampler.cache, plays, sampler.length, with_sound=False)


def every_second(count: int) -> np.ndarray:
    """Which of so many clips are played ones, (count,) bool"""
    return np.arange(count) % 2 == 1


def hidden_states(
    dynamics: Dynamics,
    cache: Cache,
    tokens: np.ndarray,
    led_to: np.ndarray,
    config: WorldConfig,
    segments: Segments,
    limit: int,
    world: Path,
    folder: Path,
    say: Callable[[str], None] = print,
    clip: int = 1,
) -> HiddenStates:
    """tokens (N, n, d) and led_to (N, width), the actions that led to the frames, of the whole cache; clip: frames that
    are learned from together, the least that are played on."""
    whole, segments = segments, _some(segments, limit)
    begins = whole.starts[np.searchsorted(whole.starts, segments.starts, side="right") - 1]
    first = np.append(0, np.cumsum(segments.lengths))
    shape = (2, int(first[-1]), dynamics.num_tokens + 1, dynamics.config.dim)
    stretch = max(clip, round(PLAYED_SECONDS * cache.fps))
    key = {
        "data": cache.path.name,
        "networks": [file_hash(world / name / WEIGHTS) for name in ("tokenizer", "dynamics")],
        "shape": list(shape),
        "played": [PROMPT, stretch, config.nfe, config.context_sigma],
        "rows": hashlib.sha256(segments.starts.tobytes() + segments.stops.tobytes()).hexdigest(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path, facts = folder / "hidden.f16", folder / "hidden.json"
    try:
        if json.loads(facts.read_text()) == key and path.stat().st_size == 2 * int(np.prod(shape)):
            return HiddenStates(segments, first, np.memmap(path, np.float16, "r", shape=shape), stretch)
    except (OSError, ValueError):
        pass
    facts.unlink(missing_ok=True)
    say(f"hidden states of {shape[1]} frames, recorded and played")
    allocate(path, 2 * int(np.prod(shape)))
    out = np.memmap(path, np.float16, "r+", shape=shape)
    given = _Given(dynamics, tokens, led_to, segments, begins, first)
    device = dynamics.tokens_in.weight.device.type
    with (
        torch.inference_mode(),
        torch.autocast(device, torch.bfloat16, enabled=device == "cuda" or multiplies_bfloat16()),
    ):
        _recorded(given, config.context_sigma, out[0])
        _played(given, config, stretch, out[1])
    out.flush()
    write_json(facts, key)
    return HiddenStates(segments, first, out, stretch)


def _some(segments: Segments, limit: int) -> Segments:
    """Segments spread evenly over all, that hold about `limit` frames: where there are more, of PIECE frames at most,
    so that of a single long recording not all is kept"""
    stride = max(1, round(segments.num_frames / limit))
    if stride == 1:
        return segments
    pieces = [(a, min(a + PIECE, stop)) for start, stop in segments for a in range(start, stop, PIECE)]
    starts, stops = np.array(pieces, np.int64)[::stride].T
    return Segments(starts, stops)


@dataclass(frozen=True)
class _Given:
    """As of hidden_states(), and begins (S,): the frame that each segment's episode begins with; first: as of
    HiddenStates."""

    dynamics: Dynamics
    tokens: np.ndarray
    led_to: np.ndarray
    segments: Segments
    begins: np.ndarray
    first: np.ndarray

    def jobs(self, chunk: int, reach: int) -> list[_Job]:
        """Of every segment `chunk` frames at a time, which see up to `reach` frames before them; alike ones together"""
        jobs = []
        for start, stop, begin, first in zip(
            self.segments.starts, self.segments.stops, self.begins, self.first[:-1], strict=True
        ):
            for a in range(start, stop, chunk):
                jobs.append(_Job(max(int(begin), a - reach), a, min(int(stop), a + chunk), int(first + a - start)))
        return sorted(jobs, key=lambda job: job.stop - job.seen_from)

    def clips(self, jobs: list[_Job]) -> tuple[torch.Tensor, torch.Tensor]:
        """What they see: tokens (b, t, n, d) and led_to (b, t, width); the last frame fills up"""
        device = self.dynamics.tokens_in.weight.device
        length = max(job.stop - job.seen_from for job in jobs)
        rows = np.stack([np.minimum(np.arange(job.seen_from, job.seen_from + length), job.stop - 1) for job in jobs])
        tokens = torch.from_numpy(np.asarray(self.tokens[rows.ravel()])).float().unflatten(0, rows.shape)
        return tokens.to(device), torch.from_numpy(self.led_to[rows]).to(device)


class _Job(NamedTuple):
    """Frames [start, stop) of the cache, which see those from seen_from on; where: their place among all that are
    kept."""

    seen_from: int
    start: int
    stop: int
    where: int

    def keep(self, hidden: np.ndarray, out: np.ndarray) -> None:
        """hidden (t, m, c) of the frames from seen_from on, out (M, m, c)"""
        out[self.where : self.where + self.stop - self.start] = hidden[
            self.start - self.seen_from : self.stop - self.seen_from
        ]


def _recorded(given: _Given, sigma: float, out: np.ndarray) -> None:
    """As commit() gives them: each chunk also sees the frames that it can look back on"""
    dynamics = given.dynamics
    generator = torch.Generator(dynamics.tokens_in.weight.device).manual_seed(0)
    reach = dynamics.cache_shape[0] * dynamics.config.context + dynamics.config.history
    jobs = given.jobs(CHUNK, reach)
    for begin in range(0, len(jobs), LANES):
        group = jobs[begin : begin + LANES]
        hidden = committed(dynamics, *given.clips(group), sigma, generator).half().cpu().numpy()
        for job, states in zip(group, hidden, strict=True):
            job.keep(states, out)


def _played(given: _Given, config: WorldConfig, stretch: int, out: np.ndarray) -> None:
    """Each stretch is played on from the PROMPT recorded frames before it, or from the first one of its episode, as a
    game that begins with them: what led to the first frame that is seen is not known"""
    dynamics = given.dynamics
    device = dynamics.tokens_in.weight.device
    generator = torch.Generator(device).manual_seed(0)
    jobs = given.jobs(stretch, PROMPT)
    for begin in range(0, len(jobs), PLAYED_LANES):
        group = jobs[begin : begin + PLAYED_LANES]
        tokens, led_to = given.clips(group)
        led_to[:, 0] = torch.from_numpy(config.actions.null())
        num_true = torch.tensor([max(1, job.start - job.seen_from) for job in group], device=device)
        level = torch.full((len(group),), config.context_sigma, device=device)
        _, hidden = play_on(dynamics, tokens, led_to, level, num_true, generator, nfe=config.nfe)
        for job, states in zip(group, hidden.half().cpu().numpy(), strict=True):
            job.keep(states, out)


def committed(
    dynamics: Dynamics, tokens: torch.Tensor, led_to: torch.Tensor, sigma: float, generator: torch.Generator | None
) -> torch.Tensor:
    """What commit() would give for every frame of clips: tokens (b, t, n, d), led_to (b, t, width) -> (b, t, m, c)"""
    level = torch.full(tokens.shape[:2], sigma, device=tokens.device)
    noise = torch.randn(tokens.shape, generator=generator, device=tokens.device)
    noisy = (1 - sigma) * tokens + sigma * noise
    previous = previous_of(tokens, noisy, dynamics.config.history)
    return dynamics(noisy, level, torch.full_like(level, FINEST_STEP), previous, level, led_to)[1]
