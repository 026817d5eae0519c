"""One ONNX graph of a whole frame, made of the graphs of its parts.

Nothing is exported again: the parts' nodes are joined, with the Euler steps between them. A runtime then starts once a
frame, and what the parts have in common (reading the ring, embedding the action) is computed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from worldgen import sampler
from worldgen.graphs import GraphSpec, frame_graph


def fuse_frame(parts: Mapping[str, onnx.ModelProto], spec: GraphSpec, nfe: int) -> onnx.ModelProto:
    """parts: denoise, commit and decode; spec: of the frame -> the graph of worldgen.models.steps.FrameStep"""
    joined = _Joined()
    shared = {name: name for name in ("previous", "context_sigma", "action", "cache", "position", "filled")}
    joined.add("Shape", ["context_sigma"], "batch_size")
    step_size = joined.filled(1 / nfe)
    x = "noise"
    for sigma in sampler.sigmas(nfe):
        given = {"noisy": x, "sigma": joined.filled(sigma), "step_size": step_size} | shared
        clean = joined.part(parts["denoise"].graph, given)["tokens"]
        x = joined.euler_step(x, clean, sigma, 1 / nfe)
    decoded = {"frame": "frame", "next_state": "next_decoder"}
    joined.part(parts["decode"].graph, {"tokens": x, "state": "decoder"}, decoded)
    committed = {output.name: output.name for output in parts["commit"].graph.output}
    joined.part(parts["commit"].graph, {"tokens": x, "noise": "commit_noise"} | shared, committed)
    graph = helper.make_graph(
        joined.nodes,
        frame_graph(nfe),
        [_value(x) for x in spec.inputs],
        [_value(x) for x in spec.outputs],
        list(joined.weights.values()),
    )
    like = parts["denoise"]
    return helper.make_model(graph, opset_imports=list(like.opset_import), ir_version=like.ir_version)


class _Joined:
    """Nodes of several graphs under new names; equal weights are one weight."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: dict[tuple[int, tuple[int, ...], bytes], TensorProto] = {}
        self._num_parts = 0

    def part(
        self, graph: onnx.GraphProto, given: Mapping[str, str], named: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """A graph once more. given: its inputs -> values of the whole. named: its outputs -> outputs of the whole
        -> its outputs -> what they are called here."""
        self._num_parts += 1
        names = {**given, **(named or {})}
        for tensor in graph.initializer:
            key = (tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes())
            if key not in self.weights:
                self.weights[key] = TensorProto()
                self.weights[key].CopyFrom(tensor)
                self.weights[key].name = f"w{len(self.weights)}"
            names[tensor.name] = self.weights[key].name
        for node in graph.node:
            copy = NodeProto()
            copy.CopyFrom(node)
            for values in (copy.input, copy.output):
                for i, value in enumerate(values):
                    if value:
                        values[i] = names.setdefault(value, f"p{self._num_parts}.{value}")
            copy.name = f"p{self._num_parts}.{node.name}" if node.name else ""
            self.nodes.append(copy)
        return {x.name: names[x.name] for x in graph.output}

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"{op} {len(self.nodes)}", **attributes))
        return output

    def filled(self, value: float) -> str:
        """(b,) float32 of one number"""
        tensor = numpy_helper.from_array(np.array([value], np.float32))
        return self.add("ConstantOfShape", ["batch_size"], f"filled {len(self.nodes)}", value=tensor)

    def euler_step(self, noisy: str, clean: str, sigma: float, step_size: float) -> str:
        """sampler.euler_step, in nodes"""
        share = step_size / sigma
        if share >= 1:
            return clean
        number = numpy_helper.from_array(np.array(share, np.float32))
        scale = self.add("Constant", [], f"share {len(self.nodes)}", value=number)
        way = self.add("Sub", [clean, noisy], f"way {len(self.nodes)}")
        part = self.add("Mul", [way, scale], f"part {len(self.nodes)}")
        return self.add("Add", [noisy, part], f"x {len(self.nodes)}")


def _value(spec) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(spec.name, kind, ["batch", *spec.shape])
