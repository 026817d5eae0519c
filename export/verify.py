"""Checks exported graphs against the torch modules they came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from worldgen.errors import RunError
from worldgen.graphs import GraphSpec
from worldgen.models.steps import example_inputs

TOLERANCE = 1e-5  # of float_error
PIXEL_TOLERANCE = 1  # grey levels of uint8 outputs, where rounding may fall either way
CASES = ((1, 0), (1, 1), (3, 2))  # batch, seed


def verify_onnx(
    folder: Path,
    modules: Mapping[str, nn.Module],
    specs: Mapping[str, GraphSpec],
    bounds: Mapping[str, int],
    say: Callable[[str], None] = print,
) -> dict[str, float]:
    """-> the largest error of each graph over batch sizes and seeds. Raises RunError beyond the tolerance."""
    errors = {}
    for name, spec in specs.items():
        path = folder / f"{name}.onnx"
        onnx.checker.check_model(str(path), full_check=True)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = ({x.name for x in session.get_inputs()}, tuple(x.name for x in session.get_outputs()))
        if names != ({x.name for x in spec.inputs}, spec.output_names):
            raise RunError(f"{name}.onnx has inputs and outputs {names}, expected those of its specification")
        errors[name] = max(_error(name, session, modules[name], spec, bounds, *case) for case in CASES)
        say(f"  {name}: relative error {errors[name]:.1e}")
    return errors


def _error(name: str, session, module: nn.Module, spec: GraphSpec, bounds, batch: int, seed: int) -> float:
    inputs = example_inputs(spec, batch, bounds, seed)
    with torch.inference_mode():
        expected = module(**inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    got = session.run(spec.output_names, {k: v.numpy() for k, v in inputs.items()})
    worst = 0.0
    for tensor, want, have in zip(spec.outputs, (x.numpy() for x in expected), got, strict=True):
        if not np.isfinite(have).all():
            raise RunError(f"{name}.onnx gives NaN or infinity in {tensor.name}")
        if tensor.dtype == "uint8":
            difference = int(np.abs(want.astype(int) - have.astype(int)).max())
            if difference > PIXEL_TOLERANCE:
                raise RunError(f"{name}.onnx: {tensor.name} differs from torch by {difference} grey levels")
            continue
        error = float_error(want, have, is_number=tensor.shape == ())
        if error > TOLERANCE:
            raise RunError(f"{name}.onnx: {tensor.name} differs from torch by {error:.1e}, more than {TOLERANCE:.0e}")
        worst = max(worst, error)
    return worst


def float_error(want: np.ndarray, have: np.ndarray, is_number: bool) -> float:
    """Relative L2 error. Of a number per game, a reward or a probability, that is less than 1 the absolute error: one
    in a million times more or less likely to end is the same game."""
    scale = np.sqrt(want.size) if is_number else 1e-12
    return float(np.linalg.norm(want - have)) / max(float(scale), float(np.linalg.norm(want)))
