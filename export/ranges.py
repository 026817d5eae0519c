"""How large the numbers inside a graph get in recorded games."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
import onnxruntime

from worldgen.errors import RunError
from worldgen.export.precision import HALF_OPERATORS, LARGEST_HALF


def find_ranges(
    model: onnx.ModelProto, names: Iterable[str], runs: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, float]:
    """names: of values inside the graph; runs: inputs of it -> the largest absolute value of each"""
    names = sorted(names)
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    given = {x.name for x in [*watched.graph.input, *watched.graph.output]}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in given)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = {x.name for x in watched.graph.input}
    computed = [name for name in names if name not in inputs]
    ranges = dict.fromkeys(names, 0.0)
    for run in runs:
        for name, x in zip(computed, session.run(computed, dict(run)), strict=True):
            ranges[name] = max(ranges[name], float(np.abs(x).max()))
        for name in set(names) & inputs:
            ranges[name] = max(ranges[name], float(np.abs(run[name]).max()))
    return ranges


def check_half(name: str, model: onnx.ModelProto, runs: Sequence[Mapping[str, np.ndarray]]) -> None:
    """RunError where float16 would overflow. CPUs do not show it: there ONNX Runtime computes half precision in float32
    and only rounds what is stored."""
    weights = {x.name for x in model.graph.initializer}
    halved = [node for node in model.graph.node if node.op_type in HALF_OPERATORS]
    values = {value for node in halved for value in (*node.input, *node.output) if value and value not in weights}
    for value, largest in find_ranges(model, values, runs).items():
        if largest > LARGEST_HALF:
            raise RunError(
                f"{name}: {value} reaches {largest:.0f}, more than float16 holds ({LARGEST_HALF:.0f}): "
                "use fp32, or bf16 with TensorRT; nothing was published"
            )
