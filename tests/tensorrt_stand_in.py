"""A stand-in for TensorRT and for a GPU, on the CPU.

It does what worldgen asks of TensorRT with the numbers of ONNX Runtime: builds a plan from an ONNX file, runs it on raw
addresses, in the order they were queued, and keeps TensorRT's rules: shapes within a profile, a ring bound to the
memory of its output, and a CUDA graph that replays addresses, on a context that nobody has given another shape since.
"""

from __future__ import annotations

import contextlib
import enum
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from worldgen.backends import tensorrt_backend, tensorrt_library
from worldgen.backends.tensorrt_library import Gpu

VERSION = "11.4.0"
GPU = Gpu("Stand-in", 90)
LIBRARY = tensorrt_library.Library(SimpleNamespace(__name__="tensorrt", __version__=VERSION), "trt")
BYTES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8}


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class LayerType(enum.Enum):
    ATTENTION_INPUT = 1
    KV_CACHE_UPDATE = 2


class MemoryPoolType(enum.Enum):
    WORKSPACE = 1


class ILogger:
    def __init__(self) -> None:
        pass


class Builder:
    def __init__(self, log: ILogger):
        self._log = log

    def create_network(self, flags: int) -> SimpleNamespace:
        assert flags & 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        return SimpleNamespace(num_layers=0, model=None)

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: SimpleNamespace, config: Config) -> bytes | None:
        names = {x.name for x in network.model.graph.input}
        if not config.profiles or any(set(profile) != names for profile in config.profiles):
            self._log.log(1, "a profile lacks an input")
            return None
        header = json.dumps({"profiles": config.profiles}).encode()
        return header + b"\n" + network.model.SerializeToString()


class Config:
    def __init__(self) -> None:
        self.profiles: list[Profile] = []

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        assert size > 0

    def add_optimization_profile(self, profile: Profile) -> None:
        self.profiles.append(profile)


class Profile(dict):
    def set_shape(self, name: str, least: tuple, best: tuple, most: tuple) -> None:
        assert all(a <= b <= c for a, b, c in zip(least, best, most, strict=True))
        self[name] = [list(least), list(most)]


class OnnxParser:
    num_errors = 1

    def __init__(self, network: SimpleNamespace, log: ILogger):
        self._network = network

    def parse_from_file(self, path: str) -> bool:
        self._network.model = onnx.load(path)
        onnx.checker.check_model(self._network.model, full_check=True)
        for tensor in self._network.model.graph.input:
            if tensor.name == "cache" and len(tensor.type.tensor_type.shape.dim) != 4:
                return False
        return True

    def get_error(self, i: int) -> SimpleNamespace:
        return SimpleNamespace(desc=lambda: "a cache has 4 axes")


class Runtime:
    def __init__(self, log: ILogger):
        self._log = log

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        header, _, model = plan.partition(b"\n")
        try:
            return Engine(self._log, json.loads(header)["profiles"], model)
        except ValueError as error:
            self._log.log(1, f"not a plan: {error}")
            return None


class Engine:
    def __init__(self, log: ILogger, profiles: list[dict], model: bytes):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        self.log, self.profiles = log, profiles
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def create_execution_context(self) -> Context:
        return Context(self)


