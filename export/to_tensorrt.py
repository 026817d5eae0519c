"""Builds TensorRT engines of a world's graphs, for the GPU of this machine, and publishes them only if they agree.

worldgen export worlds/mine --to tensorrt --precision fp16 --batch 64

With TensorRT for RTX and no GPU, engines are built for every generation it knows, and cannot be verified here.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper

from worldgen.backends.engine_folder import ANY_GPU, engine_folder
from worldgen.backends.tensorrt_library import Gpu, Library, find_gpu, find_library, has_driver
from worldgen.backends.torch_backend import TorchBackend
from worldgen.bundle import combined_hash, load_networks, network_hashes
from worldgen.errors import InputError, RunError
from worldgen.export.precision import PRECISIONS, TENSORRT_PRECISIONS
from worldgen.export.to_onnx import OP, export_models
from worldgen.export.verify import verify
from worldgen.files import file_hash, replace_folder, write_bytes, write_json
from worldgen.graphs import GraphSpec
from worldgen.models.steps import step_specs

WORKSPACE = 1 << 30  # bytes that a kernel may borrow


def export_tensorrt(
    world: Path, precision: str = "fp16", max_batch: int = 64, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Writes WORLD/tensorrt/<gpu>-<runtime><version>-<precision>, whole or not at all -> its manifest.

    Raises InputError for an unknown precision or batch, BackendUnavailableError without TensorRT or, for TensorRT
    itself, without a GPU, RunError where a graph is not accepted or an engine disagrees with torch.
    """
    if precision not in TENSORRT_PRECISIONS:
        raise InputError(f"unknown precision {precision!r} for TensorRT; choose {', '.join(TENSORRT_PRECISIONS)}")
    if max_batch < 1:
        raise InputError(f"--batch is at least 1, got {max_batch}")
    library = find_library()
    gpu = find_gpu() if library.kind == "trt" or has_driver() else None
    sources = network_hashes(world)
    networks = load_networks(world)
    specs = step_specs(**networks)
    folder = engine_folder(world, gpu.slug if gpu else ANY_GPU, library, precision)
    building = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    cache = (
        folder.with_name(f"{folder.name}.timing") if gpu else None
    )  # outlives its engines: the next build is quicker
    graphs = {}
    for name, model in export_models(networks, PRECISIONS[precision], select_slot, say).items():
        began = time.perf_counter()
        write_bytes(building / f"{name}.plan", build_engine(model, specs[name], library, gpu, max_batch, cache))
        seconds = time.perf_counter() - began
        say(f"  {name}: engine built in {seconds:.1f} s")
        digest = file_hash(building / f"{name}.plan")
        graphs[name] = {"file": f"{name}.plan", "sha256": digest, "build_seconds": seconds, **specs[name].to_json()}
    manifest = {
        "format_version": 1,
        "runtime": library.module.__name__,
        "version": library.version,
        "gpu": gpu.name if gpu else ANY_GPU,
        "capability": gpu.capability if gpu else None,
        "precision": precision,
        "max_batch": max_batch,
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__},
        "weights": sources,
        "position_period": networks["dynamics"].position_period,
        "graphs": graphs,
    }
    write_json(building / "manifest.json", manifest)
    if gpu is None:
        say("no GPU here: the engines were built, but neither run nor compared with torch")
    else:
        from worldgen.backends.tensorrt_backend import TensorRTBackend

        reference = TorchBackend(**networks, device="cpu", weights_hash=combined_hash(sources))
        engine = TensorRTBackend(world, precision, folder=building)
        manifest |= verify(world, engine, reference, PRECISIONS[precision], say)
        write_json(building / "manifest.json", manifest)
    replace_folder(building, folder)
    return manifest


def select_slot(cache, update, slot, after):
    """worldgen::write_ring as a select, which every TensorRT takes: on a GPU the copy costs microseconds."""
    rank, slots = len(cache.shape), cache.shape[-2]
    here = OP.Equal(OP.Unsqueeze(slot, OP.Constant(value_ints=[1])), OP.Constant(value_ints=list(range(slots))))
    axes = [*range(1, rank - 2), rank - 1]
    return OP.Where(OP.Unsqueeze(here, OP.Constant(value_ints=axes)), update, cache)


def bytes_as_floats(model: onnx.ModelProto) -> None:
    """TensorRT takes and gives bytes, but only casts them: inside, pixels are float32."""
    graph, kind = model.graph, TensorProto.UINT8
    names = {}
    casts = []
    for value in graph.input:
        if value.type.tensor_type.elem_type == kind:
            names[value.name] = f"{value.name} as float"
            casts.append(helper.make_node("Cast", [value.name], [names[value.name]], to=TensorProto.FLOAT))
    ends = []
    for value in graph.output:
        if value.type.tensor_type.elem_type == kind:
            names[value.name] = f"{value.name} as float"
            ends.append(helper.make_node("Cast", [names[value.name]], [value.name], to=kind))
    for node in graph.node:
        node.input[:] = [names.get(x, x) for x in node.input]
        node.output[:] = [names.get(x, x) for x in node.output]
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == kind:
                attribute.i = TensorProto.FLOAT  # what is cast to bytes has been rounded
    nodes = [*casts, *graph.node, *ends]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)


def build_engine(
    model: onnx.ModelProto, spec: GraphSpec, library: Library, gpu: Gpu | None, max_batch: int, timing: Path | None
) -> bytes:
    """A strongly typed engine: precisions are those of the graph. RunError with TensorRT's reason where it fails."""
    trt, log = library.module, library.logger()
    bytes_as_floats(model)
    builder = trt.Builder(log)
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)  # TensorRT 11 knows no other
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, log)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{spec.name}.onnx"
        onnx.save(model, path)
        if not parser.parse_from_file(str(path)):
            reasons = [parser.get_error(i).desc() for i in range(parser.num_errors)]
            raise RunError(f"TensorRT does not accept {spec.name}: {reasons[0] if reasons else log.last_error}")
    _decompose_attention(network, trt)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
    for most in sorted({1, max_batch}):
        profile = builder.create_optimization_profile()
        for tensor in spec.inputs:
            profile.set_shape(tensor.name, *((batch, *tensor.shape) for batch in (1, most, most)))
        config.add_optimization_profile(profile)
    if timing is not None and hasattr(config, "create_timing_cache"):
        timings = config.create_timing_cache(timing.read_bytes() if timing.is_file() else b"")
        config.set_timing_cache(timings, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RunError(f"TensorRT could not build {spec.name}: {log.last_error}")
    if timing is not None and config.get_timing_cache() is not None:
        write_bytes(timing, bytes(memoryview(config.get_timing_cache().serialize())))
    return bytes(memoryview(plan))


def _decompose_attention(network: Any, trt: Any) -> None:
    """Attention has kernels of its own for some shapes and types only; the others are built from matrix products."""
    kind = getattr(trt.LayerType, "ATTENTION_INPUT", None)
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        if kind is not None and layer.type == kind:
            layer.__class__ = trt.IAttentionInputLayer
            layer.attention.decomposable = True
