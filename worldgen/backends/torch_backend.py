"""Torch, eager: the reference engine, straight from the networks' weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from worldgen.bundle import load_networks, weights_hash
from worldgen.models.steps import step_modules, step_specs


class TorchBackend:
    name = "torch"

    def __init__(
        self, tokenizer, dynamics, heads=None, *, device: str | None = None, weights_hash: str = "unsaved", **outputs
    ):
        """outputs: further networks, by the names that step_modules() knows them by."""
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.specs = step_specs(tokenizer, dynamics, heads, **outputs)
        self.position_period = dynamics.position_period
        self.weights_hash = weights_hash
        self.facts = {"version": torch.__version__, "device": self.device, "threads": torch.get_num_threads()}
        modules = step_modules(tokenizer, dynamics, heads, **outputs)
        self._modules = {k: m.to(self.device) for k, m in modules.items()}

    @classmethod
    def load(cls, folder: Path) -> TorchBackend:
        return cls(**load_networks(folder), weights_hash=weights_hash(folder))

    @torch.inference_mode()
    def run(self, graph: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        spec = self.specs[graph]
        out = self._modules[graph](**inputs)
        return dict(zip(spec.output_names, out if isinstance(out, tuple) else (out,), strict=True))

    def asarray(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(x)).to(self.device)

    def numpy(self, x: Tensor) -> np.ndarray:
        return np.array(x.cpu().numpy())

    def where(self, mask: np.ndarray, x: Tensor, y: Tensor) -> Tensor:
        rows = torch.from_numpy(mask).to(self.device)
        return torch.where(rows.reshape(-1, *[1] * (x.dim() - 1)), x, y)