class Context:
    def __init__(self, engine: Engine):
        self._engine = engine
        self._profile: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self._profile = self._engine.profiles[index]
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, most = self._profile[name]
        fits = len(shape) == len(least) and all(a <= s <= b for a, s, b in zip(least, shape, most, strict=True))
        if fits:
            self.shapes[name] = shape
        return fits

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        session, addresses, shapes = self._engine.session, dict(self._addresses), dict(self.shapes)
        outputs = {x.name for x in session.get_outputs()}
        if set(addresses) != {x.name for x in session.get_inputs()} | outputs:
            self._engine.log.log(1, "a tensor has no address")
            return False
        if "next_cache" in outputs and addresses["next_cache"] != addresses["cache"]:
            self._engine.log.log(1, "the output of a cache is not bound to its input")
            return False
        if CUDAGraph.recording is None:
            self.compute(addresses, shapes)
        else:
            CUDAGraph.recording.work.append((self, addresses, shapes))
        return True

    def compute(self, addresses: dict[str, int], shapes: dict[str, tuple[int, ...]]) -> None:
        session = self._engine.session
        batch = next(iter(shapes.values()))[0]
        binding = session.io_binding()
        for x in session.get_inputs():
            binding.bind_input(x.name, "cpu", 0, BYTES[x.type], shapes[x.name], addresses[x.name])
        for x in session.get_outputs():
            shape = (batch, *x.shape[1:])
            binding.bind_output(x.name, "cpu", 0, BYTES[x.type], shape, addresses[x.name])
        session.run_with_iobinding(binding)


class Stream:
    cuda_stream = 0

    def wait_stream(self, other: Stream) -> None: ...

    def synchronize(self) -> None: ...


class CUDAGraph:
    recording: CUDAGraph | None = None
    replays = 0

    def __init__(self) -> None:
        self.work: list[tuple[Context, dict, dict]] = []

    def replay(self) -> None:
        CUDAGraph.replays += 1
        for context, addresses, shapes in self.work:
            assert context.shapes == shapes, "the context has been given another shape since"
            context.compute(addresses, shapes)


@contextlib.contextmanager
def graph(recorded: CUDAGraph, stream: Stream) -> Iterator[None]:
    CUDAGraph.recording = recorded
    try:
        yield
    finally:
        CUDAGraph.recording = None


@contextlib.contextmanager
def no_gpu_but_this_one(**others: object) -> Iterator[SimpleNamespace]:
    """Within, TensorRT is this stand-in and torch's GPU is the CPU -> the module. others: instead of its own."""
    torch = pytest.importorskip("torch")
    names = (NetworkDefinitionCreationFlag, LayerType, MemoryPoolType, ILogger, Builder, OnnxParser, Runtime)
    own = {cls.__name__: cls for cls in names}
    module = SimpleNamespace(**{"__name__": "tensorrt", "__version__": VERSION, **own, **others})
    with pytest.MonkeyPatch.context() as patch:
        for place in (tensorrt_library, tensorrt_backend):
            patch.setattr(place, "find_library", lambda: tensorrt_library.Library(module, "trt"))
            patch.setattr(place, "find_gpu", lambda: GPU)
        patch.setattr(tensorrt_backend, "DEVICE", "cpu")
        patch.setattr(torch.cuda, "Stream", Stream)
        patch.setattr(torch.cuda, "current_stream", Stream)
        patch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
        patch.setattr(torch.cuda, "CUDAGraph", CUDAGraph)
        patch.setattr(torch.cuda, "graph", graph)
        yield module


def build_engines(world: Path, precision: str = "fp32", max_batch: int = 16, is_verified: bool = False) -> dict:
    """Engines of the graphs that the world's ONNX export holds, which saves exporting them again -> the manifest"""
    from worldgen.export import to_tensorrt
    from worldgen.graphs import is_frame_graph

    paths = [path for path in (world / "onnx").glob("*.onnx") if not is_frame_graph(path.stem)]
    parts = {path.stem: onnx.load(path) for path in paths}
    with pytest.MonkeyPatch.context() as patch, no_gpu_but_this_one() as module:
        patch.setattr(to_tensorrt, "find_library", lambda: tensorrt_library.Library(module, "trt"))
        patch.setattr(to_tensorrt, "find_gpu", lambda: GPU)
        patch.setattr(to_tensorrt, "export_parts", lambda networks, say: parts)
        if not is_verified:
            patch.setattr(to_tensorrt, "verify", lambda *_: {})
        return to_tensorrt.export_tensorrt(world, precision, max_batch, say=lambda text: None)
