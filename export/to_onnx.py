"""Exports a world's graphs to ONNX, with one copy of the weights, and publishes them only if they agree with torch.

worldgen export worlds/mine --to onnx --precision fp32
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnx
import onnxscript
import torch
from onnx import TensorProto
from torch import nn

from worldgen.backends.torch_backend import TorchBackend
from worldgen.bundle import combined_hash, load_networks, network_hashes, onnx_folder
from worldgen.config import NFE_CHOICES
from worldgen.errors import InputError
from worldgen.export.fuse import fuse_frame
from worldgen.export.precision import ONNX_PRECISIONS, PRECISIONS, Precision
from worldgen.export.quietly import quietly
from worldgen.export.ranges import check_half
from worldgen.export.shared_weights import WEIGHTS_FILE, share_weights
from worldgen.export.verify import Games, record_games, verify_onnx
from worldgen.files import file_hash, new_folder, write_sealed
from worldgen.graphs import GraphSpec, frame_graph, is_frame_graph
from worldgen.models.steps import example_inputs, step_modules, step_specs

OPSET = 24  # RMSNormalization and Attention as one node each, TensorScatter
OP = onnxscript.values.Opset("", OPSET)


def export_onnx(world: Path, say: Callable[[str], None] = print, precision: str = "fp32") -> dict[str, Any]:
    """Writes WORLD/onnx, or WORLD/onnx-PRECISION, whole or not at all -> the manifest, with the measured parity.

    Raises InputError for an unknown precision or a missing network, RunError when a graph disagrees with torch.
    """
    if precision not in ONNX_PRECISIONS:
        raise InputError(f"unknown precision {precision!r} for ONNX; choose {', '.join(ONNX_PRECISIONS)}")
    sources = network_hashes(world)  # before they are read: weights that change meanwhile make these graphs stale
    networks = load_networks(world)
    folder = onnx_folder(world, precision)
    with new_folder(folder) as building:
        parts, games = export_parts(networks, say), record_games(world, reference_of(networks, sources))
        return write_onnx(world, building, networks, sources, parts, games, precision, say)


def write_onnx(
    world: Path,
    folder: Path,
    networks: Mapping[str, Any],
    sources: Mapping[str, str],
    parts: Mapping[str, onnx.ModelProto],
    games: Games,
    precision: str,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """The graphs in a precision, into a folder that is there -> the manifest, verified. sources: hashes of the
    networks; parts: of export_parts(); games: of record_games(). Raises RunError when a graph disagrees with torch."""
    specs = step_specs(**networks)
    if precision == "fp16":
        for name, part in parts.items():
            check_half(name, part, games.inputs(name))
    models = assemble(parts, specs, PRECISIONS[precision])
    share_weights(models, folder)
    manifest = {
        "format_version": 1,
        "precision": precision,
        "opset": OPSET,
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__},
        "weights": dict(sources),
        "weights_file": {"file": WEIGHTS_FILE, "sha256": file_hash(folder / WEIGHTS_FILE)},
        "position_period": networks["dynamics"].position_period,
        "graphs": {
            name: {"file": f"{name}.onnx", "sha256": file_hash(folder / f"{name}.onnx"), **specs[name].to_json()}
            for name in models
        },
    }
    write_sealed(folder / "manifest.json", manifest)
    manifest |= verify_onnx(world, folder, games, PRECISIONS[precision], say)
    write_sealed(folder / "manifest.json", manifest)
    return manifest


def reference_of(networks: Mapping[str, Any], sources: Mapping[str, str]) -> TorchBackend:
    """What exports are compared with."""
    return TorchBackend(**networks, device="cpu", weights_hash=combined_hash(sources))


def export_parts(networks: Mapping[str, Any], say: Callable[[str], None] = print) -> dict[str, onnx.ModelProto]:
    """Every graph of a world but those of whole frames, in float32. networks: by name, those of load_networks()."""
    modules, specs = step_modules(**networks), step_specs(**networks)
    dynamics = networks["dynamics"]
    bounds = {
        "position": dynamics.position_period,
        "filled": dynamics.config.context + 1,
        "action": min(dynamics.config.action_sizes) + 1,
    }
    parts = {}
    for name in modules:
        if not is_frame_graph(name):
            say(f"exporting {name}")
            parts[name] = _export(modules[name], specs[name], bounds)
    return parts


def assemble(
    parts: Mapping[str, onnx.ModelProto], specs: Mapping[str, GraphSpec], precision: Precision
) -> dict[str, onnx.ModelProto]:
    """The parts in a precision, and the graphs of whole frames made of them. `parts` stay as they are."""
    models = {}
    for name, part in parts.items():
        copy = onnx.ModelProto()
        copy.CopyFrom(part)
        models[name] = precision.convert(name, copy)
    return models | {frame_graph(nfe): fuse_frame(models, specs[frame_graph(nfe)], nfe) for nfe in NFE_CHOICES}


def _export(module: nn.Module, spec: GraphSpec, bounds: Mapping[str, int]) -> onnx.ModelProto:
    batch = torch.export.Dim("batch", min=1, max=65536)
    with quietly():
        program = torch.onnx.export(
            module,
            kwargs=example_inputs(spec, 2, bounds),
            input_names=[tensor.name for tensor in spec.inputs],
            output_names=list(spec.output_names),
            dynamic_shapes={tensor.name: {0: batch} for tensor in spec.inputs},
            opset_version=OPSET,
            custom_translation_table={torch.ops.worldgen.write_ring.default: tensor_scatter},
            dynamo=True,
            external_data=False,
        )
    assert program is not None  # as no file was asked for
    return program.model_proto


def tensor_scatter(cache, update, slot, after):
    """Where the runtime is given the ring's memory for the output, it writes one slot. The minimum is always the slot,
    but it waits for the values of `after`, and so for all that reads the ring: no optimiser can tell."""
    largest = OP.ReduceMax(after, OP.Constant(value_ints=list(range(1, len(after.shape)))), keepdims=0)
    is_nonzero = OP.Cast(OP.Cast(largest, to=TensorProto.BOOL), to=TensorProto.INT64)
    slot = OP.Min(slot, OP.Add(is_nonzero, OP.Constant(value_int=cache.shape[-2])))
    return OP.TensorScatter(cache, update, slot, axis=-2, mode="linear")


def export_world(
    world: Path,
    target: str = "onnx",
    precision: str | None = None,
    max_batch: int = 64,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """-> the manifest of the graphs or engines. precision: None is fp32 for ONNX, fp16 for TensorRT. max_batch: of the
    engines; graphs run any number of games."""
    if target == "onnx":
        return export_onnx(world, say=say, precision=precision or "fp32")
    if target == "tensorrt":
        from worldgen.export.to_tensorrt import export_tensorrt

        return export_tensorrt(world, precision or "fp16", max_batch, say)
    raise InputError(f"unknown export target {target!r}; choose onnx or tensorrt")
