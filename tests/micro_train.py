"""Trains the micro world of test_training, alone or under torchrun, with a checkpoint after every step.

    python tests/micro_train.py DATA OUT [--resume] [--steps N] [--parts P] [--stages ...] [--shard] [--muon]

Used by the tests of several processes and of kills."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--actions", default="recorded")
    parser.add_argument("--stages", nargs="+", default=[])
    parser.add_argument("--shard", action="store_true")
    parser.add_argument("--muon", action="store_true")
    return train(**vars(parser.parse_args()))


def train(
    data: Path, out: Path, resume: bool, steps: int, parts: int = 1, actions: str = "recorded",
    stages: list[str] | tuple[str, ...] = (), shard: bool = False, muon: bool = False,
) -> int:  # fmt: skip
    """parts: what as many processes would make of each batch, by this one."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import torch

    torch.set_num_threads(1)
    from test_output_stages import LENGTHS
    from test_output_stages import micro as micro_outputs
    from test_training import micro

    from worldgen.command import run
    from worldgen.training import checkpoint, fit, presets
    from worldgen.training.pipeline import train_world
    from worldgen.training.recipe import Recipe

    def preset() -> presets.Preset:
        outputs = micro_outputs()
        first = micro().fits["tokenizer"]
        fits = {name: replace(first, batch=8, log_seconds=0.0, optimizer="muon" if muon else "adamw")
                for name in ("tokenizer", "latent_action", "dynamics", "heads", *outputs.fits)}  # fmt: skip
        fits |= {name: replace(fits[name], length=length) for name, length in LENGTHS.items()}
        return replace(outputs, latent_action=micro().latent_action, fits=fits)

    presets.PRESETS["micro"] = preset
    if parts > 1:
        fit.Progress = lambda: checkpoint.Progress(parts=parts)

    def work() -> int:
        recipe = Recipe(
            data, out, preset="micro", steps=steps, resume=resume, actions=actions, stages=tuple(stages), shard=shard
        )
        train_world(recipe, say=lambda text: print(text, flush=True))
        return 0

    return run("train", work)


if __name__ == "__main__":
    sys.exit(main())
