"""Trains the micro world of test_training: `python tests/micro_train.py DATA OUT [--resume] [--steps N] [--parts P]`,
alone or under torchrun. Used by the tests of several processes and of kills."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--actions", default="recorded")
    return train(**vars(parser.parse_args()))


def train(data: Path, out: Path, resume: bool, steps: int, parts: int = 1, actions: str = "recorded") -> int:
    """A checkpoint after every step. parts: what as many processes would make of each batch, by this one."""
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import torch

    torch.set_num_threads(1)
    from test_training import micro

    from worldgen.command import run
    from worldgen.training import checkpoint, fit, presets
    from worldgen.training.pipeline import Recipe, train_world

    presets.PRESETS["micro"] = lambda: micro(batch=8, log_seconds=0.0)
    if parts > 1:
        fit.Progress = lambda: checkpoint.Progress(parts=parts)

    def work() -> int:
        recipe = Recipe(data, out, preset="micro", steps=steps, resume=resume, actions=actions)
        train_world(recipe, say=lambda text: print(text, flush=True))
        return 0

    return run("train", work)


if __name__ == "__main__":
    sys.exit(main())
