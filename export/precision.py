"""Graphs that compute in fewer bits than float32.

fp16, bf16   matrix products, convolutions and attention in half precision, everything else (norms, noise levels,
             phases, the ring, inputs and outputs) in float32: what torch calls autocast, done on the ONNX graph
int8         the matrix products of the denoiser, with weights quantised per channel when exported and activations per
             tensor when run: for CPUs. The ring is written in float32, as its errors stay. The range of a tensor
             depends on all of its rows, so frames depend a little on the games beside them
fp8          see fp8.py: an experiment, for TensorRT

Each is given with what it may differ from torch in float32, as relative L2 error of one run of a graph and of the
tokens after a rollout, and as PSNR of the frames of the rollout.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from worldgen.export.quietly import quietly

HALF_OPERATORS = ("MatMul", "Gemm", "Conv", "ConvTranspose", "Attention")
LARGEST_HALF = 65504.0
EDGE = 7  # the last matrix products, and those that read the tokens, keep their precision: see inner_products()


@dataclass(frozen=True)
class Precision:
    """step_error, of one evaluation, and rollout_error: relative; psnr: decibels."""

    name: str
    step_error: float
    rollout_error: float
    psnr: float
    convert: Callable[[str, onnx.ModelProto], onnx.ModelProto] = lambda name, model: model


def to_half(kind: int) -> Callable[[str, onnx.ModelProto], onnx.ModelProto]:
    def convert(name: str, model: onnx.ModelProto) -> onnx.ModelProto:
        return autocast(model, kind)

    return convert


def autocast(model: onnx.ModelProto, kind: int) -> onnx.ModelProto:
    """A copy whose HALF_OPERATORS compute in `kind` (TensorProto.FLOAT16 or BFLOAT16); their weights are stored so."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = onnx.shape_inference.infer_shapes(copy).graph
    infos = [*graph.value_info, *graph.input, *graph.output]
    is_float = {x.name for x in infos if x.type.tensor_type.elem_type == TensorProto.FLOAT}
    weights = {x.name: x for x in copy.graph.initializer if x.data_type == TensorProto.FLOAT}
    halved: dict[str, str] = {}
    nodes: list[NodeProto] = []
    for node in list(copy.graph.node):
        if node.op_type not in HALF_OPERATORS:
            nodes.append(node)
            continue
        for i, value in enumerate(node.input):
            if value in halved:
                node.input[i] = halved[value]
            elif value in weights:
                halved[value] = node.input[i] = f"{value} half"
                copy.graph.initializer.append(_half(weights[value], halved[value], kind))
            elif value in is_float:
                halved[value] = node.input[i] = f"{value} half"
                nodes.append(helper.make_node("Cast", [value], [halved[value]], f"halve {value}", to=kind))
        nodes.append(node)
        for i, value in enumerate(node.output):
            if value:
                node.output[i] = f"{value} computed"
                name = f"widen {value}"
                nodes.append(helper.make_node("Cast", [node.output[i]], [value], name, to=TensorProto.FLOAT))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    used = {value for node in nodes for value in node.input}
    kept = [x for x in copy.graph.initializer if x.name in used]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(kept)
    return copy


def _half(tensor: TensorProto, name: str, kind: int) -> TensorProto:
    array = numpy_helper.to_array(tensor)
    return numpy_helper.from_array(array.astype(helper.tensor_dtype_to_np_dtype(kind)), name)


def inner_products(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The matrix products by weights whose numbers may have 8 bits, of a dynamics' graph: not the last ones, whose
    errors reach the picture at once (where pixels are copied from among them; six, with cubic kernels seven), and not
    those before the blocks: a stem sees fine detail."""
    weights = {x.name for x in graph.initializer if len(x.dims) == 2}
    products = [(i, n) for i, n in enumerate(graph.node) if n.op_type == "MatMul" and n.input[1] in weights]
    last_convolution = max((i for i, n in enumerate(graph.node) if n.op_type == "Conv"), default=-1)
    reading = 1 + sum(i < last_convolution for i, _ in products)  # a stem ends with one more
    return [n for _, n in products[reading:-EDGE]]


def to_int8(name: str, model: onnx.ModelProto) -> onnx.ModelProto:
    """Of the denoiser; other graphs stay as they are."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if name != "denoise":
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]  # the exporter's shapes are not those that the quantiser infers
    for i, node in enumerate(copy.graph.node):
        node.name = f"node {i}"
    inner = {node.name for node in inner_products(copy.graph)}
    with tempfile.TemporaryDirectory() as folder, quietly():
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            copy,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,  # without VNNI, sums of products of 8 bits overflow: 13 % error instead of 2
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[n.name for n in copy.graph.node if n.op_type == "MatMul" and n.name not in inner],
            extra_options={"DefaultTensorType": TensorProto.FLOAT, "MatMulConstBOnly": True},
        )
        return onnx.load(path)


PRECISIONS = {
    p.name: p
    for p in (
        Precision("fp32", 1e-5, 1e-4, 80),
        Precision("fp16", 2e-3, 1e-2, 45, to_half(TensorProto.FLOAT16)),
        Precision("bf16", 2e-2, 5e-2, 35, to_half(TensorProto.BFLOAT16)),
        Precision("int8", 3e-2, 1e-1, 30, to_int8),
        Precision("fp8", 5e-2, 1.5e-1, 28),
    )
}
ONNX_PRECISIONS = ("fp32", "fp16", "int8")
TENSORRT_PRECISIONS = ("fp32", "fp16", "bf16", "fp8")
