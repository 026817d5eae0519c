"""worldgen train: all stages in order, from a folder of recordings to a world that plays.

Each stage writes its network into the world's folder; the next one reads it from there. Killed at any moment, the same
command with --resume goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from accelerate import PartialState

from worldgen.bundle import find_world, load_network, network_hashes
from worldgen.errors import InputError
from worldgen.files import check_folder_writable, new_folder, write_bytes
from worldgen.models.conditioning import has_actions
from worldgen.sound_library import LIBRARY
from worldgen.training.checkpoint import read_progress
from worldgen.training.compiled import COMPILED, check_compiler
from worldgen.training.critic import CriticStage
from worldgen.training.fit import train_stage
from worldgen.training.folder_lock import sole_training
from worldgen.training.presets import get_preset
from worldgen.training.processes import shares_cpu
from worldgen.training.recipe import STAGES, Recipe
from worldgen.training.run import SOUNDS, Run, Say
from worldgen.training.stages import make_stage
from worldgen.training.super_resolution import SuperResolutionStage
from worldgen.training.tokenizer import TokenizerStage
from worldgen.training.world_facts import write_facts, write_uncertainty
from worldgen.uncertainty import FILE as UNCERTAINTY
from worldgen.uncertainty import NETWORKS

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
WITHOUT_TOKENS = ("tokenizer", "latent_action", "sound_codec")  # stages that read the recordings alone


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
    if recipe.compile:
        check_compiler()
    if recipe.source is not None:
        recipe = replace(recipe, source=find_world(recipe.source))
    processes = PartialState(cpu=shares_cpu())
    is_main = processes.is_main_process
    say = say if is_main else lambda text: None
    with processes.main_process_first():  # it decodes the recordings, the others read what it wrote
        run = Run(recipe, preset, say, is_main)
    stages = recipe.stages or run.default_stages()
    run.check_lengths(stages)
    _check_parents(recipe, run, stages)
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
        if name not in WITHOUT_TOKENS and processes.is_main_process:
            _drop_sound_of_other_actions(run, stages)
        fit = run.fit(name, stages)
        began = time.monotonic()
        if name not in WITHOUT_TOKENS and processes.num_processes > 1:
            run.tokens(processes)
        with processes.main_process_first():  # it prepares what else there is, the others read what it wrote
            stage = make_stage(run, name, fit)
            if recipe.sharpen and isinstance(stage, TokenizerStage | SuperResolutionStage):
                stage = CriticStage(stage, recipe.sharpen)
        progress = train_stage(
            stage, fit, recipe.out, resume=recipe.resume, parents=network_hashes(recipe.out, PARENTS[name]),
            shard=recipe.shard, compiled=recipe.compile and name in COMPILED, say=say,
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
            write_facts(run)
        if name == ("heads" if "heads" in stages else "dynamics"):
            write_uncertainty(run, fit.length)
        processes.wait_for_everyone()
    return summary


def _drop_sound_of_other_actions(run: Run, stages: Sequence[str]) -> None:
    """With --from a world with other actions: its sound follows those."""
    if run.recipe.source is None:
        return
    for name in SOUNDS.values():
        path = run.recipe.out / name
        if name in stages or not path.is_dir():
            continue
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        if not has_actions(config, run.action_map()):
            run.say(f"  the {name} of {run.recipe.source} follows other actions: left out until it is trained again")
            shutil.rmtree(path)


def _check_out(recipe: Recipe) -> None:
    check_folder_writable(recipe.out, "--out")

    def is_begun(stage: str) -> bool:
        return (recipe.out / stage).exists() or read_progress(recipe.out / "training" / stage) is not None

    if not recipe.resume and (again := [s for s in recipe.stages or STAGES if is_begun(s)]):
        raise InputError(f"{recipe.out} already holds a trained {again[0]}: add --resume, or choose another --out")


def _check_parents(recipe: Recipe, run: Run, stages: Sequence[str]) -> None:
    """Raises InputError before any frame is encoded where a stage stands on a network that is not there."""
    folders = [folder for folder in (recipe.out, recipe.source) if folder is not None]
    for name in stages:
        # codes are read for all that follows actions
        needed = [*PARENTS[name], *(["latent_action"] if "dynamics" in PARENTS[name] else [])]
        for parent in needed:
            if parent == "latent_action" and run.action_source != "latent":
                continue
            if parent not in stages and not any((folder / parent).is_dir() for folder in folders):
                raise InputError(f"{recipe.out} has no {parent}: train it first, with --stages {parent} {name}")


def _copy_untrained(recipe: Recipe, stages: Sequence[str]) -> None:
    """With --from: the networks of the other world that this run needs and does not train, and what belongs to them."""
    if recipe.source is None:
        return
    for name in STAGES:
        if name not in stages and (recipe.source / name).is_dir() and not (recipe.out / name).exists():
            with new_folder(recipe.out / name) as building:
                shutil.copytree(recipe.source / name, building, dirs_exist_ok=True)
    for file, makers in ((UNCERTAINTY, NETWORKS), (LIBRARY, ("sound_events",))):
        source, out = recipe.source / file, recipe.out / file
        if not set(makers) & set(stages) and source.is_file() and not out.exists():
            write_bytes(out, source.read_bytes())
