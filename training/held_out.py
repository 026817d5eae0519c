"""Recordings that a world was not trained on, with the actions that its rollouts play."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.actions import check_same_actions
from worldgen.bundle import WEIGHTS
from worldgen.config import MAX_WORLD_FPS, WorldConfig
from worldgen.data.cache import Cache, open_cache
from worldgen.data.dataset import ClipSampler, Segments
from worldgen.data.decode import read_frames
from worldgen.data.ingest import REFUSALS, find_videos
from worldgen.data.probe import probe
from worldgen.data.progress import say_progress
from worldgen.data.recording import RecordingInfo, read_info
from worldgen.errors import InputError
from worldgen.training.metrics import blockiness
from worldgen.training.native_frames import episode_files
from worldgen.training.rollout import PROMPT
from worldgen.training.trained_on import TrainedOn, file_hashes, first_frames, origins

KEYS = {
    "path": "folder of the recordings",
    "episodes": "episodes measured on",
    "episodes_left_out": "episodes left out because the world was trained on them",
    "is_held_out": "whether the world's trained_on.json or training/data.json says what it was trained on; false: "
    "nobody knows",
    "frames": "frames of those episodes",
    "clips": "clips that were played for the picture and control",
    "clip_episodes": "episodes that those come from",
    "prompt": "true frames that each begins with",
    "actions": "recorded: as in the files; latent: inferred by the world's latent-action model; random: none are "
    "known, uniformly random ones were played",
    "video_blockiness": "jumps across the borders of 8x8 blocks over jumps elsewhere, in the videos' own frames before "
    "they are made smaller: well above 1 they were compressed hard, or the game is drawn in tiles of 8 pixels",
    "sources": "games, as the recordings name them",
    "licences": "licences of the recordings",
}


BLOCKY_VIDEOS, BLOCKY_FRAMES, BLOCKY_FPS = 6, 6, 2.0  # how much of the videos is looked at for compression
NOTHING = Segments(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
class HeldOut:
    """segments: stretches of the cache whose every action but the last is known.
    actions: (N, width) rows of the world's action space, row i chosen on frame i; NULL outside the segments where the
        actions are random. facts: the keys of KEYS. notes: what a reader of the figures must know.
    trained: stretches of known actions that the world was trained on, for what must be learned from real frames; only
        of recordings with actions.
    """

    cache: Cache
    segments: Segments
    actions: np.ndarray
    facts: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    trained: Segments = NOTHING

    @property
    def has_actions(self) -> bool:
        return self.facts["actions"] != "random"

    def frames(self, rows: np.ndarray) -> np.ndarray:
        """rows (b, t) of the cache -> (b, t, h, w, 3) uint8"""
        return np.asarray(self.cache.frames[rows.ravel()]).reshape(*rows.shape, *self.cache.frames.shape[1:])

    def clips(self, count: int, length: int) -> np.ndarray:
        """Frames of the cache at which `count` clips begin, spread evenly: the same ones every time. (b,)"""
        return ClipSampler(self.cache, self.segments, length, with_sound=False).even_starts(count)

    def episode_of(self, starts: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.cache.starts, starts, side="right") - 1

    def half(self, rows: np.ndarray) -> np.ndarray:
        """Frames of the cache (n,) -> which of them are of every second episode, or of a single one's first half"""
        _, number = np.unique(self.episode_of(rows), return_inverse=True)
        return number % 2 == 0 if number.max(initial=0) else np.arange(len(rows)) < len(rows) // 2


def open_held_out(world: Path, config: WorldConfig, data: Path, say: Callable[[str], None] = print) -> HeldOut:
    """Raises InputError when nothing is held out, or the recordings are of another action space."""
    say(f"recordings: {data} at {config.width}x{config.height}, {config.fps:g} fps (decoded on first use)")
    cache = open_for(config, data, say)
    notes = list(cache.notes)
    segments, trained, facts = _leave_out_trained(world, cache, data, notes)
    actions, known, source = _actions(world, config, cache, segments, notes, say)
    trained = known_segments(trained, known) if source == "recorded" else NOTHING
    if source == "recorded":
        segments = known_segments(segments, known)
    infos = _infos(cache, data)
    facts |= {
        "frames": segments.num_frames,
        "prompt": PROMPT,
        "actions": source,
        "video_blockiness": video_blockiness(data),
        "sources": sorted({i.source for i in infos if i.source}),
        "licences": sorted({i.licence for i in infos if i.licence}),
    }
    return HeldOut(cache, segments, actions, facts, notes, trained)


