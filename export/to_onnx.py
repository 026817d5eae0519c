"""Exports a world's graphs to ONNX, with one copy of the weights, and publishes them only if they agree with torch.

worldgen export worlds/mine --to onnx
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import onnx
import torch

from worldgen.bundle import load_networks, network_hashes
from worldgen.errors import BackendUnavailableError, InputError
from worldgen.export.shared_weights import WEIGHTS_FILE, share_weights
from worldgen.export.verify import verify_onnx
from worldgen.files import file_hash, replace_folder, write_json
from worldgen.models.steps import example_inputs, step_modules, step_specs

OPSET = 20


def export_onnx(world: Path, say: Callable[[str], None] = print) -> dict[str, object]:
    """Writes WORLD/onnx whole or not at all -> the manifest, with the parity that was measured.

    Raises InputError when a network is missing, RunError when a graph disagrees with torch.
    """
    sources = network_hashes(world)  # before they are read: weights that change meanwhile make these graphs stale
    networks = load_networks(world)
    modules, specs = step_modules(**networks), step_specs(**networks)
    bounds = {
        "position": networks["dynamics"].position_period,
        "filled": networks["dynamics"].config.context + 1,
        "action": min(networks["dynamics"].config.action_sizes) + 1,
    }
    building = world / ".onnx.tmp"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    models = {}
    for name, module in modules.items():
        spec = specs[name]
        say(f"exporting {name}")
        inputs = example_inputs(spec, 2, bounds)
        batch = torch.export.Dim("batch", min=1, max=65536)
        with _quietly():
            program = torch.onnx.export(
                module,
                kwargs=inputs,
                input_names=[tensor.name for tensor in spec.inputs],
                output_names=list(spec.output_names),
                dynamic_shapes={tensor.name: {0: batch} for tensor in spec.inputs},
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
            )
        assert program is not None  # as no file was asked for
        models[name] = program.model_proto
    share_weights(models, building)
    manifest = {
        "format_version": 1,
        "opset": OPSET,
        "versions": {"torch": torch.__version__, "onnx": onnx.__version__},
        "weights": sources,
        "weights_file": {"file": WEIGHTS_FILE, "sha256": file_hash(building / WEIGHTS_FILE)},
        "position_period": networks["dynamics"].position_period,
        "graphs": {
            name: {"file": f"{name}.onnx", "sha256": file_hash(building / f"{name}.onnx"), **specs[name].to_json()}
            for name in models
        },
    }
    write_json(building / "manifest.json", manifest)
    manifest["parity"] = verify_onnx(building, modules, specs, bounds, say=say)
    write_json(building / "manifest.json", manifest)
    replace_folder(building, world / "onnx")
    return manifest


@contextlib.contextmanager
def _quietly():
    """The exporter prints its progress and warns about itself."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def export_world(world: Path, target: str = "onnx", say: Callable[[str], None] = print) -> dict[str, object]:
    if target == "tensorrt":
        raise BackendUnavailableError("this version of worldgen has no TensorRT engine: use --to onnx")
    if target != "onnx":
        raise InputError(f"unknown export target {target!r}; choose onnx")
    return export_onnx(world, say=say)
