"""What trainings that are compared share: one tokenizer, and the tokens of the recordings."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from worldgen.bundle import find_world, load_network
from worldgen.config import WorldConfig
from worldgen.errors import InputError
from worldgen.models.tokenizer import Tokenizer
from worldgen.training.fit import train_stage
from worldgen.training.presets import Preset
from worldgen.training.recipe import Recipe
from worldgen.training.run import Run
from worldgen.training.stages import make_stage
from worldgen.training.tokens import tokenize
from worldgen.training.world_facts import write_facts


@dataclass(frozen=True)
class Ground:
    """tokens (N, n, d) of the run's cache"""

    run: Run
    tokenizer: Tokenizer
    tokens: np.ndarray
    config: WorldConfig


def prepare(recipe: Recipe, preset: Preset, world: str | None, say: Callable[[str], None]) -> Ground:
    """In recipe.out. world: take its tokenizer instead of training one for recipe.steps. InputError where it is of
    frames of another size."""
    run, folder = Run(recipe, preset, say), recipe.out
    if world is None:
        fit = run.fit("tokenizer", ("tokenizer",))
        train_stage(make_stage(run, "tokenizer", fit), fit, folder, resume=True, say=say)
    elif not (folder / "tokenizer").is_dir():
        given = find_world(world)
        known = WorldConfig.load(given / "world.json")
        if (known.width, known.height) != (run.width, run.height):
            raise InputError(
                f"--tokenizer {given} is of {known.width}x{known.height} frames, here they are "
                f"{run.width}x{run.height}: leave it out, and one is trained"
            )
        shutil.copytree(given / "tokenizer", folder / "tokenizer")
    tokenizer = load_network(folder, "tokenizer").requires_grad_(False)
    tokens = tokenize(run.cache, tokenizer, folder, say)
    write_facts(run)  # among them which episodes are trained on: the others are measured on
    return Ground(run, tokenizer, tokens, run.config())
