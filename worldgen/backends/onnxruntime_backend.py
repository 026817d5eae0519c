"""ONNX Runtime on the CPU: the default engine, no torch needed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime

from worldgen.bundle import read_manifest
from worldgen.errors import InputError


class OnnxRuntimeBackend:
    name = "onnxruntime"

    def __init__(self, folder: Path):
        manifest = read_manifest(folder)
        self.specs = manifest.specs
        self.position_period = manifest.position_period
        self.weights_hash = manifest.weights_hash
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = min(4, os.cpu_count() or 1)
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._sessions = {}
        for name, path in manifest.paths.items():
            try:
                self._sessions[name] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            except Exception as error:  # onnxruntime's own exceptions share no base class
                raise InputError(f"{path}: ONNX Runtime cannot load it ({str(error).splitlines()[0]})") from None

        session = next(iter(self._sessions.values()))
        self.facts = {
            "version": onnxruntime.__version__,
            "device": "cpu",
            "threads": options.intra_op_num_threads,
            "providers": session.get_providers(),
        }

    def run(self, graph: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        names = self.specs[graph].output_names
        return dict(zip(names, self._sessions[graph].run(names, dict(inputs)), strict=True))

    def asarray(self, x: np.ndarray) -> np.ndarray:
        return x

    def numpy(self, x: np.ndarray) -> np.ndarray:
        return np.array(x)

    def where(self, mask: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, y)
