"""Engines that run a world's graphs. One protocol; each engine is imported only when it is chosen."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from worldgen.errors import BackendUnavailableError, InputError, MissingExtraError
from worldgen.graphs import GraphSpec

NAMES = ("onnxruntime", "torch", "tensorrt")
DEVICES = ("cpu", "cuda", "tensorrt")  # of ONNX Runtime
PRECISIONS = ("fp32", "fp16", "int8")
TENSORRT_PRECISIONS = ("fp32", "fp16", "bf16", "fp8")
OPTIONS = {"onnxruntime": DEVICES + PRECISIONS, "torch": ("compiled", "bf16"), "tensorrt": TENSORRT_PRECISIONS}

Array = Any  # the backend's own: onnxruntime.OrtValue or torch.Tensor


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
        """inputs by name, leading batch axis -> outputs by name. A `cache` is given up to the `next_cache` that comes
        out: it may have been written where it lies."""
        ...

    def prepare(self, graph: str, batch: int) -> None:
        """Loads what run() will need, so that no frame waits for it."""
        ...

    def asarray(self, x: np.ndarray) -> Array:
        """May share the memory of x: give an array that nobody else writes."""
        ...

    def numpy(self, x: Array) -> np.ndarray:
        """The caller's own copy."""
        ...

    def tensor(self, x: Array) -> Any:
        """The caller's own copy as a torch.Tensor, on the engine's device where the engine is torch's."""
        ...

    def put(self, x: Array, rows: np.ndarray, values: Array) -> Array:
        """x (b, ...) with values (r, ...) in its rows (r,) int64; x is given up"""
        ...


def open_backend(folder: Path, name: str = "auto") -> Backend:
    """Opens a world's folder with the named engine: a name of NAMES, or one with its options, as in
    "onnxruntime:cpu:fp16" (see OPTIONS). "auto" takes ONNX Runtime if it can, else torch; what is named
    never falls back. Raises InputError (unknown name, incomplete or stale world), BackendUnavailableError where what is
    named is not installed or cannot run, MissingExtraError where no engine is."""
    name, *options = name.split(":")
    why = "asked for"
    if name == "auto":
        name, why = _choose(folder)
    if name not in NAMES:
        raise InputError(f"unknown backend {name!r}; choose auto, {', '.join(NAMES)}")
    if unknown := [option for option in options if option not in OPTIONS[name]]:
        raise InputError(f"unknown option {unknown[0]!r} of {name}; choose {', '.join(OPTIONS[name])}")
    if name == "onnxruntime":
        if not _is_installed("onnxruntime"):
            raise BackendUnavailableError("onnxruntime is not installed: pip install 'worldgen[cpu]'")
        from worldgen.backends.onnxruntime_backend import OnnxRuntimeBackend

        precision = _one_of(PRECISIONS, options) or "fp32"
        return OnnxRuntimeBackend(folder, _one_of(DEVICES, options) or "auto", precision=precision)
    if name == "torch":
        if not _is_installed("torch"):
            raise BackendUnavailableError("torch is not installed: pip install 'worldgen[train]'")
        from worldgen.backends.torch_backend import TorchBackend

        backend = TorchBackend.load(folder, is_compiled="compiled" in options, is_half="bf16" in options)
        backend.facts["chosen"] = why
        return backend
    from worldgen.backends.tensorrt_backend import TensorRTBackend

    return TensorRTBackend(folder, _one_of(TENSORRT_PRECISIONS, options))


def _choose(folder: Path) -> tuple[str, str]:
    """-> the engine, and why"""
    has_onnx = (folder / "onnx" / "manifest.json").is_file()
    if has_onnx and _is_installed("onnxruntime"):
        return "onnxruntime", "it can run this world"
    if _is_installed("torch"):
        return "torch", "onnxruntime is not installed" if has_onnx else "this world has no ONNX graphs"
    if has_onnx:
        raise MissingExtraError("playing a world", "cpu")
    raise InputError(f"no ONNX graphs in {folder / 'onnx'}: run `worldgen export {folder} --to onnx`")


def _one_of(choices: tuple[str, ...], options: list[str]) -> str | None:
    chosen = [option for option in options if option in choices]
    if len(chosen) > 1:
        raise InputError(f"{' and '.join(map(repr, chosen))} exclude each other: name one")
    return chosen[0] if chosen else None


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
