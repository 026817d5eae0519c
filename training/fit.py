"""The one training loop. A stage gives batches, a loss and figures; fit() does the rest.

Randomness of step s depends on (seed, rank, s) alone, so a resumed run repeats an uninterrupted one bit for bit.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from worldgen.bundle import save_network
from worldgen.errors import InputError, RunError
from worldgen.training.checkpoint import Progress, load_checkpoint, save_checkpoint


@dataclass(frozen=True)
class Fit:
    """Choices of a run that every stage has.

    steps: of the whole schedule (linear warm-up, constant, linear decay over the last `decay` share).
    minutes: stops early, at this many minutes of training over all runs of the stage; the schedule still follows steps.
    batch, length: clips a step and frames a clip.
    """

    steps: int
    batch: int
    length: int
    learning_rate: float
    minutes: float | None = None
    warmup: int = 100
    decay: float = 0.3
    weight_decay: float = 0.01
    ema: float = 0.998
    clip_norm: float = 1.0
    seed: int = 0
    log_seconds: float = 15.0
    save_seconds: float = 120.0
    validate_seconds: float = 300.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.length < 2:
            raise InputError(f"steps and batch are >= 1 and length >= 2, got {self.steps}, {self.batch}, {self.length}")
        if self.minutes is not None and self.minutes <= 0:
            raise InputError(f"--minutes is above 0, got {self.minutes}")


class Stage(Protocol):
    """What differs between stages."""

    name: str

    @property
    def network(self) -> nn.Module:
        """A diffusers model; its averaged weights are saved to WORLD/<name>."""
        ...

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]: ...

    def loss(
        self, network: nn.Module, batch: dict[str, Tensor], generator: torch.Generator, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """progress: share of the schedule done -> the loss and figures to log"""
        ...

    def validate(self, network: nn.Module) -> tuple[dict[str, float], np.ndarray | None]:
        """With the averaged weights -> figures on held-out episodes, and a strip of pictures (h, w, 3) uint8"""
        ...

    def finish(self, network: nn.Module) -> None:
        """Before the averaged weights are saved for others to use."""
        ...


def learning_rate_share(fit: Fit, step: int) -> float:
    warm = min(1.0, (step + 1) / max(1, fit.warmup))
    cool = min(1.0, (fit.steps - step) / max(1.0, fit.decay * fit.steps))
    return warm * cool


def train_stage(stage: Stage, fit: Fit, world: Path, *, resume: bool, say: Callable[[str], None] = print) -> Progress:
    """Trains one stage into WORLD/<stage> and WORLD/training/<stage>. Safe to kill at any moment.

    Raises RunError on a loss or gradient that is not finite, before the optimiser step; the last good checkpoint stays.
    """
    from accelerate import Accelerator
    from torch.utils.tensorboard import SummaryWriter

    folder = world / "training" / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(mixed_precision="bf16" if torch.cuda.is_available() else "no")
    average = copy.deepcopy(stage.network).eval().requires_grad_(False).to(accelerator.device)
    optimizer = torch.optim.AdamW(_parameter_groups(stage.network, fit), lr=fit.learning_rate, betas=(0.9, 0.95))
    progress = (load_checkpoint(folder, stage.network, average, optimizer) if resume else None) or Progress()
    network, optimizer = accelerator.prepare(stage.network, optimizer)
    is_main = accelerator.is_main_process
    num_parameters = sum(p.numel() for p in average.parameters())
    say(
        f"{stage.name}: {num_parameters / 1e6:.2f} M parameters on {accelerator.device}, {fit.steps} steps of "
        f"{fit.batch} x {fit.length} frames, from step {progress.step}, into {world / stage.name}"
    )
    if progress.step >= fit.steps and (world / stage.name).is_dir():
        return progress
    log = _Log(folder, SummaryWriter(folder / "tensorboard"), say) if is_main else None
    started, trained_before = time.monotonic(), progress.seconds
    # the first save and validation come soon: a run that is stopped early keeps something
    first_save = started - fit.save_seconds + min(30, fit.save_seconds)
    marks = {"log": started, "save": first_save, "validate": started - fit.validate_seconds + 60}
    frames_since = 0
    figures: dict[str, Tensor] = {}

    def due(what: str, seconds: float) -> bool:
        if time.monotonic() - marks[what] < seconds:
            return False
        marks[what] = time.monotonic()
        return True

    def save(progress: Progress) -> None:
        if is_main:  # the network first: killed between the two, a resumed run writes it again
            save_network(_finished(stage, average), world, stage.name)
            save_checkpoint(folder, progress, accelerator.unwrap_model(network), average, optimizer)

    network.train()
    while progress.step < fit.steps and not (fit.minutes and progress.seconds >= 60 * fit.minutes):
        step, rank = progress.step, accelerator.process_index
        for group in optimizer.param_groups:
            group["lr"] = fit.learning_rate * learning_rate_share(fit, step)
        batch = {
            k: v.to(accelerator.device) for k, v in stage.batch(np.random.default_rng((fit.seed, rank, step))).items()
        }
        number = ((fit.seed * 1_000_003 + rank) * 10_000_019 + step) % 2**63
        generator = torch.Generator(accelerator.device).manual_seed(number)
        with accelerator.autocast():
            loss, figures = stage.loss(network, batch, generator, step / fit.steps)
        _refuse_nan(loss, f"{stage.name}: the loss at step {step}", folder)
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(network.parameters(), fit.clip_norm)
        _refuse_nan(norm, f"{stage.name}: the gradient at step {step}", folder)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        update_average(average, accelerator.unwrap_model(network), min(fit.ema, (1 + step) / (10 + step)))
        frames_since += fit.batch * fit.length * accelerator.num_processes
        progress = Progress(step + 1, trained_before + time.monotonic() - started)
        if log is not None and (due("log", fit.log_seconds) or progress.step in (1, fit.steps)):
            log.train(progress, fit, {"loss": loss.detach(), "grad_norm": norm, **figures}, frames_since)
            frames_since = 0
        if log is not None and due("validate", fit.validate_seconds):
            log.validation(progress, *stage.validate(_finished(stage, average)))
            spent = time.monotonic() - marks["validate"]  # validating is not training
            trained_before -= spent
            log.pause(spent)
        if due("save", fit.save_seconds):
            save(progress)
    if log is not None:
        log.validation(progress, *stage.validate(_finished(stage, average)))
        log.close()
    save(progress)
    accelerator.wait_for_everyone()
    return progress


def _refuse_nan(value: Tensor, what: str, folder: Path) -> None:
    if not torch.isfinite(value):
        raise RunError(f"{what} is {value.item()}: the last checkpoint in {folder} is good, --resume goes on from it")


def _finished(stage: Stage, average: nn.Module) -> nn.Module:
    finished = copy.deepcopy(average)
    stage.finish(finished)
    return finished


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Exponential moving average of the weights; buffers are copied."""
    for mean, now in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(now, 1 - decay)
    for kept, buffer in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(buffer)


