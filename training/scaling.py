"""Measures how training scales: frames a second by processes, and the loss by parameters.

    python -m worldgen.training.scaling recordings/doom --out scaling.md --tokenizer doom

Dynamics of three widths see the same batches for the same number of steps; the loss is of held-out episodes, from data
alone. Then the widest trains in 1, 2, ... processes of one thread each. Both end after --minutes of each training at
the latest, and the table says at which step.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported, as in worldgen/cli.py

import numpy as np
import torch
import tyro
from torch import nn

from worldgen import command
from worldgen.bundle import load_network
from worldgen.data.dataset import ClipSampler, Segments
from worldgen.errors import InputError, RunError
from worldgen.files import check_writable, write_bytes, write_json
from worldgen.models.conditioning import action_arguments
from worldgen.models.dynamics import Dynamics
from worldgen.training.dynamics import DynamicsStage
from worldgen.training.fit import Fit, train_stage
from worldgen.training.ground import Ground, prepare
from worldgen.training.pipeline import train_world
from worldgen.training.presets import get_preset
from worldgen.training.recipe import Recipe

WIDTHS = (4, 2, 1)  # the preset's, divided by these
Say = Callable[[str], None]


@dataclass(frozen=True)
class Scaling:
    data: Annotated[Path, tyro.conf.Positional]
    """folder of recordings with actions"""
    out: Path
    """the tables, a .md; the figures go into a .json and the runs into a folder of the same name"""
    preset: str = "tiny"
    """tiny, fine, pixel, small or base"""
    steps: int = 150
    """of the dynamics, for every width"""
    process_steps: int = 12
    """of the dynamics, for every number of processes"""
    processes: tuple[int, ...] = (1, 2)
    """how many train at once"""
    tokenizer: str | None = None
    """take this world's tokenizer instead of training one"""
    tokenizer_steps: int | None = None
    """of the tokenizer that is trained; by default the preset's"""
    minutes: float = 10.0
    """at most, for each training"""
    batches: int = 16
    """held-out batches that the loss is of"""

    def __post_init__(self) -> None:
        if self.out.suffix != ".md":
            raise InputError(f"--out {self.out} is a table in Markdown: call it {self.out.with_suffix('.md').name}")
        if self.process_steps < 3 or any(number < 1 for number in self.processes):
            raise InputError("--process-steps is at least 3 and --processes at least 1")

    @property
    def folder(self) -> Path:
        return self.out.with_suffix("")


def scaling(choices: Scaling, words: str = "", say: Say = print) -> dict[str, Any]:
    """words: the command that makes the tables -> {"sizes": [...], "processes": [...]}. Writes both anew after each
    training; what was trained before is not trained again."""
    check_writable(choices.out, "--out")
    preset = get_preset(choices.preset)
    recipe = Recipe(choices.data, choices.folder, preset=choices.preset, steps=choices.tokenizer_steps)
    ground = prepare(recipe, preset, choices.tokenizer, say)
    figures: dict[str, Any] = {"sizes": [], "processes": []}

    def add(kind: str, found: dict[str, Any]) -> None:
        figures[kind].append(found)
        write_json(choices.out.with_suffix(".json"), figures)
        write_bytes(choices.out, tables(figures, ground, choices, words).encode())

    for divisor in WIDTHS:
        add("sizes", _size(choices, ground, divisor, say))
    for number in choices.processes:
        add("processes", _processes(choices, number, say))
    say(f"tables: {choices.out}")
    return figures