def open_for(config: WorldConfig, data: Path, say: Callable[[str], None]) -> Cache:
    """Recordings at a world's size and rate. Training asks for the recordings' own rate: where that is the world's, the
    cache that it built is found again instead of decoding everything once more."""
    if (rate := _own_rate(data)) is not None and abs(rate - config.fps) < 1e-3:
        cache = open_cache(data, height=config.height, width=config.width, on_progress=say_progress(say))
        if abs(cache.fps - config.fps) < 1e-3:
            return cache
    return open_cache(data, height=config.height, width=config.width, fps=config.fps, on_progress=say_progress(say))


def _own_rate(data: Path) -> float | None:
    """Of the first recording that can be read, at most a world's"""
    for video in find_videos(data):
        try:
            info = read_info(video)
            return min(probe(video, info.fps if info else None).fps, MAX_WORLD_FPS)
        except REFUSALS:
            continue
    return None


def known_segments(segments: Segments, known: np.ndarray) -> Segments:
    """The stretches of segments in which every action but the last is known: (N,) bool"""
    starts, stops = [], []
    for start, stop in segments:
        edges = np.flatnonzero(np.diff(np.concatenate([[False], known[start:stop], [False]]).astype(np.int8)))
        for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            starts.append(start + first)
            stops.append(min(start + end + 1, stop))  # the frame that the last known action led to
    return Segments(np.array(starts, np.int64), np.array(stops, np.int64))


def _leave_out_trained(
    world: Path, cache: Cache, data: Path, notes: list[str]
) -> tuple[Segments, Segments, dict[str, Any]]:
    """-> what is held out, what was trained on, facts"""
    names = cache.episode_names
    trained, held_from = _trained_names(world)
    by_content = TrainedOn.load(world)
    hashes, firsts = file_hashes(cache, data), first_frames(cache)
    known = by_content.recordings if by_content is not None else {}
    cleaned = origins(cache, data) if known else [""] * len(names)
    is_known = by_content.is_complete if by_content is not None else (world / "training" / "data.json").is_file()
    if not is_known:
        notes.append("the world does not say what it was trained on: some of these recordings may have been in it")
    starts, stops = [], []
    seen: list[tuple[int, int]] = []
    for e, name in enumerate(names):
        start, stop = int(cache.starts[e]), int(cache.starts[e + 1])
        if hashes[e] in known:
            begins = known[hashes[e]]
            start = stop if begins is None else min(stop, max(start, int(firsts[e]) + begins))
        elif cleaned[e] in known:
            start = stop
        elif by_content is not None and by_content.is_complete and hashes[e]:
            pass  # a new one, whatever it is called
        elif name in held_from:  # trained on the first part of it
            start = min(stop, start + int(held_from[name]))
        elif name in trained:  # perhaps packed anew since then
            start = stop
        if stop > start:
            starts.append(start)
            stops.append(stop)
        else:
            seen.append((int(cache.starts[e]), stop))
    if not starts:
        raise InputError(
            f"the world was trained on all {len(names)} episodes of {data}: evaluate it on others, "
            "or train it with some held out"
        )
    if left_out := len(seen):
        notes.append(
            f"{left_out} of {len(names)} episodes were left out: the world was trained on them, or on others so called"
            if by_content is None or not by_content.is_complete
            else f"{left_out} of {len(names)} episodes were left out: the world was trained on them"
        )
    facts = {"path": str(data), "episodes": len(starts), "episodes_left_out": left_out, "is_held_out": is_known}
    trained_on = np.array(seen, np.int64).reshape(-1, 2)
    held = Segments(np.array(starts, np.int64), np.array(stops, np.int64))
    return held, Segments(trained_on[:, 0], trained_on[:, 1]), facts


