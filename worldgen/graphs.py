"""The graphs a world runs on: names, inputs, outputs, dtypes and shapes (contract C3). Torch-free.

encode   frame, state -> tokens, next_state                      one frame of a prompt
denoise  noisy, sigma, step_size, previous, context_sigma, action, cache, position, filled -> tokens
commit   tokens, noise, previous, context_sigma, action, cache, position, filled
         -> next_cache, next_previous, hidden [, reward, terminated]
decode   tokens, state -> frame, next_state
upscale  frame, shown, state -> image, next_state                with super-resolution: a larger frame after `shown`
between  before, frame -> between                                 with in-between frames: the one half way
sound    hidden, action, noise, state -> samples, next_state          with a sound head: what is heard with the frame
hear     recorded, before, place, earlier, state -> samples, next_state    its place taken by what was recorded
sound_events  hidden, action, state -> event, place, music, next_state     which sounds of the library
frame_N  noise, commit_noise, previous, context_sigma, action, cache, position, filled, decoder
         -> frame, next_cache, next_previous, hidden [, reward, terminated], next_decoder
         N times denoise with its Euler step, then commit and decode, in one graph: a whole frame

The first axis of every tensor is the batch. `cache` is a ring of the last `context` frames; `position` counts frames
modulo `position_period` and `filled` counts the slots that hold one, so a game may last for ever. Whoever runs a graph
that gives `next_cache` gives up its `cache`: the slot may have been written where it lies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

REQUIRED = ("encode", "denoise", "commit", "decode")
IN_PLACE = {"next_cache": "cache"}  # an output -> the input whose memory it may take


@dataclass(frozen=True)
class TensorSpec:
    """shape: without the batch axis. dtype: numpy's name."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def zeros(self, batch: int) -> np.ndarray:
        return np.zeros((batch, *self.shape), self.dtype)


@dataclass(frozen=True)
class GraphSpec:
    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def input(self, name: str) -> TensorSpec:
        return next(spec for spec in self.inputs if spec.name == name)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.outputs)

    def to_json(self) -> dict[str, Any]:
        def rows(specs: tuple[TensorSpec, ...]) -> list[dict[str, Any]]:
            return [{"name": s.name, "dtype": s.dtype, "shape": ["batch", *s.shape]} for s in specs]

        return {"inputs": rows(self.inputs), "outputs": rows(self.outputs)}

    @classmethod
    def from_json(cls, name: str, raw: dict[str, Any]) -> GraphSpec:
        def specs(rows: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
            return tuple(TensorSpec(r["name"], r["dtype"], tuple(r["shape"][1:])) for r in rows)

        return cls(name, specs(raw["inputs"]), specs(raw["outputs"]))


def frame_graph(nfe: int) -> str:
    """The name of the graph of a whole frame."""
    return f"frame_{nfe}"


def is_frame_graph(name: str) -> bool:
    return name.startswith("frame_")


def frame_spec(specs: Mapping[str, GraphSpec], nfe: int) -> GraphSpec:
    """Of the graph that is made of the others."""
    denoise, commit, decode = (specs[name] for name in ("denoise", "commit", "decode"))
    ring = tuple(x for x in commit.inputs if x.name not in ("tokens", "noise"))
    noise = denoise.input("noisy")
    state = decode.input("state")
    shown, decoded = decode.outputs
    return GraphSpec(
        frame_graph(nfe),
        (replace(noise, name="noise"), replace(noise, name="commit_noise"), *ring, replace(state, name="decoder")),
        (
            shown,
            *commit.outputs,
            replace(decoded, name="next_decoder"),
        ),
    )
