"""Checks that exported graphs play the same game as the torch modules they came from.

Games are played in torch, in float32, from three seeds: a prompt that fills an empty ring and wraps around it, then
frames of random actions. Every graph is run on what those games gave it, and the games are played again on the graphs
alone. The errors of a graph's evaluations add up: a frame of N steps, and the commit after them, may err N + 1 times as
much as one. Pictures are compared in decibels, in games before they are enlarged: a larger picture stands still until
the smaller one changes by more than a threshold, so that one grey level may decide over a whole block. What enlarges
them is compared for itself, on the same pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from worldgen.backends import Array, Backend
from worldgen.backends.onnxruntime_backend import OnnxRuntimeBackend
from worldgen.config import NFE_CHOICES
from worldgen.errors import RunError
from worldgen.export.open_game import open_game
from worldgen.export.precision import Precision
from worldgen.graphs import GraphSpec, frame_graph, is_frame_graph
from worldgen.measure import random_actions
from worldgen.world import World

SEEDS = (0, 1, 2)
ROLLOUT = 8  # frames
PIXEL_TOLERANCE = 1  # grey levels of uint8 outputs in float32, where rounding may fall either way
KEPT = 2  # of a game's runs of a graph, from its beginning and from its end each
EQUAL = 200.0  # decibels that stand for pictures without a difference: JSON knows no infinity

Run = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]  # what a graph was given, and what it gave


class Recorder:
    """A backend that keeps what its graphs were given and gave, the first and last KEPT of each, and every frame."""

    def __init__(self, backend: Backend):
        self.name, self.facts = backend.name, backend.facts
        self.position_period, self.weights_hash = backend.position_period, backend.weights_hash
        self.asarray, self.numpy, self.tensor = backend.asarray, backend.numpy, backend.tensor
        self.put, self.prepare = backend.put, backend.prepare
        self.specs = dict(backend.specs)
        self.runs: dict[str, list[Run]] = {}
        self.frames: list[np.ndarray] = []
        self._backend = backend

    def offer(self, graphs: tuple[str, ...]) -> None:
        """From now on these are all the graphs there are."""
        self.specs = {name: self._backend.specs[name] for name in graphs}

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = {name: self.numpy(x) for name, x in inputs.items()}
        outputs = self._backend.run(graph, inputs)
        gave = {name: self.numpy(x) for name, x in outputs.items()}
        runs = self.runs.setdefault(graph, [])
        runs.append((given, gave))
        if len(runs) > 2 * KEPT:
            del runs[KEPT]
        if "frame" in gave:
            self.frames.append(gave["frame"])
        return outputs


@dataclass(frozen=True)
class Games:
    """Played in torch: runs of every graph; tokens (b, t, n, d) and frames (b, t, h, w, 3) of the game at the world's
    own nfe."""

    runs: dict[str, list[Run]]
    tokens: np.ndarray
    frames: np.ndarray

    def inputs(self, graph: str) -> list[dict[str, np.ndarray]]:
        return [given for given, _ in self.runs[graph]]


def verify_onnx(
    world: Path, folder: Path, games: Games, precision: Precision, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """folder: the graphs of `world`, published or not; games: those of record_games()
    -> parity {graph: error}, pictures {graph: dB}, rollout_error, rollout_psnr. Raises RunError beyond the precision's
    thresholds."""
    for path in sorted(folder.glob("*.onnx")):
        onnx.checker.check_model(str(path), full_check=True)
    return verify(world, OnnxRuntimeBackend(world, "cpu", graphs=folder), games, precision, say)


def verify(
    world: Path, engine: Backend, games: Games, precision: Precision, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """As verify_onnx(), for any engine."""
    parity: dict[str, float] = {}
    pictures: dict[str, float] = {}
    for name, runs in games.runs.items():
        compared = [step_error(engine, engine.specs[name], *run, precision) for run in runs]
        parity[name] = max(error for error, _ in compared)
        decibels = [picture for _, picture in compared if picture is not None]
        if decibels:
            pictures[name] = min(decibels)
        say(f"  {name}: relative error {parity[name]:.1e}" + (f", {pictures[name]:.1f} dB" if decibels else ""))
    game = open_game(world, engine, len(SEEDS), upscale=False)
    begin(game)
    have, shown = play(game)
    if not np.isfinite(have).all():
        raise RunError(f"{engine.name} in {precision.name} gives NaN or infinity in a game of {ROLLOUT} frames")
    tokens_error = max(float_error(w, h, is_number=False) for w, h in zip(games.tokens, have, strict=True))
    decibels_alone = min(psnr(w, h) for w, h in zip(games.frames, shown, strict=True))
    say(f"  {ROLLOUT} frames played alone: relative error {tokens_error:.1e}, {decibels_alone:.1f} dB")
    if tokens_error > precision.rollout_error or decibels_alone < precision.psnr:
        raise RunError(
            f"games in {precision.name} leave those of torch: relative error {tokens_error:.1e} (at most "
            f"{precision.rollout_error:.0e}), {decibels_alone:.1f} dB (at least {precision.psnr:g}): "
            "nothing was published"
        )
    return {"parity": parity, "pictures": pictures, "rollout_error": tokens_error, "rollout_psnr": decibels_alone}


def record_games(world: Path, reference: Backend) -> Games:
    """Runs every graph: a prompt, then from there a game by the parts of a frame and one for every graph of a whole
    frame."""
    recorder = Recorder(reference)
    every = tuple(recorder.specs)
    parts = tuple(name for name in every if not is_frame_graph(name))
    game = open_game(world, recorder, len(SEEDS), between=True)
    recorder.offer(parts)
    begin(game)
    beginning = game.snapshot()
    tokens, _ = play(game)
    frames = np.stack(recorder.frames[-ROLLOUT:], axis=1)
    for nfe in NFE_CHOICES:
        if frame_graph(nfe) in every:
            recorder.offer((*parts, frame_graph(nfe)))
            game.restore(beginning)
            game.nfe = nfe
            play(game)
    for name in every:
        if name not in recorder.runs:  # of a sound that the world has, but does not play
            recorder.offer(every)
            recorder.run(name, {x.name: recorder.asarray(x.zeros(2)) for x in recorder.specs[name].inputs})
    return Games(recorder.runs, tokens, frames)


def begin(game: World) -> None:
    """A game for each seed: its prompt fills an empty ring, around to its first slot. Noise is heard with it, which
    begins within a frame and is silent again for one."""
    config, starts, length = game.config, game.starts, game.config.context + 1
    if starts is not None and len(starts.frames):
        games = starts.frames[np.array(SEEDS) % len(starts.frames)]
        prompt = games[:, np.arange(length) % games.shape[1]]
    else:
        shape = (len(SEEDS), length, config.height, config.width, 3)
        prompt = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    sound = None
    if game.hears:
        shape = (*prompt.shape[:2], game.samples, game.channels)
        sound = np.random.default_rng(0).uniform(-0.2, 0.2, shape).astype(np.float32)
        sound[:, : length // 2], sound[:, length // 2, : game.samples // 2], sound[:, -2] = 0, 0, 0
    game.reset(SEEDS, start=prompt, start_sound=sound)


def play(game: World) -> tuple[np.ndarray, np.ndarray]:
    """ROLLOUT frames of its own -> tokens (b, t, n, d), pictures (b, t, h, w, 3)"""
    tokens, images = [], []
    for action in random_actions(game, ROLLOUT, seed=0):
        images.append(game.step(action).image)
        tokens.append(game.snapshot().previous)
    return np.stack(tokens, axis=1), np.stack(images, axis=1)


def step_error(
    engine: Backend,
    spec: GraphSpec,
    given: Mapping[str, np.ndarray],
    expected: Mapping[str, np.ndarray],
    precision: Precision,
) -> tuple[float, float | None]:
    """The largest float_error of a graph's outputs, and the decibels of its picture. Raises RunError beyond the
    thresholds."""
    # a ring is written where it lies: each run has its own
    outputs = engine.run(spec.name, {name: engine.asarray(x.copy()) for name, x in given.items()})
    limit = precision.step_error * num_evaluations(spec.name)
    worst, decibels = 0.0, None
    for tensor in spec.outputs:
        want, have = expected[tensor.name], engine.numpy(outputs[tensor.name])
        if not np.isfinite(have).all():
            raise RunError(f"{spec.name} in {precision.name} gives NaN or infinity in {tensor.name}")
        if tensor.dtype == "uint8":
            difference = int(np.abs(want.astype(int) - have.astype(int)).max())
            if precision.name == "fp32" and difference > PIXEL_TOLERANCE:
                raise RunError(f"{spec.name}: {tensor.name} differs from torch by {difference} grey levels")
            # a grey level in float32 is rounding, in however many pixels
            decibels = psnr(want, have)
            if precision.name != "fp32" and decibels < precision.psnr:
                raise RunError(
                    f"{spec.name} in {precision.name}: {tensor.name} is {decibels:.1f} dB from torch, "
                    f"less than {precision.psnr:g}: nothing was published"
                )
            continue
        error = float_error(want, have, is_number=tensor.shape == ())
        if error > limit:
            raise RunError(
                f"{spec.name} in {precision.name}: {tensor.name} differs from torch by {error:.1e}, "
                f"more than {limit:.0e}: nothing was published"
            )
        worst = max(worst, error)
    return worst, decibels


def num_evaluations(graph: str) -> int:
    """How often a graph evaluates the dynamics: for each step of a whole frame, and for its commit."""
    return next((nfe + 1 for nfe in NFE_CHOICES if graph == frame_graph(nfe)), 1)


def float_error(want: np.ndarray, have: np.ndarray, is_number: bool) -> float:
    """Relative L2 error. Of a number per game, a reward or a probability, that is less than 1 the absolute error: one
    in a million times more or less likely to end is the same game."""
    scale = np.sqrt(want.size) if is_number else 1e-12
    return float(np.linalg.norm(want - have)) / max(float(scale), float(np.linalg.norm(want)))


def psnr(want: np.ndarray, have: np.ndarray) -> float:
    """Decibels between uint8 pictures; EQUAL where they are."""
    error = float(np.square(want.astype(np.float64) - have).mean())
    return 10 * float(np.log10(255**2 / error)) if error else EQUAL