def _trained_names(world: Path) -> tuple[set[str], dict[str, int]]:
    """Episodes that were trained on, and of those that were split the first frame that is held out; empty where nobody
    knows"""
    path = world / "training" / "data.json"
    if not path.is_file():
        return set(), {}
    try:
        raw = json.loads(path.read_text())
        return set(raw["train"]), dict(raw.get("held_out_from", {}))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a list of what the world was trained on ({error!r})") from None


def _actions(
    world: Path, config: WorldConfig, cache: Cache, segments: Segments, notes: list[str], say: Callable[[str], None]
) -> tuple[np.ndarray, np.ndarray, str]:
    """-> rows (N, width) of the world's action space, which are known (N,) bool, where they come from"""
    null = config.actions.null(len(cache.frames))
    if config.action_source == "latent":
        if cache.actions is not None:
            notes.append("the world's actions are latent: the recorded ones say nothing about them and are not used")
        if (world / "latent_action" / WEIGHTS).is_file():
            notes.append("the actions are inferred from the recordings by the world's own latent-action model")
            return _inferred(world, cache, segments, null, say), np.ones(len(null), bool), "latent"
        notes.append(
            "the world has no latent-action model to infer actions with: uniformly random ones were played, so"
        )
        notes[-1] += " its frames are not meant to follow the recordings and PSNR says little"
        return null, np.ones(len(null), bool), "random"
    if cache.actions is None:
        notes.append(
            "no actions are recorded: uniformly random ones were played, so the frames are not meant to follow"
        )
        notes[-1] += " the recordings; PSNR says little, and control, reward and ends cannot be measured"
        return null, np.ones(len(null), bool), "random"
    return *recorded_actions(config, cache), "recorded"


def recorded_actions(config: WorldConfig, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """-> rows (N, width) of the world's action space, NULL where none was recorded, and where one was (N,) bool. Raises
    InputError where they are of another space, or none is known."""
    if cache.actions is None or cache.action_map is None:
        raise InputError("the recordings have no actions: there is no sidecar beside any video")
    check_same_actions(config.actions, cache.action_map)
    rows = np.asarray(cache.actions)
    known = (rows[:, -1] == 0) if cache.action_map.kind == "box" else (rows != cache.action_map.null()).all(-1)
    if not known.any():
        raise InputError("every action of the recordings is missing: fill the action column, or remove the sidecars")
    rows = np.where(known[:, None], rows, config.actions.null(len(rows)))
    return rows.astype(config.actions.dtype), known


def _inferred(
    world: Path, cache: Cache, segments: Segments, null: np.ndarray, say: Callable[[str], None]
) -> np.ndarray:
    from worldgen.bundle import load_network
    from worldgen.training.latent_action import label

    say(f"inferring the latent actions of {segments.num_frames} frames")
    network = load_network(world, "latent_action")
    actions = null.copy()
    for start, stop in segments:
        part = replace(cache, frames=cache.frames[start:stop], starts=np.array([0, stop - start]))
        actions[start:stop] = label(part, network)
    return actions


def video_blockiness(data: Path) -> float | None:
    """Of some frames of some videos at their own size; None where none can be read."""
    videos, found = find_videos(data), []
    for i in sorted({round(i) for i in np.linspace(0, len(videos) - 1, min(len(videos), BLOCKY_VIDEOS))}):
        try:
            facts = probe(videos[i])
            frames = read_frames(videos[i], BLOCKY_FPS, facts.width, facts.height)
            found.append(blockiness(np.stack([frame for _, frame in islice(frames, BLOCKY_FRAMES)])))
        except (InputError, ValueError):
            continue
    known = [f for f in found if np.isfinite(f)]
    return float(np.mean(known)) if known else None


def _infos(cache: Cache, data: Path) -> list[RecordingInfo]:
    return [info for file in filter(None, episode_files(cache, data)) if (info := read_info(file)) is not None]
