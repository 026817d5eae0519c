"""Times a world on one engine or several: per graph and per frame.

    worldgen bench worlds/mine --backend onnxruntime torch torch:compiled --batch 1 8 64 --plot bench.png

The figures, all times in milliseconds:

    world, hash, batch, frames      what was timed; frames of each kind
    machine                         cpu, cores, system, load_average before; load_average_after
    engines.NAME.engine             backend, version, device, threads, chosen (why), providers (ONNX Runtime)
    engines.NAME.load_seconds       from nothing to the first frame shown, in a process of its own
    engines.NAME.peak_megabytes     most memory held at once while playing, in that process; gpu_megabytes beside it
    engines.NAME.frame.NFE          a whole step, action in to numpy frame out, at 1, 2 and 4 denoising steps:
                                    ms_p50, ms_p95, ms_p99, cpu_ms (of all threads, mean), fps (steps a second, mean)
                                    and world_fps (fps times batch); against_torch, how many times quicker than
                                    torch, eager, in the same run
    engines.NAME.graphs.GRAPH       one run of a graph inside real frames at the world's own nfe: ms_p50, ms_p95,
                                    ms_p99, cpu_ms and a_frame, how often a frame runs it (0: only a prompt does);
                                    in a game they are one graph where an engine has one of the whole frame
    engines.NAME.long_game          with --long: see worldgen.export.long_game
    sweep.BATCH.NAME.NFE            the figures of a frame for every batch size that was asked for

Engines and nfe take turns, a block of frames each, so that whatever else the machine does falls on all of them alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.backends import Array, Backend, open_backend
from worldgen.bundle import find_world
from worldgen.config import NFE_CHOICES, WorldConfig
from worldgen.errors import InputError
from worldgen.export.long_game import YOUNG, describe, long_game
from worldgen.export.open_game import open_game
from worldgen.graphs import is_frame_graph
from worldgen.measure import WARMUP, begin_game, machine, measure_in_new_process, percentiles, random_actions
from worldgen.world import World

BLOCK = 10  # frames in a row before the next engine's turn
MEMORY_FRAMES = 50
MAX_PROMPT = 50
ASIDE = {"encode": "prompt", "between": "one game"}  # graphs that a frame without in-between ones does not run


def benchmark(
    world_name: str | Path,
    *,
    backends: Sequence[str] = ("auto",),
    nfe: Sequence[int] = NFE_CHOICES,
    batch: int | Sequence[int] = 1,
    frames: int = 200,
    long: int = 0,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """-> the figures. batch: the first size in full, the others by their frames; long: frames of a long game, 0 for
    none. Raises InputError, and BackendUnavailableError for an engine that cannot run here."""
    batches = [batch] if isinstance(batch, int) else list(batch)
    if frames < 1:
        raise InputError(f"--frames is at least 1, got {frames}")
    if wrong := [b for b in batches if b < 1] or ([] if batches else [0]):
        raise InputError(f"--batch is at least 1, got {wrong[0]}")
    if 0 < long <= YOUNG or long < 0:
        raise InputError(f"--long is more than {YOUNG} frames, or 0 for none, got {long}")
    batch = batches[0]
    folder = find_world(world_name)
    config = WorldConfig.load(folder / "world.json")
    engines: dict[str, Backend] = {}
    for name in backends:
        backend = open_backend(folder, name)
        engines.setdefault(backend.name, backend)
    before = machine()
    hashes = {backend.weights_hash for backend in engines.values()}
    say(f"{config.name} ({', '.join(sorted(hashes))}): batch {batch}, {frames} frames, {before['cpu']}")

    whole = _time_frames(folder, engines, nfe, batch, frames)
    graphs = _time_graphs(folder, engines, batch, frames)
    facts = {name: dict(backend.facts) for name, backend in engines.items()}  # threads may depend on the batch
    figures: dict[str, Any] = {
        "world": config.name,
        "hash": sorted(hashes)[0],
        "batch": batch,
        "frames": frames,
        "machine": before | {"load_average_after": machine()["load_average"]},
        "engines": {},
    }
    sweep = {batch: whole}
    for size in batches[1:]:
        say(f"batch {size}")
        sweep[size] = _time_frames(folder, engines, nfe, size, max(BLOCK, frames // size))
    if len(sweep) > 1:
        figures["sweep"] = {str(size): timed for size, timed in sweep.items()}
    for name, backend in engines.items():
        alone = measure_in_new_process(folder, backend=name, batch=batch, frames=min(frames, MEMORY_FRAMES))
        kept = {key: alone[key] for key in ("load_seconds", "peak_megabytes", "gpu_megabytes")}
        figures["engines"][name] = {
            "engine": {"backend": name, **facts[name]},
            **kept,
            "frame": whole[name],
            "graphs": graphs[name],
        }
        if long:
            say(f"{name}: a game of {long} frames")
            figures["engines"][name]["long_game"] = long_game(folder, backend, long)
    for line in table(figures):
        say(line)
    return figures


def _time_frames(
    folder: Path, engines: Mapping[str, Backend], nfe: Sequence[int], batch: int, frames: int
) -> dict[str, dict[str, dict[str, float]]]:
    """-> {engine: {nfe: figures}}"""
    players = {}
    for name, backend in engines.items():
        for n in nfe:
            world = open_game(folder, backend, batch)
            world.nfe = n
            players[name, n] = _Player(world, WARMUP + frames)
    for begin in range(0, frames, BLOCK):
        for player in players.values():
            player.play(min(BLOCK, frames - begin))
    out: dict[str, dict[str, dict[str, float]]] = {name: {} for name in engines}
    for (name, n), player in players.items():
        fps = 1000 / float(np.mean(player.ms))
        speed = {"fps": round(fps, 2), "world_fps": round(fps * batch, 2)}
        if ("torch", n) in players:
            speed["against_torch"] = round(float(np.median(players["torch", n].ms) / np.median(player.ms)), 2)
        out[name][str(n)] = _figures(player.ms, player.cpu_ms) | speed
    return out


class _Player:
    """A world that plays random actions and keeps the time of every step."""

    def __init__(self, world: World, frames: int):
        self._world = world
        self._actions = iter(random_actions(world, frames, seed=0))
        self.ms: list[float] = []
        self.cpu_ms: list[float] = []
        begin_game(world)
        self.play(WARMUP)
        self.ms.clear()
        self.cpu_ms.clear()

    def play(self, count: int) -> None:
        for _ in range(count):
            action = next(self._actions)
            cpu, began = time.process_time(), time.perf_counter()
            self._world.step(action)
            self.ms.append(1000 * (time.perf_counter() - began))
            self.cpu_ms.append(1000 * (time.process_time() - cpu))


class TimedBackend:
    """A backend that keeps the time of every run of every part of a frame. On a GPU it waits for each: frames take
    longer."""

    def __init__(self, backend: Backend):
        self.name, self.facts = backend.name, backend.facts
        self.specs = {name: spec for name, spec in backend.specs.items() if not is_frame_graph(name)}
        self.position_period, self.weights_hash = backend.position_period, backend.weights_hash
        self.asarray, self.numpy, self.tensor = backend.asarray, backend.numpy, backend.tensor
        self.put, self.prepare = backend.put, backend.prepare
        self._backend = backend
        self.clear()

    def clear(self) -> None:
        self.ms: dict[str, list[float]] = {name: [] for name in self.specs}
        self.cpu_ms: dict[str, list[float]] = {name: [] for name in self.specs}

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        cpu, began = time.process_time(), time.perf_counter()
        outputs = self._backend.run(graph, inputs)
        if self.facts["device"] != "cpu":
            smallest = min(self.specs[graph].outputs, key=lambda spec: math.prod(spec.shape))
            self.numpy(outputs[smallest.name])  # done when its outputs are here
        self.ms[graph].append(1000 * (time.perf_counter() - began))
        self.cpu_ms[graph].append(1000 * (time.process_time() - cpu))
        return outputs


def _time_graphs(
    folder: Path, engines: Mapping[str, Backend], batch: int, frames: int
) -> dict[str, dict[str, dict[str, float]]]:
    """-> {engine: {graph: figures}}"""
    timed = {name: TimedBackend(backend) for name, backend in engines.items()}
    players, aside = {}, {}
    for name, backend in timed.items():
        world = open_game(folder, backend, batch)
        size = (WARMUP + min(frames, MAX_PROMPT), world.config.height, world.config.width, 3)
        prompt = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
        world.reconstruct(prompt)
        if "between" in backend.specs:
            world.between(prompt[:-1], prompt[1:])
        aside[name] = {
            graph: (backend.ms[graph][WARMUP:], backend.cpu_ms[graph][WARMUP:])
            for graph in ASIDE
            if graph in backend.ms
        }
        players[name] = _Player(world, WARMUP + frames)
        backend.clear()
    for begin in range(0, frames, BLOCK):
        for player in players.values():
            player.play(min(BLOCK, frames - begin))
    out: dict[str, dict[str, dict[str, float]]] = {name: {} for name in engines}
    for name, backend in timed.items():
        for graph in backend.specs:
            ms, cpu_ms = aside[name].get(graph, (backend.ms[graph], backend.cpu_ms[graph]))
            if ms:
                a_frame = 0.0 if graph in ASIDE else len(ms) / frames
                out[name][graph] = _figures(ms, cpu_ms) | {"a_frame": a_frame}
    return out


def _figures(ms: Sequence[float], cpu_ms: Sequence[float]) -> dict[str, float]:
    return percentiles(np.array(ms)) | {"cpu_ms": round(float(np.mean(cpu_ms)), 3)}


def table(figures: Mapping[str, Any]) -> list[str]:
    """For a terminal."""
    lines = [f"{'':26}{'p50 ms':>9}{'p95':>9}{'p99':>9}{'CPU ms':>9}{'fps':>10}{'x torch':>9}"]
    for name, engine in figures["engines"].items():
        facts = engine["engine"]
        memory = "" if engine["peak_megabytes"] is None else f", {engine['peak_megabytes']:.0f} MB"
        where = ", ".join([facts["device"], facts["precision"], f"{facts['threads']} threads"])
        where += f", {facts['providers'][0]}" if "providers" in facts else ""
        where += f", chosen: {facts['chosen']}" if facts["chosen"] != "asked for" else ""
        lines.append(f"{name} {facts['version']} ({where}){memory}, first frame after {engine['load_seconds']:.2f} s")
        rows = {f"  frame, nfe {n}": f for n, f in engine["frame"].items()}
        rows |= {f"    {graph} x{f['a_frame']:g}": f for graph, f in engine["graphs"].items() if f["a_frame"]}
        rows |= {f"    {graph} ({ASIDE[graph]})": f for graph, f in engine["graphs"].items() if not f["a_frame"]}
        for title, f in rows.items():
            fps = f"{f['world_fps']:10.1f}" if "fps" in f else ""
            fps += f"{f['against_torch']:9.2f}" if "against_torch" in f else ""
            times = "".join(f"{f[key]:9.2f}" for key in ("ms_p50", "ms_p95", "ms_p99", "cpu_ms"))
            lines.append(f"{title:26}{times}{fps}")
        if "long_game" in engine:
            lines.append("  " + describe(engine["long_game"]))
    for size, timed in figures.get("sweep", {}).items():
        for name, by_nfe in timed.items():
            speeds = ", ".join(f"nfe {n} {f['world_fps']:.1f}" for n, f in by_nfe.items())
            lines.append(f"{name}, {size} games: world-frames a second at {speeds}")
    machine = figures["machine"]
    if machine["load_average"] is not None and machine["load_average"] > 0.5:
        lines.append(f"others were using the machine: load average {machine['load_average']:g} before it began")
    return lines
