"""An ONNX graph as TensorRT takes it: pixels as floats inside, and rings that it writes where they lie."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from worldgen.backends.engine_folder import engine_shape
from worldgen.graphs import GraphSpec, TensorSpec


def for_tensorrt(model: onnx.ModelProto, spec: GraphSpec, is_in_place: bool) -> onnx.ModelProto:
    """A copy. is_in_place: this TensorRT knows caches that are written in place; else the ring is copied."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    bytes_as_floats(copy.graph)
    ring = next((tensor for tensor in spec.inputs if tensor.name == "cache"), None)
    if ring is not None:
        flat_ring(copy.graph, ring) if is_in_place else copied_ring(copy.graph)
    return copy


def bytes_as_floats(graph: onnx.GraphProto) -> None:
    """TensorRT takes and gives bytes, but only casts them: inside, pixels are float32."""
    kind = TensorProto.UINT8
    names = {}
    casts = []
    for value in graph.input:
        if value.type.tensor_type.elem_type == kind:
            names[value.name] = f"{value.name} as float"
            casts.append(helper.make_node("Cast", [value.name], [names[value.name]], to=TensorProto.FLOAT))
    ends = []
    for value in graph.output:
        if value.type.tensor_type.elem_type == kind:
            names[value.name] = f"{value.name} as float"
            ends.append(helper.make_node("Cast", [names[value.name]], [value.name], to=kind))
    for node in graph.node:
        node.input[:] = [names.get(x, x) for x in node.input]
        node.output[:] = [names.get(x, x) for x in node.output]
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == kind:
                attribute.i = TensorProto.FLOAT  # what is cast to bytes has been rounded
    nodes = [*casts, *graph.node, *ends]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)


def flat_ring(graph: onnx.GraphProto, ring: TensorSpec) -> None:
    """TensorRT's caches are inputs (b, heads, slots, width), written by one TensorScatter into an output that is bound
    to the same memory. All else reads the ring in its own shape."""
    flat = engine_shape(ring, 0, is_in_place=True)[1:]
    heads, _, width = flat
    for value in (*graph.input, *graph.output):
        if value.name in ("cache", "next_cache"):
            value.CopyFrom(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, ["batch", *flat]))
    nodes = [_reshape(graph, "cache", "cache in its shape", ring.shape)]
    for node in graph.node:
        if node.op_type == "TensorScatter":
            nodes.append(_reshape(graph, node.input[1], "slot of cache", (heads, 1, width)))
            node.input[1] = "slot of cache"
        else:
            node.input[:] = ["cache in its shape" if x == "cache" else x for x in node.input]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def copied_ring(graph: onnx.GraphProto) -> None:
    """TensorScatter as a select, which every TensorRT takes: on a GPU the copy costs microseconds."""
    nodes = []
    for node in graph.node:
        if node.op_type != "TensorScatter":
            nodes.append(node)
            continue
        cache, update, slot = node.input
        shape = _shape_of(graph, "cache")
        rank, slots = len(shape), shape[-2]
        number = _constant(graph, "numbers of slots", np.arange(slots, dtype=np.int64))
        axis = _constant(graph, "axis of slots", np.array([1], np.int64))
        axes = _constant(graph, "other axes", np.array([*range(1, rank - 2), rank - 1], np.int64))
        nodes += [
            helper.make_node("Unsqueeze", [slot, axis], ["slot in a row"]),
            helper.make_node("Equal", ["slot in a row", number], ["is slot"]),
            helper.make_node("Unsqueeze", ["is slot", axes], ["is slot everywhere"]),
            helper.make_node("Where", ["is slot everywhere", update, cache], list(node.output)),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


def _reshape(graph: onnx.GraphProto, value: str, name: str, shape: tuple[int, ...]) -> NodeProto:
    """Keeps the batch."""
    target = _constant(graph, f"shape of {name}", np.array([0, *shape], np.int64))
    return helper.make_node("Reshape", [value, target], [name], f"reshape {name}")


def _constant(graph: onnx.GraphProto, name: str, array: np.ndarray) -> str:
    graph.initializer.append(numpy_helper.from_array(array, name))
    return name


def _shape_of(graph: onnx.GraphProto, name: str) -> list[int]:
    value = next(x for x in graph.input if x.name == name)
    return [d.dim_value for d in value.type.tensor_type.shape.dim]
