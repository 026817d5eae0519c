"""Torch, eager or compiled: the reference engine, straight from the networks' weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldgen.bundle import load_networks, weights_hash
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
        **outputs,
    ):
        """is_compiled: by torch.compile, each graph when it first runs (a minute or more); needs a C++ compiler.
        outputs: further networks, by the names that step_modules() knows them by."""
        self.name = "torch:compiled" if is_compiled else "torch"
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.specs = step_specs(tokenizer, dynamics, heads, **outputs)
        self.position_period = dynamics.position_period
        self.weights_hash = weights_hash
        self.facts = {
            "version": torch.__version__,
            "device": self.device,
            "precision": "fp32",
            "threads": torch.get_num_threads(),
        }
        steps = step_modules(tokenizer, dynamics, heads, **outputs)
        modules = {name: module.to(self.device) for name, module in steps.items()}
        self._modules = {k: torch.compile(m, dynamic=False) for k, m in modules.items()} if is_compiled else modules

    @classmethod
    def load(cls, folder: Path, *, is_compiled: bool = False) -> TorchBackend:
        return cls(**load_networks(folder), weights_hash=weights_hash(folder), is_compiled=is_compiled)

    @torch.inference_mode()
    def run(self, graph: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        spec = self.specs[graph]
        out = self._modules[graph](**inputs)
        return dict(zip(spec.output_names, out if isinstance(out, tuple) else (out,), strict=True))

    def prepare(self, graph: str, batch: int) -> None:
        """Nothing: the networks are loaded, and torch.compile needs real inputs."""

    def asarray(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(x)).to(self.device)

    def numpy(self, x: Tensor) -> np.ndarray:
        return np.array(x.cpu().numpy())

    def tensor(self, x: Tensor) -> Tensor:
        with torch.inference_mode(False):  # an inference tensor could not be saved for a backward pass
            return x.clone()

    def put(self, x: Tensor, rows: np.ndarray, values: Tensor) -> Tensor:
        with torch.inference_mode():
            return x.index_copy_(0, torch.from_numpy(rows).to(self.device), values)
