"""Builds TensorRT engines of a world's graphs, for the GPU of this machine, and publishes them only if they agree.

worldgen export worlds/mine --to tensorrt --precision fp16 --batch 64

With TensorRT for RTX and no GPU, engines are built for every generation it knows, and cannot be verified here.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import torch

from worldgen.backends.engine_folder import ANY_GPU, engine_folder, engine_shape
from worldgen.backends.tensorrt_library import Library, find_gpu, find_library, has_driver
from worldgen.bundle import load_networks, network_hashes
from worldgen.errors import InputError, RunError
from worldgen.export.fp8 import QUANTISED, quantised_inputs, to_fp8
from worldgen.export.precision import PRECISIONS, TENSORRT_PRECISIONS
from worldgen.export.ranges import check_half, find_ranges
from worldgen.export.tensorrt_graph import for_tensorrt
from worldgen.export.to_onnx import assemble, export_parts, reference_of
from worldgen.export.verify import record_games, verify
from worldgen.files import file_hash, new_folder, write_bytes, write_sealed
from worldgen.graphs import GraphSpec
from worldgen.models.steps import step_specs

WORKSPACE = 1 << 30  # bytes that a kernel may borrow
PROFILES = (1, 8, 64)  # numbers of games that kernels are chosen for, besides the most


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
    # outlives its engines: the next build is quicker
    timing = folder.with_name(f"{folder.name}.timing") if gpu else None
    profiles = [size for size in PROFILES if size < max_batch] + [max_batch]
    graphs = {}
    parts, games = export_parts(networks, say), record_games(world, reference_of(networks, sources))
    limits = PRECISIONS[precision]
    if precision in ("fp16", "fp8"):
        for name, part in parts.items():
            check_half(name, part, games.inputs(name))
    if precision == "fp8":
        watched = {name: quantised_inputs(parts[name].graph) for name in QUANTISED}
        ranges = {name: find_ranges(parts[name], watched[name], games.inputs(name)) for name in QUANTISED}
        limits = replace(limits, convert=to_fp8(ranges))
    with new_folder(folder) as building:
        for name, model in assemble(parts, specs, limits).items():
            began = time.perf_counter()
            write_bytes(building / f"{name}.plan", build_engine(model, specs[name], library, profiles, timing))
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
            "profiles": profiles,
            "is_in_place": writes_in_place(library),
            "versions": {"torch": torch.__version__, "onnx": onnx.__version__},
            "weights": sources,
            "position_period": networks["dynamics"].position_period,
            "graphs": graphs,
        }
        write_sealed(building / "manifest.json", manifest)
        if gpu is None:
            say("no GPU here: the engines were built, but neither run nor compared with torch")
        else:
            from worldgen.backends.tensorrt_backend import TensorRTBackend

            engine = TensorRTBackend(world, precision, folder=building)
            manifest |= verify(world, engine, games, limits, say)
            write_sealed(building / "manifest.json", manifest)
    return manifest


def writes_in_place(library: Library) -> bool:
    """Whether this TensorRT has caches that are written where they lie."""
    return hasattr(library.module.LayerType, "KV_CACHE_UPDATE")


def build_engine(
    model: onnx.ModelProto, spec: GraphSpec, library: Library, profiles: Sequence[int], timing: Path | None
) -> bytes:
    """A strongly typed engine: precisions are those of the graph. RunError with TensorRT's reason where it fails."""
    trt, log, is_in_place = library.module, library.logger(), writes_in_place(library)
    model = for_tensorrt(model, spec, is_in_place)
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
    least = 1
    for most in profiles:
        profile = builder.create_optimization_profile()
        for tensor in spec.inputs:
            shapes = (engine_shape(tensor, batch, is_in_place) for batch in (least, most, most))
            profile.set_shape(tensor.name, *shapes)
        config.add_optimization_profile(profile)
        least = most + 1
    timings = None
    if timing is not None and hasattr(config, "create_timing_cache"):
        timings = config.create_timing_cache(timing.read_bytes() if timing.is_file() else b"")
        config.set_timing_cache(timings, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RunError(f"TensorRT could not build {spec.name}: {log.last_error}")
    if timing is not None and timings is not None:
        write_bytes(timing, bytes(memoryview(timings.serialize())))
    return bytes(memoryview(plan))


def _decompose_attention(network: Any, trt: Any) -> None:
    """Attention has kernels of its own for some shapes and types only; the others are built from matrix products."""
    kind = getattr(trt.LayerType, "ATTENTION_INPUT", None)
    for i in range(network.num_layers):
        layer = network.get_layer(i)
        if kind is not None and layer.type == kind:
            layer.__class__ = trt.IAttentionInputLayer
            layer.attention.decomposable = True
