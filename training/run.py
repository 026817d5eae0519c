"""The data of a run and its networks, each opened when the first stage asks for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState

from worldgen.actions import ActionMap, check_same_actions
from worldgen.bundle import load_network, network_hashes
from worldgen.config import WorldConfig
from worldgen.data.cache import Cache, open_cache
from worldgen.data.dataset import ClipSampler, Segments, segments_of, split_episodes
from worldgen.data.ingest import find_videos
from worldgen.data.probe import probe
from worldgen.data.progress import say_progress
from worldgen.data.shaping import check_columns
from worldgen.errors import InputError
from worldgen.models.tokenizer import Tokenizer
from worldgen.training.fit import Fit
from worldgen.training.held_out import open_for
from worldgen.training.latent_action import kept_codes, latent_action_map
from worldgen.training.latent_data import check_one_game, playable
from worldgen.training.native_frames import best_scale, is_large
from worldgen.training.presets import Preset, frame_size
from worldgen.training.recipe import Recipe
from worldgen.training.recorded_sound import has_sound, is_whole
from worldgen.training.rollout import PROMPT
from worldgen.training.tokens import tokenize
from worldgen.training.world_facts import known_names

SHARES = {  # of --minutes
    "tokenizer": 0.3, "latent_action": 0.15, "dynamics": 0.6, "heads": 0.1, "super_resolution": 0.1, "between": 0.05,
    "sound_codec": 0.05, "sound": 0.1, "sound_events": 0.05,
}  # fmt: skip
SOUNDS = {"generated": "sound", "retrieved": "sound_events"}  # what a world plays unless told otherwise, the best first
HEARING = ("sound_codec", *SOUNDS.values())  # stages that learn from recorded sound
NUM_CODES = 8  # of latent actions, the most
VALIDATION_HORIZON = 16
Say = Callable[[str], None]


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
        size = f"{self.width}x{self.height}"
        known = self.finished or (WorldConfig.load(recipe.source / "world.json") if recipe.source else None)
        if known is not None and (known.width, known.height) != (self.width, self.height):
            self.width, self.height = known.width, known.height
            size = f"{known.width}x{known.height}, as in {recipe.out if self.finished else recipe.source}, not {size}"
        say(f"data: {recipe.data} at {size}")
        self.cache: Cache = (
            open_for(self.finished, recipe.data, say)
            if self.finished
            else open_cache(recipe.data, height=self.height, width=self.width, on_progress=say_progress(say))
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
        check_columns(self.cache.state, recipe.shaping, "the recordings have")
        self._codes: np.ndarray | None = None

    @property
    def device(self) -> str:
        """Where the whole dataset is encoded and labelled."""
        return "cuda" if torch.cuda.is_available() else "cpu"

    def default_stages(self) -> tuple[str, ...]:
        has_rewards = bool(self.recipe.shaping or (self.cache.reward != 0).any() or self.cache.terminated.any())
        stages = ["tokenizer"] + (["latent_action"] if self.recipe.actions == "latent" else []) + ["dynamics"]
        stages += ["heads"] if has_rewards else []
        if best_scale(self.cache) > 1:
            stages += self._taught(["super_resolution"])
        if has_sound(self.cache).any():
            stages += self._taught(["sound_codec", "sound"])
        return tuple(stages)

    def _taught(self, stages: list[str]) -> list[str]:
        """These, or none where the recordings do not teach all of them, which is said"""
        lack = next(filter(None, map(self._lack, stages)), "")
        if lack:
            self.say(f"  {' and '.join(stages)} left out: {lack}")
        return [] if lack else stages

    def _lack(self, name: str) -> str:
        """What super-resolution or a stage of sound cannot do without, in words; "" where the recordings have it"""
        scale = best_scale(self.cache)
        if name == "super_resolution" and scale < 2:
            return f"most recordings are less than twice the world's {self.width}x{self.height}"
        if name in HEARING and not has_sound(self.cache).any():
            return "no recording has sound"
        kind = "with sound" if name in HEARING else f"of {scale * self.width}x{scale * self.height} or larger"
        for side, segments in zip(("training", "held-out"), self._segments(name), strict=True):
            if not (segments.lengths >= self._length(name)).any():
                return f"no {side} recording holds {self._length(name)} frames {kind}"
        return ""

    def check_lengths(self, stages: tuple[str, ...]) -> None:
        """Raises InputError now rather than hours later where the recordings, or those held out, lack what a stage
        needs, or episodes are shorter than its clips."""
        for name in stages:
            if name in ("super_resolution", *HEARING) and (lack := self._lack(name)):
                raise InputError(f"{self.recipe.data}: {lack}: add recordings, or leave {name} out")
            length = self._length(name)
            train, validation = self._segments(name)
            self.sampler(train, length)
            self.sampler(validation, PROMPT + VALIDATION_HORIZON if name == "dynamics" else length)

    def _segments(self, name: str) -> tuple[Segments, Segments]:
        """Of training and held out, what a stage can learn from, as far as that is known without decoding"""
        if name in HEARING:
            is_kept = has_sound(self.cache) & is_whole(self.cache)
        elif name == "super_resolution":
            is_kept = is_large(self.cache, best_scale(self.cache))
        else:
            return self.train, self.validation
        return segments_of(self.cache, self.train, is_kept), segments_of(self.cache, self.validation, is_kept)

    def _length(self, name: str) -> int:
        """Frames of a stage's clips; those of the sound heads may be as short as episodes are."""
        length = self.preset.fits[name].length
        if name not in SOUNDS.values():
            return length
        return max(2, min(length, *(int(s.lengths.max(initial=0)) for s in self._segments(name))))

    def fit(self, name: str, stages: tuple[str, ...]) -> Fit:
        fit = replace(self.preset.fits[name], length=self._length(name))
        if self.recipe.steps is not None:
            fit = replace(fit, steps=self.recipe.steps, warmup=min(fit.warmup, self.recipe.steps // 10 + 1))
        minutes = None
        if self.recipe.minutes is not None:
            minutes = self.recipe.minutes * SHARES[name] / sum(SHARES[s] for s in stages)
        return replace(fit, minutes=minutes, seed=self.recipe.seed)

    def tokens(self, processes: PartialState | None = None) -> tuple[Tokenizer, np.ndarray]:
        """The tokenizer and the dataset's tokens (N, n, d); processes: those that all call this"""
        tokenizer = load_network(self.recipe.out, "tokenizer").requires_grad_(False).to(self.device)
        return tokenizer, tokenize(self.cache, tokenizer, self.recipe.out, self.say, processes)

    def source_config(self, name: str) -> dict[str, Any] | None:
        """With --from the arguments of the other world's network, if it has one of the name."""
        source = self.recipe.source
        if source is None or not (source / name).is_dir():
            return None
        return {key: value for key, value in load_network(source, name).config.items() if not key.startswith("_")}

    def num_codes(self) -> int:
        """That training begins with: the other world may have dropped some."""
        known = self.source_config("latent_action")
        return NUM_CODES if known is None else int(known["num_codes"])

    def sampler(self, segments: Segments, length: int) -> ClipSampler:
        return ClipSampler(self.cache, segments, length, with_sound=False)

    def fresh(self, make: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """A network whose first weights depend on the seed alone: other networks, that were loaded for its arguments in
        this run and perhaps not in the next, drew numbers too."""
        torch.manual_seed(self.recipe.seed)
        return make(*arguments, **named)

    def begin(self, network: Any, name: str, load: Callable[[Any], None] | None = None) -> Any:
        """A fresh network, or with --from the other world's weights in it, if it has one; load: takes them, strictly by
        default."""
        if self.recipe.source is None or not (self.recipe.source / name).is_dir():
            return network
        known = load_network(self.recipe.source, name)
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
            return self._code_map()
        assert self.cache.action_map is not None
        return self._named(self.cache.action_map)

    def _named(self, actions: ActionMap) -> ActionMap:
        """With the names and keys that the same actions have in the world that is gone on with"""
        path = self.recipe.out / "world.json"
        if not path.is_file():
            return actions
        world = WorldConfig.load(path)
        known = world.actions
        try:
            check_same_actions(known, actions)
        except InputError:
            return actions
        if world.action_source != self.action_source or known.sizes != actions.sizes:
            return actions
        return replace(actions, names=known.names, keys=known.keys or actions.keys)

    def _code_map(self) -> ActionMap:
        """With --from under the other world's names, where its latent-action model was not trained any further."""
        out = self.recipe.out
        model = network_hashes(out, ("latent_action",))["latent_action"]
        for world in (out, self.recipe.source):
            if world is not None and (known := known_names(world, model)) is not None:
                return known
        return latent_action_map(load_network(out, "latent_action").config.num_codes)

    def actions(self) -> np.ndarray:
        """(N, width), row i chosen on frame i"""
        if self.action_source == "recorded":
            return np.asarray(self.cache.actions)
        if self._codes is None:
            self._codes = kept_codes(self.cache, self.recipe.out, self.device, self.say)
        return self._codes

    def config(self) -> WorldConfig:
        has_heads = (self.recipe.out / "heads").is_dir()
        heads = load_network(self.recipe.out, "heads").config if has_heads else None
        worlds = [world / "world.json" for world in (self.recipe.out, self.recipe.source) if world is not None]
        begun_from = next((WorldConfig.load(path) for path in worlds if path.is_file()), None)
        base = self.finished or WorldConfig(
            name=self.recipe.out.resolve().name,
            height=self.height,
            width=self.width,
            fps=self.cache.fps,
            actions=self.action_map(),
            context=self.preset.context,
            action_source=self.action_source,
            nfe=1 if begun_from is None else begun_from.nfe,
        )
        return replace(
            base,
            name=self.recipe.name or base.name,
            has_reward=has_heads,
            has_terminated=has_heads,
            sound=next((mode for mode, name in SOUNDS.items() if (self.recipe.out / name).is_dir()), "off"),
            end_threshold=heads.end_threshold if heads else 0.5,
            shaping=dict(heads.shaping or {}) if heads else {},
        )
