"""worldgen train: all stages in order, from a folder of recordings to a world that plays.

Each stage writes its network into the world's folder; the next one reads it from there. Killed at any moment, the same
command with --resume goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from worldgen.actions import ActionMap
from worldgen.bundle import Starts, find_world, load_network, network_hashes
from worldgen.config import WorldConfig
from worldgen.data.cache import Cache, open_cache
from worldgen.data.dataset import ClipSampler, Segments, split_episodes
from worldgen.data.ingest import find_videos
from worldgen.data.probe import probe
from worldgen.data.progress import say_progress
from worldgen.errors import InputError
from worldgen.files import check_folder_writable, replace_folder, write_json
from worldgen.models.conditioning import action_arguments
from worldgen.models.dynamics import Dynamics
from worldgen.models.heads import Heads
from worldgen.models.latent_action import LatentActionModel
from worldgen.models.tokenizer import Tokenizer
from worldgen.training.checkpoint import read_progress
from worldgen.training.critic import CriticStage
from worldgen.training.dynamics import DynamicsStage
from worldgen.training.fit import Fit, Stage, train_stage
from worldgen.training.folder_lock import sole_training
from worldgen.training.heads import HeadsStage
from worldgen.training.held_out import check_same_actions, known_segments
from worldgen.training.latent_action import LatentActionStage, choose_labels, label, latent_action_map
from worldgen.training.latent_data import check_one_game, playable
from worldgen.training.native_frames import best_scale
from worldgen.training.output_stages import (
    between_stage,
    sound_codec_stage,
    sound_events_stage,
    sound_stage,
    super_resolution_stage,
)
from worldgen.training.presets import Preset, frame_size, get_preset
from worldgen.training.processes import shares_cpu
from worldgen.training.recorded_sound import has_sound
from worldgen.training.rollout import PROMPT, led_to
from worldgen.training.super_resolution import SuperResolutionStage
from worldgen.training.tokenizer import TokenizerStage
from worldgen.training.tokens import tokenize
from worldgen.training.trained_on import TrainedOn
from worldgen.training.uncertainty import measure_uncertainty
from worldgen.uncertainty import FILE as UNCERTAINTY
from worldgen.uncertainty import NETWORKS

STAGES = (
    "tokenizer", "latent_action", "dynamics", "heads", "super_resolution", "between", "sound_codec", "sound",
    "sound_events",
)  # fmt: skip
# the networks that each stands on: where one of them changes, what was trained on it is stale
PARENTS = {
    "tokenizer": (),
    "latent_action": (),
    "dynamics": ("tokenizer", "latent_action"),
    "heads": ("tokenizer", "dynamics"),
    "super_resolution": ("tokenizer",),
    "between": ("tokenizer",),
    "sound_codec": (),
    "sound": ("tokenizer", "dynamics", "sound_codec"),
    "sound_events": ("tokenizer", "dynamics"),
}
CRITICISED = ("tokenizer", "super_resolution")  # the stages that make pictures
SHARES = {  # of --minutes
    "tokenizer": 0.3, "latent_action": 0.15, "dynamics": 0.6, "heads": 0.1, "super_resolution": 0.1, "between": 0.05,
    "sound_codec": 0.05, "sound": 0.1, "sound_events": 0.05,
}  # fmt: skip
SOUNDS = {"generated": "sound", "retrieved": "sound_events"}  # what a world plays unless told otherwise, the best first
WITHOUT_TOKENS = ("tokenizer", "latent_action", "sound_codec")  # stages that read the recordings alone
NUM_STARTS = 10
NUM_CODES = 8  # of latent actions, the most
VALIDATION_HORIZON = 16
Say = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """What a user chose. steps: of every stage, instead of the preset's. minutes: of training in all, shared out.
    sounds: a folder of sounds for the stage sound_events to play instead of the recordings' own. sharpen: weight of the
    critic's losses in CRITICISED, 0 for none. labels: share of the training frames whose recorded action latent actions
    may learn from. shard: of several processes each holds a part of the network."""

    data: Path
    out: Path
    preset: str = "tiny"
    actions: str = "recorded"
    minutes: float | None = None
    steps: int | None = None
    stages: tuple[str, ...] = ()
    source: Path | None = None
    resume: bool = False
    seed: int = 0
    name: str | None = None
    sounds: Path | None = None
    labels: float = 0.0
    sharpen: float = 0.0
    shard: bool = False

    def __post_init__(self) -> None:
        if self.actions not in ("recorded", "latent"):
            raise InputError(f"unknown --actions {self.actions!r}; choose recorded or latent")
        if unknown := [s for s in self.stages if s not in STAGES]:
            raise InputError(f"unknown stage {unknown[0]!r}; choose {', '.join(STAGES)}")
        if self.minutes is not None and self.minutes <= 0:
            raise InputError(f"--minutes is above 0, got {self.minutes}")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"--steps is at least 1, got {self.steps}")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"--seed is between 0 and 2**63, got {self.seed}")
        if self.sounds is not None and "sound_events" not in self.stages:
            raise InputError("--sounds belongs to --stages sound_events")
        if not 0 <= self.labels <= 1:
            raise InputError(f"--labels is a share of the frames, 0 to 1, got {self.labels}")
        if self.labels and self.actions != "latent":
            raise InputError("--labels belongs to --actions latent; recorded actions are all used")
        if not 0 <= self.sharpen <= 1:
            raise InputError(f"--sharpen is between 0 and 1, got {self.sharpen}")
        if self.sharpen and self.stages and not set(self.stages) & set(CRITICISED):
            raise InputError(f"--sharpen belongs to --stages {' '.join(CRITICISED)}")
        if "latent_action" in self.stages and self.actions != "latent":
            raise InputError("the stage latent_action belongs to --actions latent")


def train_world(recipe: Recipe, say: Say = print) -> dict[str, Any]:
    """Trains a world -> a summary: stages with steps and seconds, and where it is.

    Raises InputError before anything is written when the data, the preset or the folder do not fit. Ctrl-C says how to
    go on.
    """
    try:
        return _train_world(recipe, say)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command with --resume goes on from the last checkpoint") from None


def _train_world(recipe: Recipe, say: Say) -> dict[str, Any]:
    preset = get_preset(recipe.preset)
    _check_out(recipe)
    if recipe.source is not None:
        recipe = replace(recipe, source=find_world(recipe.source))
    processes = PartialState(cpu=shares_cpu())
    is_main = processes.is_main_process
    say = say if is_main else lambda text: None
    with processes.main_process_first():  # it decodes the recordings, the others read what it wrote
        run = Run(recipe, preset, say, is_main)
    stages = recipe.stages or run.default_stages()
    run.check_lengths(stages)
    with sole_training(recipe.out) if is_main else contextlib.nullcontext():
        return _train_stages(recipe, run, stages, processes, say)


def _train_stages(
    recipe: Recipe, run: Run, stages: tuple[str, ...], processes: PartialState, say: Say
) -> dict[str, Any]:
    if processes.is_main_process:
        _copy_untrained(recipe, stages)
    processes.wait_for_everyone()
    summary: dict[str, Any] = {"world": str(recipe.out), "preset": recipe.preset, "stages": {}}
    for name in STAGES:
        if name not in stages:
            continue
        fit = run.fit(name, stages)
        began = time.monotonic()
        if name not in WITHOUT_TOKENS and processes.num_processes > 1:
            run.tokens(processes)
        with processes.main_process_first():  # it prepares what else there is, the others read what it wrote
            stage = run.stage(name, fit)
            if recipe.sharpen and isinstance(stage, TokenizerStage | SuperResolutionStage):
                stage = CriticStage(stage, recipe.sharpen)
        progress = train_stage(
            stage, fit, recipe.out, resume=recipe.resume, parents=network_hashes(recipe.out, PARENTS[name]),
            shard=recipe.shard, say=say,
        )  # fmt: skip
        summary["stages"][name] = {"steps": progress.step, "seconds": round(progress.seconds, 1)}
        if name == "latent_action" and processes.is_main_process:
            kept, most = load_network(recipe.out, name).config.num_codes, run.num_codes()
            say(
                f"  {kept} of {most} codes are in use"
                + (": the others explained next to nothing and were dropped" if kept < most else "")
            )
        say(f"{name} done in {time.monotonic() - began:.0f} s")
        if name not in ("tokenizer", "latent_action"):
            run.write_facts()
        if name == ("heads" if "heads" in stages else "dynamics"):
            run.write_uncertainty(fit.length)
        processes.wait_for_everyone()
    return summary


def _check_out(recipe: Recipe) -> None:
    check_folder_writable(recipe.out, "--out")

    def is_begun(stage: str) -> bool:
        return (recipe.out / stage).exists() or read_progress(recipe.out / "training" / stage) is not None

    if not recipe.resume and (again := [s for s in recipe.stages or STAGES if is_begun(s)]):
        raise InputError(f"{recipe.out} already holds a trained {again[0]}: add --resume, or choose another --out")


def _copy_untrained(recipe: Recipe, stages: Sequence[str]) -> None:
    """With --from: the networks of the other world that this run needs and does not train."""
    if recipe.source is None:
        return
    for name in STAGES:
        if name not in stages and (recipe.source / name).is_dir() and not (recipe.out / name).exists():
            temporary = recipe.out / f".{name}.tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.copytree(recipe.source / name, temporary)
            replace_folder(temporary, recipe.out / name)
    source, out = recipe.source / UNCERTAINTY, recipe.out / UNCERTAINTY
    if not set(NETWORKS) & set(stages) and source.is_file() and not out.exists():
        shutil.copy(source, out)


def _device() -> str:
    """Where the whole dataset is encoded and labelled."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def known_names(world: Path) -> ActionMap | None:
    """What somebody called the codes of the latent-action model that is in the folder; None where nobody did, or it was
    another one."""
    try:
        facts = json.loads((world / "training" / "data.json").read_text(encoding="utf-8"))
        is_same = facts["latent_action"] == network_hashes(world, ("latent_action",)).get("latent_action")
        return WorldConfig.load(world / "world.json").actions if is_same else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _video_size(data: Path) -> tuple[int, int]:
    """Width and height of the first video that can be read."""
    error: InputError | None = None
    for video in find_videos(data):
        try:
            facts = probe(video)
            return facts.width, facts.height
        except InputError as refusal:
            error = error or refusal
    assert error is not None  # find_videos() gives at least one
    raise error


