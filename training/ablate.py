"""Reruns the table of choices: what each part of the dynamics is worth, with the same data and the same budget.

    python -m worldgen.training.ablate recordings/doom --out ablation.md --steps 1500

Every variant is the preset with one thing changed (variants.py). One seed screens all of them; those that beat the
preset, and the preset itself, are trained with two more. Everything lies beside the table, in ablation/: a killed run
goes on where it was, and a variant that is done is not trained again. Figures are of held-out episodes, on torch.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported, as in worldgen/cli.py

import numpy as np
import torch
import tyro

from worldgen import command
from worldgen.backends.torch_backend import TorchBackend
from worldgen.config import WorldConfig
from worldgen.data.dataset import ClipSampler
from worldgen.errors import InputError
from worldgen.files import check_writable, write_bytes, write_json
from worldgen.models.conditioning import action_arguments
from worldgen.models.dynamics import Dynamics
from worldgen.models.tokenizer import Tokenizer
from worldgen.training.ablation_table import Results, markdown, winners
from worldgen.training.compiled import check_compiler
from worldgen.training.control import delta_psnr_figures
from worldgen.training.dynamics import DynamicsLoss, DynamicsStage
from worldgen.training.evaluate import for_json
from worldgen.training.fit import Fit, train_stage
from worldgen.training.ground import Ground, prepare
from worldgen.training.held_out import HeldOut, open_held_out
from worldgen.training.inverse_dynamics import inverse_dynamics_figures
from worldgen.training.log import usual_rate
from worldgen.training.nfe import nfe_figures
from worldgen.training.picture import picture_figures
from worldgen.training.presets import get_preset
from worldgen.training.recipe import Recipe
from worldgen.training.replay import replay
from worldgen.training.rollout import PROMPT
from worldgen.training.variants import VARIANTS, Variant
from worldgen.world import World

BASE = "preset"
HORIZONS = (1, 4, 16, 64)  # frames after the prompt; those that held-out episodes are long enough for
SHARP = 16  # of them, where sharpness is taken
Say = Callable[[str], None]


@dataclass(frozen=True)
class Ablation:
    data: Annotated[Path, tyro.conf.Positional]
    """folder of recordings with actions"""
    out: Path
    """the table, a .md; the figures go into a .json and the runs into a folder of the same name"""
    preset: str = "tiny"
    """tiny, fine, pixel, small or base"""
    steps: int = 1500
    """of the dynamics, for every variant"""
    tokenizer_steps: int | None = None
    """of each tokenizer that is trained; by default the preset's"""
    tokenizer: str | None = None
    """take this world's tokenizer instead of training one"""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """only these"""
    seeds: int = 3
    """that the preset and what beats it are trained with; the others with one"""
    most_winners: int = 3
    """how many that beat the preset are trained with all seeds"""
    clips: int = 48
    """held-out clips"""
    compile: bool = False
    """through torch.compile, as in `worldgen train --compile`"""

    def __post_init__(self) -> None:
        if unknown := [v for v in self.variants if v not in VARIANTS]:
            raise InputError(f"unknown variant {unknown[0]!r}; choose {', '.join(VARIANTS)}")
        for name in ("steps", "seeds", "clips"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} is at least 1, got {getattr(self, name)}")
        if self.compile:
            check_compiler()
        if self.out.suffix != ".md":
            raise InputError(f"--out {self.out} is a table in Markdown: call it {self.out.with_suffix('.md').name}")

    @property
    def folder(self) -> Path:
        return self.out.with_suffix("")