def _parameter_groups(network: nn.Module, fit: Fit) -> list[dict[str, Any]]:
    """Weight decay on matrices only."""
    matrices = [p for p in network.parameters() if p.requires_grad and p.dim() >= 2]
    others = [p for p in network.parameters() if p.requires_grad and p.dim() < 2]
    return [{"params": matrices, "weight_decay": fit.weight_decay}, {"params": others, "weight_decay": 0.0}]


class _Log:
    """log.jsonl, TensorBoard and one line on the terminal."""

    def __init__(self, folder: Path, board: Any, say: Callable[[str], None]):
        self._path, self._board, self._say = folder / "log.jsonl", board, say
        self._last = time.monotonic()

    def train(self, progress: Progress, fit: Fit, figures: dict[str, Tensor], num_frames: int) -> None:
        now = time.monotonic()
        rate = num_frames / max(1e-9, now - self._last)
        self._last = now
        values = {k: float(v) for k, v in figures.items()}
        self._write("train", progress, {**values, "frames_per_second": rate})
        left = (fit.steps - progress.step) * progress.seconds / progress.step
        if fit.minutes:
            left = min(left, 60 * fit.minutes - progress.seconds)
        self._say(
            f"  step {progress.step}/{fit.steps}  loss {values['loss']:.4f}  {rate:.0f} frames/s  "
            f"ETA {int(left) // 60}:{int(left) % 60:02d}"
        )

    def validation(self, progress: Progress, figures: dict[str, float], strip: np.ndarray | None) -> None:
        self._write("validation", progress, figures)
        self._say("  validation  " + "  ".join(f"{k} {v:.2f}" for k, v in figures.items()))
        if strip is not None:
            self._board.add_image("samples", strip, progress.step, dataformats="HWC")

    def pause(self, seconds: float) -> None:
        """Time that does not count as training"""
        self._last += seconds

    def close(self) -> None:
        self._board.close()

    def _write(self, kind: str, progress: Progress, figures: dict[str, float]) -> None:
        known = {k: v if math.isfinite(v) else None for k, v in figures.items()}
        row = {"kind": kind, "step": progress.step, "seconds": round(progress.seconds, 1), **known}
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in figures.items():
            self._board.add_scalar(f"{kind}/{name}", value, progress.step)
