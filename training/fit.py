"""The one training loop. A stage gives batches, a loss and figures; fit() does the rest.

Randomness of step s depends on (seed, part of the batch, s) alone, so a resumed run repeats an uninterrupted one bit
for bit, and processes that share the parts of a batch do what one would do alone.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from worldgen.bundle import save_network
from worldgen.errors import InputError, RunError
from worldgen.training.checkpoint import (
    Progress,
    load_checkpoint,
    load_optimizer,
    read_progress,
    save_checkpoint,
    state_tensors,
)
from worldgen.training.compiled import COMPILING_MINUTES, CompiledStage, multiplies_bfloat16
from worldgen.training.failures import is_disk_full
from worldgen.training.gradient import Gradient, StageLoss, whole_parts
from worldgen.training.log import Log
from worldgen.training.optimizer import OPTIMIZERS, make_optimizer
from worldgen.training.processes import shares_cpu
from worldgen.training.sharding import shard_average, shard_network, whole

MOST_LOST = 600.0  # seconds of training between two checkpoints, at most


@dataclass(frozen=True)
class Fit:
    """Choices of a run that every stage has.

    steps: of the whole schedule (linear warm-up, constant, linear decay over the last `decay` share).
    minutes: stops early, at this many minutes of training over all runs of the stage; the schedule still follows steps.
    batch, length: clips a step and frames a clip. optimizer: adamw or muon.
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
    optimizer: str = "adamw"
    seed: int = 0
    log_seconds: float = 15.0
    save_seconds: float = 120.0
    validate_seconds: float = 300.0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.length < 2:
            raise InputError(f"steps and batch are >= 1 and length >= 2, got {self.steps}, {self.batch}, {self.length}")
        if self.optimizer not in OPTIMIZERS:
            raise InputError(f"unknown optimizer {self.optimizer!r}; choose {' or '.join(OPTIMIZERS)}")
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


def train_stage(
    stage: Stage,
    fit: Fit,
    world: Path,
    *,
    resume: bool,
    parents: dict[str, str] | None = None,
    shard: bool = False,
    compiled: bool = False,
    say: Callable[[str], None] = print,
) -> Progress:
    """Trains one stage into WORLD/<stage> and WORLD/training/<stage>. Safe to kill at any moment.

    Started by torchrun or `accelerate launch`, its processes share every batch; another number of them may resume it.
    shard: they share the network too (FSDP2), each with a part of its weights. compiled: through torch.compile,
    a CompiledStage that has the minutes for it.
    parents: hashes of the networks that this one stands on; where they have changed since its checkpoint, it is trained
    again from its weights. Raises RunError on a loss or gradient that is not finite, before the optimiser step, and on
    a full disk; the last good checkpoint stays.
    """
    folder = world / "training" / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(mixed_precision="bf16" if torch.cuda.is_available() else "no", cpu=shares_cpu())
    say = say if accelerator.is_main_process else _say_nothing
    average = copy.deepcopy(stage.network).eval().requires_grad_(False)
    try:
        loaded = load_checkpoint(folder, stage.network, average) if resume else None
    except InputError:
        before = read_progress(folder)
        if before is None or not before.parents or before.parents == parents:
            raise
        # what it stands on has another shape now, fewer latent actions perhaps: begun again from the weights that fit
        average.load_state_dict(stage.network.state_dict())
        loaded = Progress(parents=before.parents), {}
    progress, state = loaded or (Progress(), {})
    if parents and progress.parents and progress.parents != parents:
        changed = [name for name in parents if progress.parents.get(name) != parents[name]]
        say(f"{stage.name}: the {' and '.join(changed)} it stands on changed: it is trained again, from its weights")
        progress, state = Progress(), {}
    if progress.step and progress.seed not in (None, fit.seed):
        raise InputError(
            f"{folder} was begun with --seed {progress.seed}, not {fit.seed}: resume it with that, or choose another "
            "--out"
        )
    parts = whole_parts(progress.parts, accelerator.num_processes, fit.batch)
    progress = replace(progress, parents=parents or progress.parents, parts=parts, seed=fit.seed)
    num_parameters = sum(p.numel() for p in average.parameters())
    shard = shard and accelerator.num_processes > 1
    shared = f" in {accelerator.num_processes} processes" if accelerator.num_processes > 1 else ""
    shared += ", each with a part" if shard else ""
    say(
        f"{stage.name}: {num_parameters / 1e6:.2f} M parameters on {accelerator.device}{shared}, {fit.steps} steps of "
        f"{fit.batch} x {fit.length} frames, from step {progress.step}, into {world / stage.name}"
    )
    if (progress.step >= fit.steps or _is_out_of_time(fit, progress)) and (world / stage.name).is_dir():
        return progress
    if compiled and fit.minutes is not None and fit.minutes < COMPILING_MINUTES:
        say(f"  not compiled: it has {fit.minutes:.1f} minutes in all, and that alone takes up to {COMPILING_MINUTES}")
        compiled = False
    if compiled:
        assert isinstance(stage, CompiledStage), stage.name
        say("  compiling: the first step of each kind takes minutes")
        stage.compile()
    is_half = compiled and multiplies_bfloat16()
    run = _Run(stage, fit, accelerator, average, state, shard, is_half, world, folder, say)
    try:
        return run.train(progress)
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise RunError(
            f"{folder}: the disk is full; free some space, --resume goes on from the last checkpoint"
        ) from None
    finally:
        run.close()


def _is_out_of_time(fit: Fit, progress: Progress) -> bool:
    return fit.minutes is not None and progress.seconds >= 60 * fit.minutes