def ablate(ablation: Ablation, words: str = "", say: Say = print) -> Results:
    """words: the command that makes the table, as it stands in it -> the figures of every variant. Writes the table
    anew after each."""
    check_writable(ablation.out, "--out")
    results: Results = {}
    bench = _Bench(ablation, say)

    def measure(names: Sequence[str], seeds: Sequence[int]) -> None:
        for seed in seeds:
            for name in names:
                results.setdefault(name, []).append(bench.figures(name, seed))
                about = {n: _variant(n).about for n in results}
                write_bytes(ablation.out, markdown(results, about, BASE, bench.facts(), words).encode())
                write_json(ablation.out.with_suffix(".json"), results)

    changed = [name for name in ablation.variants if VARIANTS[name].changes(bench.preset)]
    if same := [name for name in ablation.variants if name not in changed]:
        say(f"left out, because the preset {ablation.preset} is so already: {', '.join(same)}")
    measure([BASE, *changed], [0])
    if ablation.seeds > 1:
        names = [BASE, *winners(results, BASE, ablation.most_winners)]
        say(f"trained with {ablation.seeds} seeds: {', '.join(names)}")
        measure(names, range(1, ablation.seeds))
    say(f"table: {ablation.out}")
    return results


def _variant(name: str) -> Variant:
    return Variant("nothing") if name == BASE else VARIANTS[name]


