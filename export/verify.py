"""Checks that exported graphs play the same game as the torch modules they came from.

Games are played in torch, in float32, from three seeds: a prompt that fills an empty ring and wraps around it, then
frames of random actions. Every graph is run on what those games gave it, and the games are played again on the graphs
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from worldgen.backends import Array, Backend
from worldgen.backends.onnxruntime_backend import OnnxRuntimeBackend
from worldgen.bundle import Starts
from worldgen.config import NFE_CHOICES, WorldConfig
from worldgen.errors import RunError
from worldgen.export.precision import Precision
from worldgen.graphs import GraphSpec, frame_graph, is_frame_graph
from worldgen.measure import random_actions
from worldgen.sound_library import SoundLibrary
from worldgen.world import World

SEEDS = (0, 1, 2)
ROLLOUT = 8  # frames
PIXEL_TOLERANCE = 1  # grey levels of uint8 outputs in float32, where rounding may fall either way
KEPT = 2  # of a game's runs of a graph, from its beginning and from its end each


class Recorder:
    """A backend that keeps what its graphs were given and gave: {graph: [(inputs, outputs)]}. graphs: all it has."""

    def __init__(self, backend: Backend, graphs: tuple[str, ...]):
        self.name, self.facts = backend.name, backend.facts
        self.position_period, self.weights_hash = backend.position_period, backend.weights_hash
        self.asarray, self.numpy, self.tensor = backend.asarray, backend.numpy, backend.tensor
        self.put, self.prepare = backend.put, backend.prepare
        self.specs = {name: spec for name, spec in backend.specs.items() if name in graphs}
        self.runs: dict[str, list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]] = {}
        self._backend = backend

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = {name: self.numpy(x) for name, x in inputs.items()}
        outputs = self._backend.run(graph, inputs)
        self.runs.setdefault(graph, []).append((given, {name: self.numpy(x) for name, x in outputs.items()}))
        return outputs


def verify_onnx(
    world: Path, folder: Path, reference: Backend, precision: Precision, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """folder: the graphs of `world`, published or not; reference: its networks in torch
    -> parity {graph: error}, rollout_error, rollout_psnr. Raises RunError beyond the precision's thresholds."""
    for path in sorted(folder.glob("*.onnx")):
        onnx.checker.check_model(str(path), full_check=True)
    return verify(world, OnnxRuntimeBackend(world, "cpu", graphs=folder), reference, precision, say)


def verify(
    world: Path, engine: Backend, reference: Backend, precision: Precision, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """As verify_onnx(), for any engine."""
    config, starts = WorldConfig.load(world / "world.json"), Starts.load(world)
    library = SoundLibrary.load(world)
    parity: dict[str, float] = {}
    parts = tuple(name for name in reference.specs if not is_frame_graph(name))
    for nfe in (None, *NFE_CHOICES):
        # by the parts of a frame, then by the graph of a whole one
        checked = parts if nfe is None else (frame_graph(nfe),)
        recorder = Recorder(reference, (*parts, *checked))
        rollout(config, recorder, starts, library, nfe or config.nfe)
        for name in checked:
            if name not in recorder.runs:  # of a sound that the world has, but does not play
                recorder.run(name, {x.name: reference.asarray(x.zeros(2)) for x in reference.specs[name].inputs})
            runs = recorder.runs[name]
            errors = [step_error(engine, engine.specs[name], *run, precision) for run in runs[:KEPT] + runs[-KEPT:]]
            parity[name] = max(errors)
    for name, error in parity.items():
        say(f"  {name}: relative error {error:.1e}")
    want, seen = rollout(config, reference, starts, library, config.nfe)
    have, shown = rollout(config, engine, starts, library, config.nfe)
    if not np.isfinite(have).all():
        raise RunError(f"{engine.name} in {precision.name} gives NaN or infinity in a game of {ROLLOUT} frames")
    tokens_error = max(float_error(w, h, is_number=False) for w, h in zip(want, have, strict=True))
    decibels = min(psnr(w, h) for w, h in zip(seen, shown, strict=True))
    say(f"  {ROLLOUT} frames played alone: relative error {tokens_error:.1e}, {decibels:.1f} dB")
    if tokens_error > precision.rollout_error or decibels < precision.psnr:
        raise RunError(
            f"games in {precision.name} leave those of torch: relative error {tokens_error:.1e} (at most "
            f"{precision.rollout_error:.0e}), {decibels:.1f} dB (at least {precision.psnr:g}): nothing was published"
        )
    return {"parity": parity, "rollout_error": tokens_error, "rollout_psnr": min(decibels, 200.0)}


def rollout(
    config: WorldConfig, backend: Backend, starts: Starts | None, library: SoundLibrary | None, nfe: int
) -> tuple[np.ndarray, np.ndarray]:
    """A game for each seed, from an empty ring around to its first slot, then ROLLOUT frames of their own
    -> tokens (b, t, n, d), frames (b, t, h, w, 3)"""
    world = World(config, backend, starts, batch=len(SEEDS), library=library)
    world.nfe = nfe
    length = config.context + 1
    if starts is not None and len(starts.frames):
        games = starts.frames[np.array(SEEDS) % len(starts.frames)]
        prompt = games[:, np.arange(length) % games.shape[1]]
    else:
        shape = (len(SEEDS), length, config.height, config.width, 3)
        prompt = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    world.reset(SEEDS, start=prompt)
    tokens, images = [], []
    for action in random_actions(world, ROLLOUT, seed=0):
        images.append(world.step(action).image)
        tokens.append(world.snapshot().previous)
    return np.stack(tokens, axis=1), np.stack(images, axis=1)


def step_error(
    engine: Backend,
    spec: GraphSpec,
    given: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    precision: Precision,
) -> float:
    """The largest float_error of a graph's outputs. Raises RunError beyond the threshold."""
    # a ring is written where it lies: each run has its own
    outputs = engine.run(spec.name, {name: engine.asarray(x.copy()) for name, x in given.items()})
    worst = 0.0
    for tensor in spec.outputs:
        want, have = expected[tensor.name], engine.numpy(outputs[tensor.name])
        if not np.isfinite(have).all():
            raise RunError(f"{spec.name} in {precision.name} gives NaN or infinity in {tensor.name}")
        if tensor.dtype == "uint8":
            difference = int(np.abs(want.astype(int) - have.astype(int)).max())
            if precision.name == "fp32" and difference > PIXEL_TOLERANCE:
                raise RunError(f"{spec.name}: {tensor.name} differs from torch by {difference} grey levels")
            continue
        error = float_error(want, have, is_number=tensor.shape == ())
        if error > precision.step_error:
            raise RunError(
                f"{spec.name} in {precision.name}: {tensor.name} differs from torch by {error:.1e}, "
                f"more than {precision.step_error:.0e}: nothing was published"
            )
        worst = max(worst, error)
    return worst


def float_error(want: np.ndarray, have: np.ndarray, is_number: bool) -> float:
    """Relative L2 error. Of a number per game, a reward or a probability, that is less than 1 the absolute error: one
    in a million times more or less likely to end is the same game."""
    scale = np.sqrt(want.size) if is_number else 1e-12
    return float(np.linalg.norm(want - have)) / max(float(scale), float(np.linalg.norm(want)))


def psnr(want: np.ndarray, have: np.ndarray) -> float:
    """Decibels between uint8 pictures; infinite where they are equal."""
    error = float(np.square(want.astype(np.float64) - have).mean())
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")
