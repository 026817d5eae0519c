"""The one training loop. A stage gives batches, a loss and figures; fit() does the rest.

Randomness of step s depends on (seed, part of the batch, s) alone, so a resumed run repeats an uninterrupted one bit
for bit, and processes that share the parts of a batch do what one would do alone.
"""

from __future__ import annotations

import contextlib
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
from worldgen.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from worldgen.training.failures import is_disk_full, is_out_of_memory, remember_failure
from worldgen.training.log import Log
from worldgen.training.optimizer import OPTIMIZERS, make_optimizer
from worldgen.training.processes import shares_cpu

MIN_PART = 4  # clips: the losses give shares of a batch other tasks


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
    say: Callable[[str], None] = print,
) -> Progress:
    """Trains one stage into WORLD/<stage> and WORLD/training/<stage>. Safe to kill at any moment.

    Started by torchrun or `accelerate launch`, its processes share every batch; another number of them may resume it.
    parents: hashes of the networks that this one stands on; where they have changed since its checkpoint, it is trained
    again from its weights. Raises RunError on a loss or gradient that is not finite, before the optimiser step, and on
    a full disk; the last good checkpoint stays.
    """
    folder = world / "training" / stage.name
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(mixed_precision="bf16" if torch.cuda.is_available() else "no", cpu=shares_cpu())
    say = say if accelerator.is_main_process else _say_nothing
    average = copy.deepcopy(stage.network).eval().requires_grad_(False).to(accelerator.device)
    optimizer = make_optimizer(stage.network, fit.optimizer, fit.learning_rate, fit.weight_decay)
    progress = (load_checkpoint(folder, stage.network, average, optimizer) if resume else None) or Progress()
    if parents and progress.parents and progress.parents != parents:
        changed = [name for name in parents if progress.parents.get(name) != parents[name]]
        say(f"{stage.name}: the {' and '.join(changed)} it stands on changed: it is trained again, from its weights")
        optimizer = make_optimizer(stage.network, fit.optimizer, fit.learning_rate, fit.weight_decay)
        progress = Progress()
    parts = whole_parts(progress.parts, accelerator.num_processes, fit.batch)
    progress = replace(progress, parents=parents or progress.parents, parts=parts)
    num_parameters = sum(p.numel() for p in average.parameters())
    shared = f" in {accelerator.num_processes} processes" if accelerator.num_processes > 1 else ""
    say(
        f"{stage.name}: {num_parameters / 1e6:.2f} M parameters on {accelerator.device}{shared}, {fit.steps} steps of "
        f"{fit.batch} x {fit.length} frames, from step {progress.step}, into {world / stage.name}"
    )
    if progress.step >= fit.steps and (world / stage.name).is_dir():
        return progress
    network, optimizer = accelerator.prepare(StageLoss(stage), optimizer)
    run = _Run(stage, fit, accelerator, network, average, optimizer, world, folder, say)
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


