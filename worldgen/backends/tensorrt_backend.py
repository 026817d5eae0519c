"""TensorRT, or TensorRT for RTX, on an NVIDIA GPU. Memory and streams are torch's.

Not run on a GPU yet. What was checked without one: every graph is accepted and its engine builds, and this file runs
games on a stand-in for TensorRT that executes the same graphs on the same addresses (tests/tensorrt_stand_in.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.backends.engine_folder import Engines, engine_shape, find_engines, read_engines
from worldgen.backends.memory import is_out_of_memory, refuse_out_of_memory
from worldgen.backends.tensorrt_library import find_gpu, find_library
from worldgen.errors import BackendUnavailableError, InputError, RunError
from worldgen.graphs import IN_PLACE

if TYPE_CHECKING:
    from torch import Tensor

DEVICE = "cuda"
CUDA_GRAPH_BATCH = 64  # up to here starting kernels costs more than the copies into a CUDA graph's fixed memory
MOST_RECORDED = 16  # CUDA graphs that are kept: each has a context with memory of its own

Key = tuple[str, int, int]  # graph, batch, address of the ring


class TensorRTBackend:
    """Arrays are CUDA tensors. Rings are written where they lie."""

    def __init__(self, world: Path, precision: str | None = None, *, folder: Path | None = None):
        """precision: None takes the first there is. folder: engines that are not published yet."""
        library, gpu = find_library(), find_gpu()
        import torch

        self._torch, self._trt, self._log = torch, library.module, library.logger()
        self._found: Engines = (
            find_engines(world, gpu, library, precision)
            if folder is None
            else read_engines(world, folder, gpu, library)
        )
        self.name = "tensorrt" if precision is None else f"tensorrt:{precision}"
        self.specs, self.position_period = self._found.specs, self._found.position_period
        self.weights_hash = self._found.weights_hash
        self._runtime = self._trt.Runtime(self._log)
        self._stream = torch.cuda.Stream()
        self._engines: dict[str, Any] = {}
        self._contexts: dict[tuple[str, int], Any] = {}  # by profile, for runs that are not recorded
        self._recorded: OrderedDict[Key, _Recorded] = OrderedDict()
        self._last: dict[tuple[str, int], Key] = {}
        self.facts: dict[str, Any] = {
            "version": f"{library.module.__name__} {library.version}",
            "device": gpu.name,
            "precision": self._found.precision,
            "threads": 1,
            "engines": self._found.folder.name,
            "chosen": "asked for",
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
        with refuse_out_of_memory(batch, self.facts["device"]), torch.cuda.stream(self._stream):
            recorded = self._recording(graph, batch, inputs)
            outputs = recorded.replay(inputs) if recorded else self._run_at_once(graph, batch, inputs)
        torch.cuda.current_stream().wait_stream(self._stream)
        return outputs | {name: inputs[ring] for name, ring in self._rings(graph).items()}

    def _rings(self, graph: str) -> dict[str, str]:
        """{output: the input whose memory it takes}"""
        names = self.specs[graph].output_names if self._found.is_in_place else ()
        return {name: IN_PLACE[name] for name in names if name in IN_PLACE}

    def _recording(self, graph: str, batch: int, inputs: Mapping[str, Tensor]) -> _Recorded | None:
        """A CUDA graph for these inputs: started at once instead of kernel by kernel. It writes one ring, so it is made
        for a game that goes on, when its ring is seen for the second time in a row."""
        if batch > CUDA_GRAPH_BATCH:
            return None
        rings = self._rings(graph).values()
        key = (graph, batch, sum(inputs[name].data_ptr() for name in rings))
        if key in self._recorded:
            self._recorded.move_to_end(key)
        elif self._last.get((graph, batch)) == key:
            self._recorded[key] = self._record(graph, batch, inputs)
            if len(self._recorded) > MOST_RECORDED:
                self._recorded.popitem(last=False)
        self._last[graph, batch] = key
        return self._recorded.get(key)

    def _record(self, graph: str, batch: int, inputs: Mapping[str, Tensor]) -> _Recorded:
        """Captures one run. Its context is its own: another shape would move what the graph works on."""
        torch, context = self._torch, self._new_context(graph, batch)
        rings = self._rings(graph).values()
        fixed = {name: inputs[name] if name in rings else x.clone() for name, x in inputs.items()}
        outputs = self._empty(graph, batch)
        spare = {name: inputs[name].clone() for name in rings}
        self._start(context, graph, {**fixed, **spare}, outputs)  # once outside, as the first run allocates
        self._stream.synchronize()
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded, stream=self._stream):
            self._start(context, graph, fixed, outputs)
        own = {name: x for name, x in fixed.items() if name not in rings}
        return _Recorded(recorded, context, own, outputs)

    def _run_at_once(self, graph: str, batch: int, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        outputs = self._empty(graph, batch)
        self._start(self._context(graph, batch), graph, inputs, outputs)
        return outputs

    def _start(self, context: Any, graph: str, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """Queues one run on the stream."""
        given = {name: x.contiguous() for name, x in inputs.items()}  # held until the run is queued
        for spec in self.specs[graph].inputs:
            x = given[spec.name]
            shape = engine_shape(spec, len(x), self._found.is_in_place)
            if not context.set_input_shape(spec.name, shape):
                raise RunError(f"TensorRT does not take {spec.name} {shape} in {graph}: {self._log.last_error}")
            context.set_tensor_address(spec.name, x.data_ptr())
        rings = {name: given[ring] for name, ring in self._rings(graph).items()}
        for name, x in {**outputs, **rings}.items():
            context.set_tensor_address(name, x.data_ptr())
        if not context.execute_async_v3(self._stream.cuda_stream):
            raise RunError(f"TensorRT could not run {graph}: {self._log.last_error}")

    def _context(self, graph: str, batch: int) -> Any:
        key = graph, self._found.profile(batch)
        if key not in self._contexts:
            self._contexts[key] = self._new_context(graph, batch)
        return self._contexts[key]

    def _new_context(self, graph: str, batch: int) -> Any:
        if graph not in self._engines:
            plan = self._found.plan(graph)
            engine = self._runtime.deserialize_cuda_engine(plan.read_bytes())
            if engine is None:
                reason = self._log.last_error
                raise (RunError if is_out_of_memory(reason) else BackendUnavailableError)(
                    f"{plan}: TensorRT cannot load it ({reason})"
                )
            self._engines[graph] = engine
        context = self._engines[graph].create_execution_context()
        if context is None:
            raise RunError(f"{graph}: no memory to run it ({self._log.last_error}): play fewer games at once")
        context.set_optimization_profile_async(self._found.profile(batch), self._stream.cuda_stream)
        return context

    def _empty(self, graph: str, batch: int) -> dict[str, Tensor]:
        """Memory for what is not written in place."""
        torch, rings = self._torch, self._rings(graph)
        return {
            spec.name: torch.empty((batch, *spec.shape), dtype=getattr(torch, spec.dtype), device=DEVICE)
            for spec in self.specs[graph].outputs
            if spec.name not in rings
        }

    def prepare(self, graph: str, batch: int) -> None:
        self._context(graph, batch)

    def asarray(self, x: np.ndarray) -> Tensor:
        with refuse_out_of_memory(len(x), self.facts["device"]):
            return self._torch.from_numpy(np.ascontiguousarray(x)).to(DEVICE)

    def numpy(self, x: Tensor) -> np.ndarray:
        return np.array(x.cpu().numpy())

    def tensor(self, x: Tensor) -> Tensor:
        return x.clone()

    def put(self, x: Tensor, rows: np.ndarray, values: Tensor) -> Tensor:
        return x.index_copy_(0, self._torch.from_numpy(rows).to(DEVICE), values)


class _Recorded:
    """A CUDA graph, its context and the memory it works on. Outputs are copies: a world keeps them while others play;
    the ring is the game's own."""

    def __init__(self, graph: Any, context: Any, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]):
        self._graph, self._context, self._inputs, self._outputs = graph, context, inputs, outputs

    def replay(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        for name, x in self._inputs.items():
            x.copy_(inputs[name])
        self._graph.replay()
        return {name: x.clone() for name, x in self._outputs.items()}
