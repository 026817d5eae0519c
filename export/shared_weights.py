"""One copy of the weights for several ONNX graphs, as external data next to them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from worldgen.export.compact import compact
from worldgen.export.quantise import as_int8, is_half

WEIGHTS_FILE = "weights.bin"
ALIGNMENT = 64  # bytes: a cache line
SMALL = 1024  # bytes; smaller constants stay in the graph


def share_weights(models: dict[str, onnx.ModelProto], folder: Path) -> None:
    """Writes folder/<name>.onnx and folder/weights.bin; equal tensors are stored once.

    Weights whose every row is small integers times one scale (a published world's: quantise.py) are stored as int8 and
    multiplied in the graph; other tensors whose every value is a half-precision number as such, and cast back; a matrix
    that is there transposed is transposed back. Nothing is lost, and runtimes fold all this away when they load it.
    """
    offsets: dict[str, int] = {}
    with (folder / WEIGHTS_FILE).open("wb") as file:
        for model in models.values():
            waiting = list(model.graph.initializer)
            for tensor in waiting:
                array = numpy_helper.to_array(tensor)
                if array.nbytes < SMALL:
                    continue
                if found := as_int8(array):
                    array, scales = found
                    waiting.append(_multiply(model.graph, tensor, scales))
                elif array.dtype == np.float32 and is_half(array):
                    array = array.astype(np.float16)
                    _restore(model.graph, tensor, "Cast", to=TensorProto.FLOAT)
                raw = array.tobytes()
                digest = _digest(raw)
                if digest not in offsets and array.ndim == 2 and _digest(array.T.tobytes()) in offsets:
                    array = np.ascontiguousarray(array.T)
                    raw = array.tobytes()
                    digest = _digest(raw)
                    _restore(model.graph, tensor, "Transpose")
                if digest not in offsets:
                    file.write(b"\0" * (-file.tell() % ALIGNMENT))
                    offsets[digest] = file.tell()
                    file.write(raw)
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
                onnx.external_data_helper.set_external_data(
                    tensor, WEIGHTS_FILE, offset=offsets[digest], length=len(raw)
                )
                tensor.ClearField("raw_data")
    for name, model in models.items():
        compact(model)
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())


def _multiply(graph: onnx.GraphProto, tensor: TensorProto, scales: np.ndarray) -> TensorProto:
    """The initializer's integers times the scales are what had its name -> the scales, an initializer of their own"""
    name = tensor.name
    tensor.name = f"{name} unscaled"
    graph.initializer.append(numpy_helper.from_array(scales, f"{name} scales"))
    graph.node.insert(0, helper.make_node("Mul", [tensor.name, f"{name} scales"], [name], f"{name} scaled"))
    _restore(graph, tensor, "Cast", to=tensor.data_type)
    return graph.initializer[-1]


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _restore(graph: onnx.GraphProto, tensor: TensorProto, operator: str, **attributes: Any) -> None:
    """The initializer takes another name; an operator in front of the graph makes what had the old one."""
    name = tensor.name
    tensor.name = f"{name} before {operator}"
    graph.node.insert(0, helper.make_node(operator, [tensor.name], [name], tensor.name, **attributes))
