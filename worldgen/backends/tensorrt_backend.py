"""TensorRT, or TensorRT for RTX, on an NVIDIA GPU. Memory and streams are torch's.

Not run on a GPU yet: what could be checked without one is that every graph is accepted and its engine builds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.backends.engine_folder import find_engines, read_engines
from worldgen.backends.tensorrt_library import find_gpu, find_library
from worldgen.errors import BackendUnavailableError, InputError

if TYPE_CHECKING:
    from torch import Tensor

CUDA_GRAPH_BATCH = 64  # up to here starting kernels costs more than the copies into a CUDA graph's fixed memory


class TensorRTBackend:
    """Arrays are CUDA tensors. Engines hold two profiles: one game, and up to `max_batch` of them."""

    def __init__(self, world: Path, precision: str | None = None, *, folder: Path | None = None):
        """precision: None takes the first there is. folder: engines that are not published yet."""
        library, gpu = find_library(), find_gpu()
        import torch

        self._torch, self._trt, self._log = torch, library.module, library.logger()
        if folder is None:
            engines = find_engines(world, gpu, library, precision)
        else:
            engines = read_engines(world, folder, gpu, library)
        self._found = engines
        self.name = "tensorrt" if precision is None else f"tensorrt:{precision}"
        self.specs, self.position_period = engines.specs, engines.position_period
        self.weights_hash = engines.weights_hash
        self._runtime = self._trt.Runtime(self._log)
        self._stream = torch.cuda.Stream()
        self._engines: dict[str, Any] = {}
        self._contexts: dict[tuple[str, int], Any] = {}
        self._recorded: dict[tuple[str, int], _Recorded] = {}
        self.facts = {
            "version": f"{library.module.__name__} {library.version}",
            "device": gpu.name,
            "precision": engines.precision,
            "threads": 1,
            "engines": engines.folder.name,
        }

    def run(self, graph: str, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        torch, batch = self._torch, len(next(iter(inputs.values())))
        if batch > self._found.max_batch:
            raise InputError(
                f"the engines in {self._found.folder} run up to {self._found.max_batch} games at once, "
                f"asked for {batch}: run `worldgen export {self._found.folder.parents[1]} --to tensorrt "
                f"--precision {self._found.precision} --batch {batch}`"
            )
        self._stream.wait_stream(torch.cuda.current_stream())
        try:
            with torch.cuda.stream(self._stream):
                if batch > CUDA_GRAPH_BATCH:
                    outputs = self._empty(graph, batch)
                    self._start(graph, inputs, outputs)
                else:
                    if (graph, batch) not in self._recorded:
                        self._recorded[graph, batch] = self._record(graph, inputs)
                    outputs = self._recorded[graph, batch].replay(inputs)
        except torch.cuda.OutOfMemoryError:
            raise BackendUnavailableError(f"{batch} games do not fit into the GPU's memory: play fewer") from None
        torch.cuda.current_stream().wait_stream(self._stream)
        return outputs

    def _start(self, graph: str, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """Queues one run on the stream."""
        context = self._context(graph, len(next(iter(inputs.values()))))
        for spec in self.specs[graph].inputs:
            given = inputs[spec.name].contiguous()
            context.set_input_shape(spec.name, tuple(given.shape))
            context.set_tensor_address(spec.name, given.data_ptr())
            given.record_stream(self._stream)
        for name, x in outputs.items():
            context.set_tensor_address(name, x.data_ptr())
            x.record_stream(self._stream)
        if not context.execute_async_v3(self._stream.cuda_stream):
            raise BackendUnavailableError(f"TensorRT could not run {graph}: {self._log.last_error}")

    def _record(self, graph: str, inputs: Mapping[str, Tensor]) -> _Recorded:
        """A CUDA graph of one run, on memory of its own: started at once instead of kernel by kernel."""
        torch = self._torch
        given = {name: x.clone() for name, x in inputs.items()}
        outputs = self._empty(graph, len(next(iter(inputs.values()))))
        self._start(graph, given, outputs)  # once outside: the first run allocates
        self._stream.synchronize()
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded, stream=self._stream):
            self._start(graph, given, outputs)
        return _Recorded(recorded, given, outputs)

    def _context(self, graph: str, batch: int) -> Any:
        profile = 0 if batch == 1 else 1
        if (graph, profile) not in self._contexts:
            if graph not in self._engines:
                plan = self._found.plan(graph)
                engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
                if engine is None:
                    raise BackendUnavailableError(f"{plan}: TensorRT cannot load it ({self._log.last_error})")
                self._engines[graph] = engine
            context = self._engines[graph].create_execution_context()
            if context is None:
                raise BackendUnavailableError(f"{graph}: no memory to run it ({self._log.last_error})")
            context.set_optimization_profile_async(profile, self._stream.cuda_stream)
            self._contexts[graph, profile] = context
        return self._contexts[graph, profile]

    def _empty(self, graph: str, batch: int) -> dict[str, Tensor]:
        torch = self._torch
        return {
            spec.name: torch.empty((batch, *spec.shape), dtype=getattr(torch, spec.dtype), device="cuda")
            for spec in self.specs[graph].outputs
        }

    def prepare(self, graph: str, batch: int) -> None:
        self._context(graph, batch)

    def asarray(self, x: np.ndarray) -> Tensor:
        return self._torch.from_numpy(np.ascontiguousarray(x)).to("cuda")

    def numpy(self, x: Tensor) -> np.ndarray:
        return np.array(x.cpu().numpy())

    def tensor(self, x: Tensor) -> Tensor:
        return x.clone()

    def put(self, x: Tensor, rows: np.ndarray, values: Tensor) -> Tensor:
        return x.index_copy_(0, self._torch.from_numpy(rows).to("cuda"), values)


class _Recorded:
    """A CUDA graph and the memory it works on. Outputs are copies: a world keeps them while others play."""

    def __init__(self, graph: Any, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]):
        self._graph, self._inputs, self._outputs = graph, inputs, outputs

    def replay(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        for name, x in inputs.items():
            self._inputs[name].copy_(x)
        self._graph.replay()
        return {name: x.clone() for name, x in self._outputs.items()}
