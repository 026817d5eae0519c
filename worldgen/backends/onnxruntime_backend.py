"""ONNX Runtime: the default engine, no torch needed. On the CPU, or on an NVIDIA GPU through CUDA or TensorRT."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnxruntime import InferenceSession, OrtValue

from worldgen.backends.memory import refuse_out_of_memory
from worldgen.bundle import onnx_folder, read_manifest
from worldgen.cores import usable_cores
from worldgen.errors import BackendUnavailableError, InputError
from worldgen.graphs import IN_PLACE

MAX_THREADS = 4
LIGHT = 100e6  # bytes of weights times games: below this, threads cost more than they bring (5.4 against 7.1 ms of CPU)
BEGINNING = ("encode", "commit", "decode")
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


class OnnxRuntimeBackend:
    """Arrays are OrtValues in the memory of the device. Of a graph that gives `next_cache` only one slot is written,
    into the ring that it was given."""

    def __init__(self, folder: Path, device: str = "auto", *, precision: str = "fp32", graphs: Path | None = None):
        """device: cpu, cuda or tensorrt; auto takes cuda where it works, else the CPU. graphs: the folder of the
        graphs, where it is not the one of the precision.

        Raises BackendUnavailableError where the named device does not work.
        """
        _refuse_double_install()
        manifest = read_manifest(folder, graphs or onnx_folder(folder, precision))
        options = [device] * (device != "auto") + [precision] * (precision != "fp32")
        self.name = ":".join(["onnxruntime", *options])
        self.specs = manifest.specs
        self.position_period = manifest.position_period
        self.weights_hash = manifest.weights_hash
        self._paths = manifest.paths
        self._threads = min(MAX_THREADS, usable_cores())
        weights = manifest.raw["weights_file"]["file"]
        self._num_bytes = manifest.paths["decode"].with_name(weights).stat().st_size
        self._sessions: dict[tuple[str, int], InferenceSession] = {}
        self.facts: dict[str, Any] = {"version": onnxruntime.__version__, "precision": precision}
        self._providers, reason = self._choose(device)
        for graph in BEGINNING:  # what every game needs is refused now, not in its midst
            self._session(graph, 1)
        is_cpu = self._providers == [PROVIDERS["cpu"]]
        self._device = "cpu" if is_cpu else "cuda"
        providers = self._session("decode", 1).get_providers()
        self.facts |= {"device": self._device, "providers": providers, "chosen": reason}

    def _choose(self, device: str) -> tuple[list[str], str]:
        """-> providers, and why"""
        given, cpu = onnxruntime.get_available_providers(), PROVIDERS["cpu"]
        if device == "cpu":
            return [cpu], "asked for"
        if device == "auto" and PROVIDERS["cuda"] not in given:
            return [cpu], "this onnxruntime runs on CPUs only"
        wanted = PROVIDERS["cuda" if device == "auto" else device]
        if wanted not in given:
            raise BackendUnavailableError(
                f"the installed onnxruntime has no {wanted} (it has {', '.join(given)}): "
                "pip uninstall -y onnxruntime && pip install 'worldgen[gpu]', or use --backend onnxruntime"
            )
        if hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # CUDA's and cuDNN's libraries, from their wheels
        providers = [wanted] + ([PROVIDERS["cuda"]] if device == "tensorrt" else []) + [cpu]
        self._providers = providers
        used = self._session("decode", 1).get_providers()
        if wanted in used:
            return providers, "asked for" if device != "auto" else "a GPU is there"
        if device != "auto":  # ONNX Runtime falls back to the CPU without a word
            raise BackendUnavailableError(
                f"{wanted} does not start here, ONNX Runtime would run on {', '.join(used)}: look at `nvidia-smi` and "
                "at the versions of CUDA and cuDNN, or use --backend onnxruntime:cpu"
            )
        return [cpu], f"{wanted} does not start here"

    def _session(self, graph: str, batch: int) -> InferenceSession:
        """The graphs of whole frames are loaded when they are first needed: a game uses one."""
        is_light = self._providers == [PROVIDERS["cpu"]] and batch * self._num_bytes < LIGHT
        threads = 1 if is_light else self._threads
        if (graph, threads) not in self._sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 3
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            path = self._paths[graph]
            try:
                self._sessions[graph, threads] = InferenceSession(path, options, providers=self._providers)
            except Exception as error:  # onnxruntime's own exceptions share no base class
                raise InputError(f"{path}: ONNX Runtime cannot load it ({str(error).splitlines()[0]})") from None
        self.facts["threads"] = threads
        return self._sessions[graph, threads]

    def run(self, graph: str, inputs: Mapping[str, OrtValue]) -> dict[str, OrtValue]:
        batch, names = next(iter(inputs.values())).shape()[0], self.specs[graph].output_names
        session = self._session(graph, batch)
        binding = session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name in names:
            if name in IN_PLACE:
                binding.bind_ortvalue_output(name, inputs[IN_PLACE[name]])
            else:
                binding.bind_output(name, self._device)
        with refuse_out_of_memory(batch, "this machine" if self._device == "cpu" else "the GPU"):
            session.run_with_iobinding(binding)
        outputs = dict(zip(names, binding.get_outputs(), strict=True))
        # not the output: it does not own the memory that both share
        return outputs | {name: inputs[IN_PLACE[name]] for name in names if name in IN_PLACE}

    def prepare(self, graph: str, batch: int) -> None:
        self._session(graph, batch)

    def asarray(self, x: np.ndarray) -> OrtValue:
        """On the CPU the array's own memory."""
        if self._device == "cpu":
            return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(x), "cpu")
        with refuse_out_of_memory(len(x), "the GPU"):
            return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(x), self._device)

    def numpy(self, x: OrtValue) -> np.ndarray:
        return np.array(x.numpy())

    def tensor(self, x: OrtValue) -> Any:
        import torch

        return torch.from_numpy(self.numpy(x))

    def put(self, x: OrtValue, rows: np.ndarray, values: OrtValue) -> OrtValue:
        whole = x.numpy()
        if whole.ctypes.data == x.data_ptr():  # the memory of x, on the CPU
            whole[rows] = values.numpy()
            return x
        whole = whole.copy()
        whole[rows] = values.numpy()
        return self.asarray(whole)


def _refuse_double_install() -> None:
    """Both packages own the module `onnxruntime`: installed together, one has overwritten the other."""
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            return
    raise BackendUnavailableError(
        "onnxruntime and onnxruntime-gpu are both installed and share one module; the GPU is lost. "
        "Run: pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    )
