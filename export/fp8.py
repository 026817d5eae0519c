"""8-bit floats for TensorRT, an experiment: the wide matrix products of the denoiser compute in E4M3, what is left in
float16. A tensor's scale is a number, taken from the largest value that recorded games showed."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from worldgen.export.precision import autocast, inner_products

QUANTISED = ("denoise", "commit")
WIDE = 128  # narrower products are done before their numbers are converted
LARGEST = 448.0  # of E4M3


def wide_products(graph: onnx.GraphProto) -> list[NodeProto]:
    """Those of inner_products() whose weights are at least WIDE both ways."""
    shapes = {x.name: tuple(x.dims) for x in graph.initializer}
    return [n for n in inner_products(graph) if min(shapes[n.input[1]]) >= WIDE]


def quantised_inputs(graph: onnx.GraphProto) -> set[str]:
    """What the wide products are given."""
    return {node.input[0] for node in wide_products(graph)}


def to_fp8(ranges: Mapping[str, Mapping[str, float]]) -> Callable[[str, onnx.ModelProto], onnx.ModelProto]:
    """ranges: {graph: {what a wide product is given: its largest absolute value}}"""

    def convert(name: str, model: onnx.ModelProto) -> onnx.ModelProto:
        chosen = {node.output[0] for node in wide_products(model.graph)} if name in QUANTISED else set()
        largest = dict(ranges.get(name, {}))
        largest |= {x.name: float(np.abs(numpy_helper.to_array(x)).max()) for x in model.graph.initializer}
        return _quantised(autocast(model, TensorProto.FLOAT16), {f"{value} computed" for value in chosen}, largest)

    return convert


def _quantised(model: onnx.ModelProto, products: set[str], largest: Mapping[str, float]) -> onnx.ModelProto:
    """products: outputs of the matrix products whose halved inputs become 8 bits and halves again"""
    graph = model.graph
    zero = helper.make_tensor("zero in 8 bits", TensorProto.FLOAT8E4M3FN, (), b"\0", raw=True)
    graph.initializer.append(zero)
    done: dict[str, str] = {}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.output[0] in products:
            for i, value in enumerate(node.input):
                if value not in done:
                    scale = np.array(max(largest[value.removesuffix(" half")], 1e-4) / LARGEST, np.float16)
                    graph.initializer.append(numpy_helper.from_array(scale, f"scale of {value}"))
                    given = [f"scale of {value}", zero.name]
                    nodes.append(helper.make_node("QuantizeLinear", [value, *given], [f"{value} in 8 bits"]))
                    done[value] = f"{value} restored"
                    nodes.append(helper.make_node("DequantizeLinear", [f"{value} in 8 bits", *given], [done[value]]))
                node.input[i] = done[value]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return model
