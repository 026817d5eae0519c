"""One copy of the weights for several ONNX graphs, as external data next to them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx

WEIGHTS_FILE = "weights.bin"
ALIGNMENT = 4096  # pages, so that runtimes can map the file
SMALL = 1024  # bytes; smaller constants stay in the graph


def share_weights(models: dict[str, onnx.ModelProto], folder: Path) -> None:
    """Writes folder/<name>.onnx and folder/weights.bin; equal tensors are stored once."""
    offsets: dict[str, int] = {}
    with (folder / WEIGHTS_FILE).open("wb") as file:
        for model in models.values():
            for tensor in model.graph.initializer:
                raw = onnx.numpy_helper.to_array(tensor).tobytes()
                if len(raw) < SMALL:
                    continue
                digest = hashlib.sha256(raw).hexdigest()
                if digest not in offsets:
                    file.write(b"\0" * (-file.tell() % ALIGNMENT))
                    offsets[digest] = file.tell()
                    file.write(raw)
                tensor.raw_data = raw
                onnx.external_data_helper.set_external_data(
                    tensor, WEIGHTS_FILE, offset=offsets[digest], length=len(raw)
                )
                tensor.ClearField("raw_data")
                for typed in ("float_data", "int64_data", "int32_data", "double_data"):
                    tensor.ClearField(typed)
    for name, model in models.items():
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