def whole_parts(parts: int, num_processes: int, batch: int) -> int:
    """Into how many parts a batch is divided: as before where the processes can share them out evenly."""
    parts = -(-parts // num_processes) * num_processes
    if parts > batch:
        raise InputError(f"a batch of {batch} clips cannot be shared by {num_processes} processes: start fewer")
    return parts


def _say_nothing(text: str) -> None:
    pass


class StageLoss(nn.Module):
    """A stage's loss as one module, so that however often it calls its network, distributed training sees one pass."""

    def __init__(self, stage: Stage):
        super().__init__()
        self.network = stage.network
        self._loss = stage.loss

    def forward(
        self, batch: dict[str, Tensor], generator: torch.Generator, progress: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return self._loss(self.network, batch, generator, progress)


class _Run:
    """One run of one stage: what train_stage() has set up, and the loop."""

    def __init__(
        self, stage: Stage, fit: Fit, accelerator: Any, network: nn.Module, average: nn.Module,
        optimizer: Any, world: Path, folder: Path, say: Callable[[str], None],
    ):  # fmt: skip
        self.stage, self.fit, self.accelerator = stage, fit, accelerator
        self.network, self.average, self.optimizer = network, average, optimizer
        self.world, self.folder, self.say = world, folder, say
        self.log: Log | None = Log(folder, say) if accelerator.is_main_process else None
        self.save_cost = 0.0  # seconds of the last checkpoint

    @property
    def bare(self) -> nn.Module:
        return self.accelerator.unwrap_model(self.network).network

    def train(self, progress: Progress) -> Progress:
        stage, fit, log = self.stage, self.fit, self.log
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
            loss, norm, figures, parts = self._gradient(progress)
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
            if log is not None and due("validate", fit.validate_seconds):
                log.validation(progress, *stage.validate(finished(stage, self.average)))
                spent = time.monotonic() - marks["validate"]  # validating is not training
                trained_before -= spent
                log.pause(spent)
            # one second of saving for 50 of training, however large the network and slow the disk
            if due("save", max(fit.save_seconds, 50 * self.save_cost) if fit.save_seconds else 0):
                self._save(progress)
                saving += self.save_cost
        if log is not None:
            log.validation(progress, *stage.validate(finished(stage, self.average)))
        self._save(progress)
        self.accelerator.wait_for_everyone()
        return progress

    def _is_over(self, progress: Progress) -> bool:
        """Whether --minutes are: all processes stop at one step, the main one's."""
        if not self.fit.minutes:
            return False
        is_over = torch.tensor(float(progress.seconds >= 60 * self.fit.minutes), device=self.accelerator.device)
        if self.accelerator.num_processes > 1:
            torch.distributed.broadcast(is_over, 0)
        return bool(is_over)

    def _gradient(self, progress: Progress) -> tuple[Tensor, Tensor, dict[str, Tensor], int]:
        """The gradient of one step, in the parameters: loss, its norm, figures, parts. Too little memory divides the
        batch; a batch that is not finite for the second time gives way to another."""
        attempt, parts, step = 0, progress.parts, progress.step
        while True:
            try:
                loss, norm, figures = self._accumulate(step, attempt, parts)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                parts = self._halve(parts, error)
                continue
            bad = "" if torch.isfinite(norm) else f"the gradient at step {step} is {norm.item()}"
            bad = bad if torch.isfinite(loss) else f"the loss at step {step} is {loss.item()}"
            is_bad = torch.tensor(float(bool(bad)), device=self.accelerator.device)
            if float(self.accelerator.reduce(is_bad, "sum")) == 0:
                return loss, norm, figures, parts
            self.optimizer.zero_grad(set_to_none=True)
            bad = bad or f"the loss at step {step} is not finite in another process"
            if attempt == 0 and remember_failure(self.folder, step, self.accelerator.is_main_process):
                raise RunError(
                    f"{self.stage.name}: {bad}: the last checkpoint in {self.folder} is good, --resume goes on from it"
                )
            attempt += 1
            if attempt > 3:
                raise RunError(
                    f"{self.stage.name}: {bad}, in four batches: training diverges; the last checkpoint is kept"
                )
            self.say(f"  step {step}: {bad.split(' is ')[-1]} for the second time: another batch is drawn")

    def _accumulate(self, step: int, attempt: int, parts: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Part p of a batch has its own noise, so that who computes it does not matter."""
        accelerator, fit = self.accelerator, self.fit
        draw = (fit.seed, 0, step, attempt) if attempt else (fit.seed, 0, step)
        batch = self.stage.batch(np.random.default_rng(draw))
        edges = np.linspace(0, fit.batch, parts + 1).astype(int)
        mine = range(accelerator.process_index, parts, accelerator.num_processes)
        total, figures = torch.zeros((), device=accelerator.device), {}
        for p in mine:
            rows = slice(int(edges[p]), int(edges[p + 1]))
            number = (fit.seed * 1_000_003 + p) * 10_000_019 + step + attempt * 1_000_000_007
            generator = torch.Generator(accelerator.device).manual_seed(number % 2**63)
            clips = {k: v[rows].to(accelerator.device) for k, v in batch.items()}
            share = (rows.stop - rows.start) / fit.batch
            is_last = p + accelerator.num_processes >= parts
            with contextlib.nullcontext() if is_last else accelerator.no_sync(self.network):
                with accelerator.autocast():
                    loss, figures = self.network(clips, generator, step / fit.steps)
                # processes average their gradients
                accelerator.backward(loss * (share * accelerator.num_processes))
            total += loss.detach() * share
        if accelerator.num_processes > 1:
            total = accelerator.reduce(total, "sum")
        return total, accelerator.clip_grad_norm_(self.network.parameters(), fit.clip_norm), figures

    def _halve(self, parts: int, error: Exception) -> int:
        self.optimizer.zero_grad(set_to_none=True)
        clips = self.fit.batch // (2 * parts)
        if clips < MIN_PART or self.accelerator.num_processes > 1:
            raise RunError(
                f"{self.stage.name}: out of memory with {self.fit.batch // parts} clips at once "
                f"({str(error).splitlines()[0][:120]}): choose a smaller preset"
            ) from None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.say(f"  out of memory: batches are made of {2 * parts} parts of {clips} clips from here on")
        return 2 * parts

    def _save(self, progress: Progress) -> None:
        if self.log is None:
            return
        began = time.monotonic()
        # the network first: killed between the two, a resumed run writes it again
        save_network(finished(self.stage, self.average), self.world, self.stage.name)
        save_checkpoint(self.folder, progress, self.bare, self.average, self.optimizer)
        self.save_cost = time.monotonic() - began

    def close(self) -> None:
        if self.log is not None:
            self.log.close()


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