def _size(choices: Scaling, ground: Ground, divisor: int, say: Say) -> dict[str, Any]:
    preset, run = get_preset(choices.preset), ground.run
    heads = max(1, preset.dynamics["num_heads"] // divisor)
    sizes = preset.dynamics | {"dim": preset.dynamics["dim"] // preset.dynamics["num_heads"] * heads}
    torch.manual_seed(0)
    network = Dynamics.of_tokens(
        ground.tokenizer, context=preset.context, **action_arguments(run.action_map()), **sizes | {"num_heads": heads}
    )
    usual = preset.fits["dynamics"]
    fit = replace(
        usual, steps=choices.steps, warmup=min(usual.warmup, choices.steps // 10 + 1), minutes=choices.minutes,
        save_seconds=60.0,
    )  # fmt: skip
    folder = choices.folder / f"width-{sizes['dim']}"
    progress = train_stage(_stage(ground, network, run.train, fit), fit, folder, resume=True, say=say)
    trained = load_network(folder, "dynamics").requires_grad_(False)
    return {
        "width": sizes["dim"],
        "parameters": sum(p.numel() for p in trained.parameters()),
        "steps": progress.step,
        "loss": held_out_loss(_stage(ground, trained, run.validation, fit), trained, choices.batches),
        "frames_per_second": progress.step * fit.batch * fit.length / max(progress.seconds, 1e-9),
    }


def _stage(ground: Ground, network: Dynamics, segments: Segments, fit: Fit) -> DynamicsStage:
    clips = ClipSampler(ground.run.cache, segments, fit.length, with_sound=False)
    return DynamicsStage(
        network, ground.tokenizer, ground.config, ground.run.cache, ground.tokens, ground.run.actions(), clips, None,
        fit.batch,
    )  # fmt: skip


@torch.no_grad()
def held_out_loss(stage: DynamicsStage, network: nn.Module, batches: int) -> float:
    """Of a stage's own batches, always the same ones, from data alone."""
    losses = []
    for i in range(batches):
        batch, generator = stage.batch(np.random.default_rng(i)), torch.Generator().manual_seed(i)
        losses.append(float(stage.loss(network, batch, generator, 0.0)[0]))
    return float(np.mean(losses))


def _processes(choices: Scaling, number: int, say: Say) -> dict[str, Any]:
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    folder = choices.folder / f"processes-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("tokenizer", "training/tokens"):
        shutil.copytree(choices.folder / part, folder / part)
    recipe = Recipe(
        choices.data, folder, preset=choices.preset, steps=choices.process_steps, stages=("dynamics",),
        minutes=choices.minutes,
    )  # fmt: skip
    say(f"{number} process{'es' * (number > 1)}, {choices.process_steps} steps")
    launch = LaunchConfig(
        1, 1, number, run_id="scaling", rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0
    )
    try:
        elastic_launch(launch, train_quietly)(recipe)
    except Exception as error:  # torch's own, of whatever a process died of
        raise RunError(f"{number} processes: {' '.join(str(error).split())[:300]}") from None
    lines = (folder / "training" / "dynamics" / "log.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["kind"] == "train"]
    fit = get_preset(choices.preset).fits["dynamics"]
    first, last = rows[0], rows[-1]  # the first step also warms up
    frames = (last["step"] - first["step"]) * fit.batch * fit.length
    rate = frames / max(last["seconds"] - first["seconds"], 1e-9)
    return {"processes": number, "frames_per_second": rate, "steps": last["step"]}


def train_quietly(recipe: Recipe) -> None:
    """In each of the processes."""
    torch.set_num_threads(1)
    train_world(recipe, say=lambda text: None)


def tables(figures: dict[str, Any], ground: Ground, choices: Scaling, words: str) -> str:
    cache, fit = ground.run.cache, get_preset(choices.preset).fits["dynamics"]
    lines = [
        f"{cache.num_frames} frames in {cache.num_episodes} episodes at {cache.width}x{cache.height}, preset "
        f"{choices.preset}, batches of {fit.batch} x {fit.length} frames, {torch.get_num_threads()} threads, made by",
        "", f"    {words}", "",
        "| width | parameters | steps | held-out loss | frames/s |", "|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {row['width']} | {row['parameters'] / 1e6:.2f} M | {row['steps']} | {row['loss']:.4f} | "
        f"{row['frames_per_second']:.0f} |"
        for row in figures["sizes"]
    ]
    if figures["processes"]:
        alone = figures["processes"][0]["frames_per_second"]
        lines += ["", "| processes | frames/s | of the first |", "|---|---|---|"]
        lines += [
            f"| {row['processes']} | {row['frames_per_second']:.0f} | {row['frames_per_second'] / alone:.2f} |"
            for row in figures["processes"]
        ]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)

    def work() -> int:
        options = command.parse(Scaling, "scaling", words, __doc__)
        scaling(options, shlex.join(["python", "-m", "worldgen.training.scaling", *words]))
        return 0

    return command.run("scaling", work)


if __name__ == "__main__":
    sys.exit(main())
