"""One copy of the weights for several ONNX graphs, as external data next to them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from worldgen.export.compact import compact

WEIGHTS_FILE = "weights.bin"
ALIGNMENT = 64  # bytes: a cache line
SMALL = 1024  # bytes; smaller constants stay in the graph


def share_weights(models: dict[str, onnx.ModelProto], folder: Path) -> None:
    """Writes folder/<name>.onnx and folder/weights.bin; equal tensors are stored once.

    Tensors whose every value is a half-precision number (a world published with half the bytes) are stored as such and
    cast back in the graph; a matrix that is there transposed is transposed back. Nothing is lost, and runtimes fold
    both away when they load it.
    """
    offsets: dict[str, int] = {}
    with (folder / WEIGHTS_FILE).open("wb") as file:
        for model in models.values():
            for tensor in list(model.graph.initializer):
                array = numpy_helper.to_array(tensor)
                if array.nbytes < SMALL:
                    continue
                if array.dtype == np.float32 and np.array_equal(array, array.astype(np.float16).astype(np.float32)):
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


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _restore(graph: onnx.GraphProto, tensor: TensorProto, operator: str, **attributes: Any) -> None:
    """The initializer takes another name; an operator in front of the graph makes what had the old one."""
    name = tensor.name
    tensor.name = f"{name} before {operator}"
    graph.node.insert(0, helper.make_node(operator, [tensor.name], [name], tensor.name, **attributes))
