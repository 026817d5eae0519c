"""Torch, eager or compiled, in float32 or bfloat16: the reference engine, straight from the networks' weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldgen.backends.memory import refuse_out_of_memory
from worldgen.bundle import load_networks, weights_hash
from worldgen.errors import BackendUnavailableError
from worldgen.models.steps import step_modules, step_specs


class TorchBackend:
    def __init__(
        self,
        tokenizer,
        dynamics,
        heads=None,
        *,
        device: str | None = None,
        weights_hash: str = "unsaved",
        is_compiled: bool = False,
        is_half: bool = False,
        **outputs,
    ):
        """is_compiled: by torch.compile, each graph when it first runs (a minute or more); needs a C++ compiler.
        is_half: multiplies in bfloat16; what goes in and comes out stays float32.
        outputs: further networks, by the names that step_modules() knows them by."""
        self.name = "torch" + ":compiled" * is_compiled + ":bf16" * is_half
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.specs = step_specs(tokenizer, dynamics, heads, **outputs)
        self.position_period = dynamics.position_period
        self.weights_hash = weights_hash
        self.facts = {
            "version": torch.__version__,
            "device": self.device,
            "precision": "bf16" if is_half else "fp32",
            "threads": torch.get_num_threads(),
        }
        steps = step_modules(tokenizer, dynamics, heads, **outputs)
        modules = {name: module.to(self.device) for name, module in steps.items()}
        self._is_compiled, self._is_half = is_compiled, is_half
        self._modules = {k: torch.compile(m, dynamic=False) for k, m in modules.items()} if is_compiled else modules

    @classmethod
    def load(cls, folder: Path, *, is_compiled: bool = False, is_half: bool = False) -> TorchBackend:
        networks, known = load_networks(folder), weights_hash(folder)
        return cls(**networks, weights_hash=known, is_compiled=is_compiled, is_half=is_half)

    @torch.inference_mode()
    def run(self, graph: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        spec = self.specs[graph]
        with (
            refuse_out_of_memory(len(next(iter(inputs.values()))), self._place),
            self._refuse_uncompiled(graph),
            torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self._is_half),
        ):
            out = self._modules[graph](**inputs)
        outputs = out if isinstance(out, tuple) else (out,)
        outputs = tuple(x.float() if x.dtype == torch.bfloat16 else x for x in outputs)
        return dict(zip(spec.output_names, outputs, strict=True))

    @property
    def _place(self) -> str:
        return "the GPU" if self.device == "cuda" else "this machine"

    @contextlib.contextmanager
    def _refuse_uncompiled(self, graph: str) -> Iterator[None]:
        """BackendUnavailableError where torch.compile fails: it needs a C++ compiler, and does not know all code."""
        try:
            yield
        except Exception as error:
            if not self._is_compiled or not isinstance(error, torch._dynamo.exc.TorchDynamoException):
                raise
            reason = " ".join(str(error).split())[:200]
            raise BackendUnavailableError(
                f"torch {torch.__version__} cannot compile {graph} here ({reason}): use --backend torch"
            ) from None

    def prepare(self, graph: str, batch: int) -> None:
        """Nothing: the networks are loaded, and torch.compile needs real inputs."""

    def asarray(self, x: np.ndarray) -> Tensor:
        with refuse_out_of_memory(len(x), self._place):
            return torch.from_numpy(np.ascontiguousarray(x)).to(self.device)

    def numpy(self, x: Tensor) -> np.ndarray:
        return np.array(x.cpu().numpy())

    def tensor(self, x: Tensor) -> Tensor:
        with torch.inference_mode(False):  # an inference tensor could not be saved for a backward pass
            return x.clone()

    def put(self, x: Tensor, rows: np.ndarray, values: Tensor) -> Tensor:
        with torch.inference_mode():
            return x.index_copy_(0, torch.from_numpy(rows).to(self.device), values)
