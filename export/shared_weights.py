"""One copy of the weights for several ONNX graphs, as external data next to them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHTS_FILE = "weights.bin"
ALIGNMENT = 64  # bytes: a cache line
SMALL = 1024  # bytes; smaller constants stay in the graph


def share_weights(models: dict[str, onnx.ModelProto], folder: Path) -> None:
    """Writes folder/<name>.onnx and folder/weights.bin; equal tensors are stored once.

    Tensors whose every value is a half-precision number (a world published with half the bytes) are stored as such and
    cast back in the graph: nothing is lost, and runtimes fold the cast away when they load it.
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
                    _cast_from_half(model.graph, tensor)
                raw = array.tobytes()
                digest = hashlib.sha256(raw).hexdigest()
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
        _strip(model)
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())


def _cast_from_half(graph: onnx.GraphProto, tensor: TensorProto) -> None:
    """The initializer takes another name; a Cast in front of the graph gives the old one."""
    name = tensor.name
    tensor.name = f"{name}.half"
    graph.node.insert(0, helper.make_node("Cast", [tensor.name], [name], f"cast {name}", to=TensorProto.FLOAT))


def _strip(model: onnx.ModelProto) -> None:
    """Drops what a runtime infers or ignores: most of a graph's bytes, and paths of the machine that exported it."""
    del model.graph.value_info[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for info in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        del info.metadata_props[:]
        info.doc_string = ""
    del model.graph.metadata_props[:]
