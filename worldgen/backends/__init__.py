"""Engines that run a world's graphs. One protocol; each engine is imported only when it is chosen."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from worldgen.errors import BackendUnavailableError, InputError, MissingExtraError
from worldgen.graphs import GraphSpec

NAMES = ("onnxruntime", "torch")

Array = Any  # the backend's own: numpy.ndarray or torch.Tensor


class Backend(Protocol):
    """Runs the graphs of one world. Arrays stay in the backend's memory between calls.

    facts: version, device, threads and whatever else a reader of its timings needs to know.
    """

    name: str
    specs: dict[str, GraphSpec]
    position_period: int
    weights_hash: str
    facts: dict[str, Any]

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """inputs by name, leading batch axis -> outputs by name"""
        ...

    def asarray(self, x: np.ndarray) -> Array: ...

    def numpy(self, x: Array) -> np.ndarray:
        """The caller's own copy."""
        ...

    def where(self, mask: np.ndarray, x: Array, y: Array) -> Array:
        """mask (b,) bool: rows of x where set, else of y"""
        ...


def open_backend(folder: Path, name: str = "auto") -> Backend:
    """Opens a world's folder with the named engine. "auto" takes ONNX Runtime if it can, else torch; a named engine
    never falls back. Raises InputError (unknown name, incomplete or stale world), BackendUnavailableError where the
    named engine is not installed, MissingExtraError where none is."""
    if name == "auto":
        has_onnx = (folder / "onnx" / "manifest.json").is_file()
        if has_onnx and _is_installed("onnxruntime"):
            name = "onnxruntime"
        elif _is_installed("torch"):
            name = "torch"
        elif has_onnx:
            raise MissingExtraError("playing a world", "cpu")
        else:
            raise InputError(f"no ONNX graphs in {folder / 'onnx'}: run `worldgen export {folder} --to onnx`")
    if name == "onnxruntime":
        if not _is_installed("onnxruntime"):
            raise BackendUnavailableError("onnxruntime is not installed: pip install 'worldgen[cpu]'")
        from worldgen.backends.onnxruntime_backend import OnnxRuntimeBackend

        return OnnxRuntimeBackend(folder)
    if name == "torch":
        if not _is_installed("torch"):
            raise BackendUnavailableError("torch is not installed: pip install 'worldgen[train]'")
        from worldgen.backends.torch_backend import TorchBackend

        return TorchBackend.load(folder)
    if name == "tensorrt":
        raise BackendUnavailableError("this version of worldgen has no TensorRT engine: use --backend onnxruntime")
    raise InputError(f"unknown backend {name!r}; choose auto, {', '.join(NAMES)}")


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