class _Bench:
    """Trains and measures variants; keeps in ablation.folder what is done."""

    def __init__(self, ablation: Ablation, say: Say):
        self._ablation, self._say = ablation, say
        self.preset = get_preset(ablation.preset)
        self._grounds: dict[str, tuple[Ground, HeldOut]] = {}

    def facts(self) -> str:
        (ground, _), fit = self._ground(BASE), self._fit(_variant(BASE), 0)
        cache = ground.run.cache
        return (
            f"{cache.num_frames} frames in {cache.num_episodes} episodes at {cache.width}x{cache.height}, preset "
            f"{self._ablation.preset}, {fit.steps} steps of {fit.batch} x {fit.length} frames; measured on held-out "
            f"episodes, {self._ablation.clips} clips at most, nfe {ground.config.nfe}"
        )

    def figures(self, name: str, seed: int) -> dict[str, Any]:
        variant, folder = _variant(name), self._ablation.folder / f"{name.replace(' ', '-')}-{seed}"
        (ground, held_out), fit = self._ground(name), self._fit(variant, seed)
        choices = {k: v for k, v in asdict(fit).items() if not k.endswith("_seconds")}
        settings = variant.facts() | {"schedule": choices, "data": ground.run.cache.path.name}
        settings |= {"clips": self._ablation.clips, "preset": self._ablation.preset, "compile": self._ablation.compile}
        settings |= {"dynamics": self.preset.dynamics, "tokenizer": self.preset.tokenizer}
        settings |= {"loss": asdict(self._loss(variant)), "nfe": ground.config.nfe}
        kept, done = folder / "settings.json", folder / "figures.json"
        if kept.is_file() and json.loads(kept.read_text()) != json.loads(json.dumps(settings)):
            raise InputError(f"{folder} was made with other settings: remove it, or choose another --out")
        if done.is_file():
            self._say(f"{name}, seed {seed}: done before")
            return json.loads(done.read_text())
        write_json(kept, settings)
        self._say(f"{name}, seed {seed}: changes {variant.about}")
        figures: dict[str, Any] = for_json(self._train(variant, fit, ground, held_out, folder))
        write_json(done, figures)
        return figures

    def _train(self, variant: Variant, fit: Fit, ground: Ground, held_out: HeldOut, folder: Path) -> dict[str, Any]:
        run = ground.run
        torch.manual_seed(fit.seed)  # of the first weights
        network = variant.network_class.of_tokens(
            ground.tokenizer,
            context=self.preset.context,
            **action_arguments(run.action_map()),
            **(self.preset.dynamics | variant.network),
        )
        clips = ClipSampler(run.cache, run.train, fit.length, with_sound=False)
        stage = DynamicsStage(
            network, ground.tokenizer, ground.config, run.cache, ground.tokens, run.actions(), clips, None, fit.batch,
            self._loss(variant),
        )  # fmt: skip
        torch.compiler.reset()  # of the variants before: there is a limit to how many kinds of one function it keeps
        train_stage(stage, fit, folder, resume=True, compiled=self._ablation.compile, say=self._say)
        trained = variant.network_class.from_pretrained(folder / "dynamics").eval().requires_grad_(False)
        figures = measure(ground.tokenizer, trained, ground.config, held_out, self._ablation.clips)
        return figures | {
            "parameters": sum(p.numel() for p in trained.parameters()),
            "frames_per_second": usual_rate(folder / "training" / stage.name),
        }

    def _loss(self, variant: Variant) -> DynamicsLoss:
        return DynamicsLoss(**self.preset.loss | variant.loss)

    def _fit(self, variant: Variant, seed: int) -> Fit:
        usual, steps = self.preset.fits["dynamics"], self._ablation.steps
        return replace(usual, steps=steps, warmup=min(usual.warmup, steps // 10 + 1), seed=seed, **variant.fit)

    def _ground(self, name: str) -> tuple[Ground, HeldOut]:
        changes = _variant(name).tokenizer
        key = f"tokenizer-{name.replace(' ', '-')}" if changes else "tokenizer"
        if key not in self._grounds:
            self._grounds[key] = self._prepare(self._ablation.folder / key, changes)
        return self._grounds[key]

    def _prepare(self, folder: Path, changes: dict[str, Any]) -> tuple[Ground, HeldOut]:
        """What all variants with one tokenizer share; changes: of the tokenizer's arguments"""
        recipe = Recipe(self._ablation.data, folder, steps=self._ablation.tokenizer_steps)
        preset = replace(self.preset, tokenizer=self.preset.tokenizer | changes)
        ground = prepare(recipe, preset, None if changes else self._ablation.tokenizer, self._say)
        held_out = open_held_out(folder, ground.config, self._ablation.data, lambda text: None)
        if not _horizons(held_out):
            raise InputError(f"{self._ablation.data}: no held-out episode has {PROMPT + 1} frames: record longer ones")
        return ground, held_out


def _horizons(held_out: HeldOut) -> list[int]:
    longest = int(held_out.segments.lengths.max(initial=0))
    return [h for h in HORIZONS if PROMPT + h <= longest]


def measure(
    tokenizer: Tokenizer, dynamics: Dynamics, config: WorldConfig, held_out: HeldOut, clips: int
) -> dict[str, Any]:
    """-> the figures of the table, by the keys of ablation_table.COLUMNS"""
    horizons = _horizons(held_out)
    steps = max(horizons)
    starts = held_out.clips(clips, PROMPT + steps)
    rows = starts[:, None] + np.arange(PROMPT + steps)
    frames, actions, episode = held_out.frames(rows), held_out.actions[rows], held_out.episode_of(starts)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    world = World(config, TorchBackend(tokenizer, dynamics, device=device), batch=len(starts))
    played = replay(world, frames, actions, episode, steps)
    picture = picture_figures(played, horizons)
    read = inverse_dynamics_figures(world, held_out, starts, played)
    by_nfe = nfe_figures(world, played, frames[:, :PROMPT], actions)
    figures: dict[str, Any] = {f"skill_changed_{h}": picture[str(h)]["skill_changed"] for h in horizons}
    figures |= {f"skill_{h}": picture[str(h)]["skill"] for h in horizons}
    if SHARP in horizons:
        figures[f"gradient_energy_ratio_{SHARP}"] = picture[str(SHARP)]["gradient_energy_ratio"]
    return figures | {
        "delta_psnr": delta_psnr_figures(world, frames, actions, played.made, episode)["delta_psnr"],
        "inverse_dynamics": None if isinstance(read, str) else read["recorded_ratio"],
        "inverse_dynamics_random": None if isinstance(read, str) else read["random_ratio"],
        "loss_of_one_step": by_nfe["1"]["loss"],
    }


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)

    def work() -> int:
        options = command.parse(Ablation, "ablate", words, __doc__)
        ablate(options, shlex.join(["python", "-m", "worldgen.training.ablate", *words]))
        return 0

    return command.run("ablate", work)


if __name__ == "__main__":
    sys.exit(main())