def _say_nothing(text: str) -> None:
    pass


class _Run:
    """One run of one stage: what train_stage() has set up, and the loop."""

    def __init__(
        self, stage: Stage, fit: Fit, accelerator: Any, average: nn.Module, state: dict[str, Tensor], shard: bool,
        is_half: bool, world: Path, folder: Path, say: Callable[[str], None],
    ):  # fmt: skip
        """state: of the optimiser, empty for a new one. is_half: the processor computes in bfloat16."""
        self.stage, self.fit, self.accelerator = stage, fit, accelerator
        self.world, self.folder, self.say = world, folder, say
        optimizer = make_optimizer(stage.network, fit.optimizer, fit.learning_rate, fit.weight_decay)
        if shard:
            self.plain: nn.Module | None = copy.deepcopy(average) if accelerator.is_main_process else None
            self.network, self.optimizer = shard_network(accelerator, StageLoss(stage), optimizer)
            shard_average(average)
        else:
            self.plain = average.to(accelerator.device)
            self.network, self.optimizer = accelerator.prepare(StageLoss(stage), optimizer)
        self.average, self.shard = average, shard
        if state:
            load_optimizer(optimizer, state)
        self.gradient = Gradient(stage, fit, accelerator, self.network, self.optimizer, is_half, folder, say)
        self.log: Log | None = Log(folder, say) if accelerator.is_main_process else None
        self.save_cost = 0.0  # seconds of the last checkpoint

    @property
    def bare(self) -> nn.Module:
        return self.accelerator.unwrap_model(self.network).network

    def train(self, progress: Progress) -> Progress:
        fit, log = self.fit, self.log
        started, trained_before, saving = time.monotonic(), progress.seconds, 0.0
        # the first save and validation come soon: a run that is stopped early keeps something
        first_save = started - fit.save_seconds + min(30, fit.save_seconds)
        marks = {"log": started, "save": first_save, "validate": started - fit.validate_seconds + 60}
        frames_since = 0

        def due(what: str, seconds: float) -> bool:
            if time.monotonic() - marks[what] < seconds:
                return False
            marks[what] = time.monotonic()
            return True

        self.network.train()
        while progress.step < fit.steps and not self._is_over(progress):
            step = progress.step
            for group in self.optimizer.param_groups:
                group["lr"] = fit.learning_rate * learning_rate_share(fit, step)
            loss, norm, figures, parts = self.gradient.of(progress)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            update_average(self.average, self.bare, min(fit.ema, (1 + step) / (10 + step)))
            frames_since += fit.batch * fit.length
            progress = replace(
                progress, step=step + 1, seconds=trained_before + time.monotonic() - started, parts=parts
            )
            if log is not None and (due("log", fit.log_seconds) or progress.step in (1, fit.steps)):
                share = saving / max(1e-9, time.monotonic() - started)
                log.train(progress, fit, {"loss": loss, "grad_norm": norm, **figures}, frames_since, share)
                frames_since = 0
            is_save_due = due("save", save_interval(fit, self.save_cost))
            validates, saves = self._agreed(due("validate", fit.validate_seconds), is_save_due)
            if validates:
                began = time.monotonic()
                self._validate(progress)
                spent = time.monotonic() - began  # validating is not training
                trained_before -= spent
                if log is not None:
                    log.pause(spent)
            if saves:
                self._save(progress)
                saving += self.save_cost
        self._validate(progress)
        self._save(progress)
        self.accelerator.wait_for_everyone()
        return progress

    def _agreed(self, *answers: bool) -> list[bool]:
        """The main process's, in all of them: their clocks differ."""
        if self.accelerator.num_processes == 1:
            return list(answers)
        agreed = torch.tensor([float(answer) for answer in answers], device=self.accelerator.device)
        torch.distributed.broadcast(agreed, 0)
        return [bool(answer) for answer in agreed]

    def _is_over(self, progress: Progress) -> bool:
        """Whether --minutes are"""
        return self.fit.minutes is not None and self._agreed(_is_out_of_time(self.fit, progress))[0]

    def _finished(self) -> nn.Module | None:
        """The averaged network as others use it, in the main process; all call it."""
        if self.shard:
            weights = {k: whole(v) for k, v in self.average.state_dict().items()}
            if self.plain is not None:
                self.plain.load_state_dict(weights)
        return None if self.log is None or self.plain is None else finished(self.stage, self.plain)

    def _validate(self, progress: Progress) -> None:
        network = self._finished()
        if self.log is not None and network is not None:
            self.log.validation(progress, *self.stage.validate(network))

    def _save(self, progress: Progress) -> None:
        began = time.monotonic()
        network = self._finished()
        tensors = state_tensors(self.bare, self.average, self.optimizer, keep=self.log is not None)
        if self.log is not None:
            # the network first: killed between the two, a resumed run writes it again
            save_network(network, self.world, self.stage.name)
            save_checkpoint(self.folder, progress, tensors)
        self.save_cost = time.monotonic() - began

    def close(self) -> None:
        if self.log is not None:
            self.log.close()


def save_interval(fit: Fit, cost: float) -> float:
    """Seconds between checkpoints of which the last one took `cost`: one second of saving for 60 of training, however
    large the network and slow the disk, but no more than MOST_LOST are lost where training is killed"""
    return max(fit.save_seconds, min(60 * cost, MOST_LOST)) if fit.save_seconds else 0.0


def finished(stage: Stage, average: nn.Module) -> nn.Module:
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
