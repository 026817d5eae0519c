"""What a run writes into a world besides its networks: world.json, starts, what it was trained on, and the
statistics of its uncertainty."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from worldgen.actions import ActionMap
from worldgen.bundle import Starts, load_network, network_hashes
from worldgen.config import WorldConfig
from worldgen.files import write_json
from worldgen.training.recorded_sound import SoundFormat, recorded_sound
from worldgen.training.rollout import PROMPT, led_to
from worldgen.training.tokens import tokenize
from worldgen.training.trained_on import TrainedOn
from worldgen.training.uncertainty import measure_uncertainty
from worldgen.uncertainty import FILE as UNCERTAINTY
from worldgen.uncertainty import NETWORKS

if TYPE_CHECKING:
    from worldgen.training.run import Run

NUM_STARTS = 10


def write_facts(run: Run) -> None:
    """world.json, the starts, and which episodes were trained on. What a finished world's further stages are
    trained on, a few labelled clips perhaps, is no place to begin games from."""
    if not run.is_main:
        return
    names, starts = run.cache.episode_names, run.cache.starts
    trained = set(np.searchsorted(starts, run.train.starts, side="right") - 1)
    held = np.searchsorted(starts, run.validation.starts, side="right") - 1
    facts = {
        "data": str(run.recipe.data),
        "train": [name for i, name in enumerate(names) if i in trained],
        "held_out": [names[i] for i in sorted(set(held) - trained)],
        "held_out_from": {  # of an episode that was split: its first held-out frame
            names[i]: int(run.validation.starts[held == i].min() - starts[i]) for i in set(held) & trained
        },
    }
    if run.action_source == "latent":
        facts |= network_hashes(run.recipe.out, ("latent_action",))  # a published world has come without it
    write_json(run.recipe.out / "world.json", run.config().to_json())
    path = run.recipe.out / "training" / "data.json"
    if run.finished is None or not path.is_file():
        write_json(path, facts)
    else:
        before = json.loads(path.read_text(encoding="utf-8"))
        write_json(path, {**before, "train": sorted({*before["train"], *facts["train"]})})
    _write_starts(run)
    _trained_on(run).save(run.recipe.out)


def _trained_on(run: Run) -> TrainedOn:
    """With what this world, and the one it began from, had seen before"""
    out, source = run.recipe.out, run.recipe.source
    seen = TrainedOn.of_split(run.cache, run.recipe.data, run.train, run.validation)
    before = TrainedOn.load(out)
    if before is None and run.finished is not None:
        before = TrainedOn({}, is_complete=False)
    if before is not None:
        seen |= before
    if source is not None:
        seen |= TrainedOn.load(source) or TrainedOn({}, is_complete=False)
    return seen


def _write_starts(run: Run) -> None:
    """A finished world keeps its own, which get their sound where they are of these recordings."""
    known = Starts.load(run.recipe.out) if run.finished is not None else None
    heard = _codec_format(run)
    if known is not None and (heard is None or _has_sound(known, heard)):
        return
    rows = _start_rows(run)
    frames = np.asarray(run.cache.frames[rows.ravel()]).reshape(*rows.shape, *run.cache.frames.shape[1:])
    is_here = known is None or np.array_equal(known.frames, frames)
    sound = _start_sound(run, rows, heard) if heard is not None and is_here else None
    if known is None:
        known = Starts(frames, led_to(run.action_map(), run.actions()[rows]))
    replace(known, sound=sound).save(run.recipe.out)


def _start_rows(run: Run) -> np.ndarray:
    """(s, PROMPT) of the cache: beginnings from the training episodes, none within two seconds of an episode's end"""
    length = min(PROMPT + int(2 * run.cache.fps), int(run.train.lengths.max()))
    return run.sampler(run.train, length).even_starts(NUM_STARTS)[:, None] + np.arange(PROMPT)


def _codec_format(run: Run) -> SoundFormat | None:
    is_there = (run.recipe.out / "sound_codec").is_dir()
    return SoundFormat.of(load_network(run.recipe.out, "sound_codec").config) if is_there else None


def _has_sound(starts: Starts, heard: SoundFormat) -> bool:
    return starts.sound is not None and starts.sound.shape[2:] == (heard.samples, heard.channels)


def _start_sound(run: Run, rows: np.ndarray, heard: SoundFormat) -> np.ndarray | None:
    """rows of _start_rows() -> as in Starts; None unless it is known of all"""
    episodes = np.searchsorted(run.cache.starts, rows[:, 0], side="right") - 1
    recorded = recorded_sound(run.cache, run.recipe.data, heard, say=lambda text: None, episodes=episodes)
    return recorded.sound[rows] if recorded.is_usable[episodes].all() else None


def write_uncertainty(run: Run, length: int) -> None:
    """What the hidden states of recorded frames are like, from clips of so many frames."""
    if not run.is_main or (run.finished and (run.recipe.out / UNCERTAINTY).is_file()):
        return
    tokenizer, dynamics = (load_network(run.recipe.out, name).to(run.device) for name in NETWORKS)
    tokens = tokenize(run.cache, tokenizer, run.recipe.out, run.say)
    measure_uncertainty(
        run.recipe.out, dynamics, run.action_map(), run.config().context_sigma, tokens, run.actions(),
        run.sampler(run.train, length), run.sampler(run.validation, length),
    )  # fmt: skip


def known_names(world: Path, model: str) -> ActionMap | None:
    """What somebody called the codes of the latent-action model of this hash, in a world's folder; None where nobody
    did, or the world's is another one."""
    facts = world / "training" / "data.json"
    try:
        if facts.is_file():
            named = json.loads(facts.read_text(encoding="utf-8"))["latent_action"]
        else:  # published
            named = network_hashes(world, ("latent_action",))["latent_action"]
        return WorldConfig.load(world / "world.json").actions if named == model else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