def _finished(recipe: Recipe) -> WorldConfig | None:
    """The world in --out, where only further stages are added to it: its size, rate and actions stay."""
    path = recipe.out / "world.json"
    is_added_to = recipe.stages and not {"tokenizer", "latent_action", "dynamics"} & set(recipe.stages)
    return WorldConfig.load(path) if is_added_to and path.is_file() else None


class Run:
    """The data and the networks of one run; each is opened when the first stage asks for it."""

    def __init__(self, recipe: Recipe, preset: Preset, say: Say, is_main: bool = True):
        self.recipe, self.preset, self.say, self.is_main = recipe, preset, say, is_main
        self.finished = _finished(recipe)
        self.action_source = self.finished.action_source if self.finished else recipe.actions
        self.width, self.height = frame_size(preset.side, *_video_size(recipe.data))
        known = self.finished or (WorldConfig.load(recipe.source / "world.json") if recipe.source else None)
        if known is not None:
            self.width, self.height = known.width, known.height
        say(f"data: {recipe.data} at {self.width}x{self.height}")
        self.cache: Cache = open_cache(
            recipe.data,
            height=self.height,
            width=self.width,
            fps=self.finished.fps if self.finished else None,
            on_progress=say_progress(say),
        )
        for note in self.cache.notes:
            say(f"  {note}")
        refused = [r for r in self.cache.reports if r.status == "refused"]
        for report in refused:
            say(f"  left out {report.path}: {report.reason}")
        self.train, self.validation = split_episodes(self.cache)
        say(
            f"  {self.cache.num_frames} frames at {self.cache.fps:g} fps in {self.cache.num_episodes} episodes; "
            f"{self.validation.num_frames} frames held out"
        )
        if self.action_source == "latent":
            check_one_game(recipe.data, self.cache)
            length = preset.fits["dynamics"].length
            self.train, self.validation = (
                playable(self.cache, segments, length, say) for segments in (self.train, self.validation)
            )
        if self.action_source == "recorded" and self.cache.actions is None:
            raise InputError(
                f"{recipe.data} has no recorded actions (no sidecar beside any video): use --actions latent"
            )
        if self.finished and self.action_source == "recorded" and self.cache.action_map is not None:
            check_same_actions(self.finished.actions, self.cache.action_map)
        self._labels: np.ndarray | None = None

    def default_stages(self) -> tuple[str, ...]:
        has_rewards = bool((self.cache.reward != 0).any() or self.cache.terminated.any())
        stages = ["tokenizer"] + (["latent_action"] if self.recipe.actions == "latent" else []) + ["dynamics"]
        stages += ["heads"] if has_rewards else []
        stages += ["super_resolution"] if best_scale(self.cache, self.recipe.data) > 1 else []
        stages += ["sound_codec", "sound"] if has_sound(self.cache, self.recipe.data) else []
        return tuple(stages)

    def check_lengths(self, stages: tuple[str, ...]) -> None:
        """Raises InputError now rather than hours later where episodes are shorter than the clips of a stage."""
        for name in stages:
            length = self.preset.fits[name].length
            self.sampler(self.train, length)
            self.sampler(self.validation, PROMPT + VALIDATION_HORIZON if name == "dynamics" else length)

    def fit(self, name: str, stages: tuple[str, ...]) -> Fit:
        fit = self.preset.fits[name]
        if self.recipe.steps is not None:
            fit = replace(fit, steps=self.recipe.steps, warmup=min(fit.warmup, self.recipe.steps // 10 + 1))
        minutes = None
        if self.recipe.minutes is not None:
            minutes = self.recipe.minutes * SHARES[name] / sum(SHARES[s] for s in stages)
        return replace(fit, minutes=minutes, seed=self.recipe.seed)

    def stage(self, name: str, fit: Fit) -> Stage:
        train, validation = self.sampler(self.train, fit.length), self.sampler(self.validation, fit.length)
        if name == "tokenizer":
            network = self.fresh(Tokenizer, height=self.height, width=self.width, **self.preset.tokenizer)
            return TokenizerStage(self.begin(network, name), train, validation, fit.batch)
        if name == "latent_action":
            return self._latent_action_stage(fit, train, validation)
        if name == "sound_codec":
            return sound_codec_stage(self, fit)
        tokenizer, tokens = self.tokens()
        if name == "dynamics":
            network = self.fresh(
                Dynamics.of_tokens, tokenizer, context=self.preset.context, **action_arguments(self.action_map()),
                **self.preset.dynamics, **self._correction(),
            )  # fmt: skip
            self.write_facts()
            network = self.begin(network, name)
            network.motion.take_basis(tokenizer)  # with --from it came with another's
            return DynamicsStage(
                network, tokenizer, self.config(), self.cache, tokens, self.actions(), train,
                self._rollouts(), fit.batch,
            )  # fmt: skip
        if name == "super_resolution":
            return super_resolution_stage(self, fit, tokenizer, tokens)
        if name == "between":
            return between_stage(self, fit, tokenizer, tokens)
        if name == "sound":
            return sound_stage(self, fit, tokens, _device())
        if name == "sound_events":
            return sound_events_stage(self, fit, tokens, _device())
        dynamics = load_network(self.recipe.out, "dynamics")
        network = self.fresh(Heads, hidden_dim=dynamics.config.dim, **self.preset.heads)
        return HeadsStage(
            self.begin(network, name), dynamics, self.action_map(), self.config().context_sigma, self.cache, tokens,
            self.actions(), train, validation, fit.batch,
        )  # fmt: skip

    def tokens(self, processes: PartialState | None = None) -> tuple[Tokenizer, np.ndarray]:
        """The tokenizer and the dataset's tokens (N, n, d); processes: those that all call this"""
        tokenizer = load_network(self.recipe.out, "tokenizer").requires_grad_(False).to(_device())
        return tokenizer, tokenize(self.cache, tokenizer, self.recipe.out, self.say, processes)

    def _latent_action_stage(self, fit: Fit, train: ClipSampler, validation: ClipSampler) -> Stage:
        labels = None
        if self.recipe.labels:
            labels = choose_labels(self.cache, self.train, self.recipe.labels, self.recipe.seed)
            self.say(
                f"  {len(labels.rows)} frames with their recorded action draw the codes towards {len(labels.names)}"
            )
        network = self.fresh(
            LatentActionModel,
            height=self.height,
            width=self.width,
            num_codes=self.num_codes(),
            num_labels=len(labels.names) if labels else 0,
            **self.preset.latent_action,
        )
        return LatentActionStage(self.begin(network, "latent_action"), train, validation, fit.batch, labels)

    def _correction(self) -> dict[str, str]:
        """With --from that of the other world's dynamics stays."""
        if self.recipe.source is None or not (self.recipe.source / "dynamics").is_dir():
            return {}
        return {"correction": load_network(self.recipe.source, "dynamics").config.correction}

    def num_codes(self) -> int:
        """That training begins with: the other world may have dropped some."""
        if self.recipe.source is not None and (self.recipe.source / "latent_action").is_dir():
            return int(load_network(self.recipe.source, "latent_action").config.num_codes)
        return NUM_CODES

    def sampler(self, segments: Segments, length: int) -> ClipSampler:
        return ClipSampler(self.cache, segments, length, with_sound=False)

    def _rollouts(self) -> ClipSampler | None:
        """Held-out clips to look at while training: every action in them is known. None where there are none."""
        length = PROMPT + VALIDATION_HORIZON
        segments = known_segments(self.validation, (self.actions() != self.action_map().null()).any(-1))
        if (segments.lengths >= length).any():
            return self.sampler(segments, length)
        self.say(f"  no {length} frames in a row with known actions are held out: the dynamics is not validated")
        return None

    def fresh(self, make: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """A network whose first weights depend on the seed alone: other networks, that were loaded for its arguments in
        this run and perhaps not in the next, drew numbers too."""
        torch.manual_seed(self.recipe.seed)
        return make(*arguments, **named)

    def begin(self, network: Any, name: str, load: Callable[[Any], None] | None = None) -> Any:
        """A fresh network, or with --from the other world's weights in it, if it has one of the kind; load: takes them,
        strictly by default."""
        if self.recipe.source is None or not (self.recipe.source / name).is_dir():
            return network
        known = load_network(self.recipe.source, name)
        if type(known) is not type(network):
            self.say(f"  the {name} of {self.recipe.source} is of a former kind: it is trained anew")
            return network
        try:
            load(known) if load is not None else network.load_state_dict(known.state_dict())
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise InputError(
                f"--from {self.recipe.source}: its {name} does not fit this preset and data ({reason})"
            ) from None
        return network

    # The world's facts

    def action_map(self) -> ActionMap:
        if self.finished is not None:
            return self.finished.actions
        if self.action_source == "latent":
            return known_names(self.recipe.out) or latent_action_map(
                load_network(self.recipe.out, "latent_action").config.num_codes
            )
        assert self.cache.action_map is not None
        return self.cache.action_map

    def actions(self) -> np.ndarray:
        """(N, width), row i chosen on frame i"""
        if self.action_source == "recorded":
            return np.asarray(self.cache.actions)
        if self._labels is None:
            self.say(f"labelling {self.cache.num_frames} frames with latent actions")
            network = load_network(self.recipe.out, "latent_action").to(_device())
            self._labels = label(self.cache, network)
        return self._labels

    def config(self) -> WorldConfig:
        has_heads = (self.recipe.out / "heads").is_dir()
        heads = load_network(self.recipe.out, "heads").config if has_heads else None
        base = self.finished or WorldConfig(
            name=self.recipe.out.resolve().name,
            height=self.height,
            width=self.width,
            fps=self.cache.fps,
            actions=self.action_map(),
            context=self.preset.context,
            action_source=self.action_source,
        )
        return replace(
            base,
            name=self.recipe.name or base.name,
            has_reward=has_heads,
            has_terminated=has_heads,
            sound=next((mode for mode, name in SOUNDS.items() if (self.recipe.out / name).is_dir()), "off"),
            end_threshold=heads.end_threshold if heads else 0.5,
        )

    def write_facts(self) -> None:
        """world.json, the starts, and which episodes were trained on. What a finished world's further stages are
        trained on, a few labelled clips perhaps, is no place to begin games from."""
        if not self.is_main:
            return
        names, starts = self.cache.episode_names, self.cache.starts
        trained = set(np.searchsorted(starts, self.train.starts, side="right") - 1)
        held = np.searchsorted(starts, self.validation.starts, side="right") - 1
        facts = {
            "data": str(self.recipe.data),
            "train": [name for i, name in enumerate(names) if i in trained],
            "held_out": [names[i] for i in sorted(set(held) - trained)],
            "held_out_from": {  # of an episode that was split: its first held-out frame
                names[i]: int(self.validation.starts[held == i].min() - starts[i]) for i in set(held) & trained
            },
        }
        if self.action_source == "latent":
            facts["latent_action"] = network_hashes(self.recipe.out, ("latent_action",))["latent_action"]
        write_json(self.recipe.out / "world.json", self.config().to_json())
        path = self.recipe.out / "training" / "data.json"
        if self.finished is None or not path.is_file():
            write_json(path, facts)
        else:
            before = json.loads(path.read_text(encoding="utf-8"))
            write_json(path, {**before, "train": sorted({*before["train"], *facts["train"]})})
        if self.finished is None or Starts.load(self.recipe.out) is None:
            self._starts().save(self.recipe.out)
        self._trained_on().save(self.recipe.out)

    def _trained_on(self) -> TrainedOn:
        """With what this world, and the one it began from, had seen before"""
        out, source = self.recipe.out, self.recipe.source
        seen = TrainedOn.of_split(self.cache, self.recipe.data, self.train, self.validation)
        if (before := TrainedOn.load(out)) is not None:
            seen |= before
        if source is not None:
            seen |= TrainedOn.load(source) or TrainedOn({}, is_complete=False)
        return seen

    def write_uncertainty(self, length: int) -> None:
        """What the hidden states of recorded frames are like, from clips of so many frames."""
        if not self.is_main or (self.finished and (self.recipe.out / UNCERTAINTY).is_file()):
            return
        tokenizer, dynamics = (load_network(self.recipe.out, name).to(_device()) for name in NETWORKS)
        tokens = tokenize(self.cache, tokenizer, self.recipe.out, self.say)
        measure_uncertainty(
            self.recipe.out, dynamics, self.action_map(), self.config().context_sigma, tokens, self.actions(),
            self.sampler(self.train, length), self.sampler(self.validation, length),
        )  # fmt: skip

    def _starts(self) -> Starts:
        """Beginnings from the training episodes, PROMPT frames each, none within two seconds of an episode's end."""
        length = min(PROMPT + int(2 * self.cache.fps), int(self.train.lengths.max()))
        picks = self.sampler(self.train, length).even_starts(NUM_STARTS)
        rows = picks[:, None] + np.arange(PROMPT)
        frames = np.stack([np.asarray(self.cache.frames[r[0] : r[-1] + 1]) for r in rows])
        return Starts(frames, led_to(self.action_map(), self.actions()[rows]))
