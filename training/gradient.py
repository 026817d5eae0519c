"""The gradient of one step: of a batch that is computed in parts, which processes share, or memory asks for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from worldgen.errors import InputError, RunError
from worldgen.training.checkpoint import Progress
from worldgen.training.failures import is_out_of_memory, remember_failure
from worldgen.training.sharding import whole

if TYPE_CHECKING:
    from worldgen.training.fit import Fit, Stage

MIN_PART = 4  # clips: the losses give shares of a batch other tasks


def whole_parts(parts: int, num_processes: int, batch: int) -> int:
    """Into how many parts a batch is divided: as before where the processes can share them out evenly."""

    def shared(num: int) -> int:
        return -(-parts // num) * num

    if shared(num_processes) > batch:
        can = ", ".join(str(num) for num in range(1, batch + 1) if shared(num) <= batch)
        raise InputError(
            f"a batch of {batch} clips in {parts} parts cannot be shared by {num_processes} processes: start {can}"
        )
    return shared(num_processes)


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


class Gradient:
    """Computes gradients into the parameters of a prepared StageLoss."""

    def __init__(
        self, stage: Stage, fit: Fit, accelerator: Any, network: nn.Module, optimizer: Any, is_half: bool, folder: Path,
        say: Callable[[str], None],
    ):  # fmt: skip
        """is_half: on a processor in bfloat16. Accelerate knows one precision for all stages of a run."""
        self.stage, self.fit, self.accelerator = stage, fit, accelerator
        self.network, self.optimizer, self.folder, self.say = network, optimizer, folder, say
        self.is_half = is_half

    def of(self, progress: Progress) -> tuple[Tensor, Tensor, dict[str, Tensor], int]:
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
                with accelerator.autocast(), torch.autocast("cpu", torch.bfloat16, enabled=self.is_half):
                    loss, figures = self.network(clips, generator, step / fit.steps)
                # processes average their gradients
                accelerator.backward(loss * (share * accelerator.num_processes))
            total += loss.detach() * share
        if accelerator.num_processes > 1:
            total = accelerator.reduce(total, "sum")
        norm = accelerator.clip_grad_norm_(self.network.parameters(), fit.clip_norm)
        return total, whole(norm), figures

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
