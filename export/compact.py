"""Smaller graphs: most of an exported graph's bytes are names."""

from __future__ import annotations

import string

import onnx

DIGITS = string.digits + string.ascii_letters


def compact(model: onnx.ModelProto) -> None:
    """Drops what a runtime infers or ignores, paths of the machine that exported it among it, and calls the values
    inside a graph by short names. Inputs and outputs keep theirs."""
    graph = model.graph
    del graph.value_info[:]
    del model.metadata_props[:]
    del graph.metadata_props[:]
    short = {x.name: x.name for x in [*graph.input, *graph.output]}

    def rename(value: str) -> str:
        if value and value not in short:
            name = _number(len(short))
            while name in short:
                name += "_"
            short[value] = name
        return short.get(value, value)

    for tensor in graph.initializer:
        tensor.name = rename(tensor.name)
    for node in graph.node:
        assert not any(attribute.HasField("g") for attribute in node.attribute)  # no graphs in graphs
        node.input[:] = [rename(value) for value in node.input]
        node.output[:] = [rename(value) for value in node.output]
        del node.metadata_props[:]
        for field in ("name", "doc_string"):
            node.ClearField(field)
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
    for info in [*graph.input, *graph.output, *graph.initializer]:
        del info.metadata_props[:]
        info.ClearField("doc_string")


def _number(i: int) -> str:
    digits = ""
    while True:
        digits = DIGITS[i % len(DIGITS)] + digits
        i //= len(DIGITS)
        if not i:
            return digits
