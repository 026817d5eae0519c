"""What playing a world costs: time a frame and memory.

    python -m worldgen.measure WORLD --frames 100

Memory is only a world's own in a process that does nothing else, so measure_in_new_process() starts one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.errors import RunError
from worldgen.world import World

WARMUP = 5  # frames before the first that counts
TIMEOUT_SECONDS = 600


def time_frames(world: World, frames: int, seed: int = 0) -> np.ndarray:
    """Milliseconds of each of `frames` steps under random actions, action in to numpy frame out: (frames,)"""
    actions = random_actions(world, WARMUP + frames, seed)
    begin_game(world, seed)
    ms = np.empty(len(actions))
    for i, action in enumerate(actions):
        began = time.perf_counter()
        world.step(action)
        ms[i] = 1000 * (time.perf_counter() - began)
    return ms[WARMUP:]


def begin_game(world: World, seed: int = 0) -> None:
    """A new game, from one of the world's starts or, where it has none, from a grey frame."""
    grey = np.full((world.config.height, world.config.width, 3), 128, np.uint8)
    world.reset(seed, start=None if world.num_starts else grey)


def random_actions(world: World, count: int, seed: int) -> list[Any]:
    """Uniformly random actions, `count` of them, each for all slots."""
    rng = np.random.default_rng(seed)
    sample = world.config.actions.sample
    return [sample(rng) if world.batch is None else [sample(rng) for _ in range(world.batch)] for _ in range(count)]


def percentiles(ms: np.ndarray) -> dict[str, float]:
    """ms (n,) -> ms_p50, ms_p95, ms_p99"""
    return {f"ms_p{p}": round(float(np.percentile(ms, p)), 3) for p in (50, 95, 99)}


def peak_megabytes() -> float | None:
    """The most memory this process has held at once, in 10^6 bytes; None where the system does not tell."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            # not getrusage: there a child begins with the peak of the parent it was forked from
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6, 1)


def resident_megabytes() -> float | None:
    """What this process holds now, in 10^6 bytes; None where the system does not tell."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
    except OSError:
        pass
    return None


def machine() -> dict[str, Any]:
    """What the figures were measured on. load_average: of the last minute, None on Windows; well above 0 on an idle
    machine means that others were using it."""
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {"cpu": _cpu_name(), "cores": os.cpu_count(), "system": platform.system(), "load_average": load}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def measure_in_new_process(
    folder: Path,
    *,
    backend: str = "auto",
    nfe: int | None = None,
    batch: int | None = None,
    frames: int = 100,
    between: bool = False,
) -> dict[str, Any]:
    """Loads and plays a world in a process of its own -> the figures of measure(). RunError where it fails."""
    command = [sys.executable, "-m", "worldgen.measure", str(folder), "--backend", backend, "--frames", str(frames)]
    command += ["--nfe", str(nfe)] if nfe is not None else []
    command += ["--batch", str(batch)] if batch is not None else []
    command += ["--between"] if between else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        raise RunError(f"{folder} did not play {frames} frames within {TIMEOUT_SECONDS} s") from None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RunError(f"playing {folder} in a new process failed: {reason}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(
    name: str | Path, *, backend: str, nfe: int | None, batch: int | None, frames: int, between: bool = False
) -> dict[str, Any]:
    """frames, batch, nfe; ms_p50, ms_p95, ms_p99 and fps of a step; with_between: these with the in-between frame (None
    unless between, and for a world without); load_seconds until the first frame; peak_megabytes; gpu_megabytes (None
    without); engine; machine."""
    began = time.perf_counter()
    world = World.load(name, backend=backend, batch=batch, nfe=nfe, between=between)
    begin_game(world)
    load_seconds = round(time.perf_counter() - began, 3)
    world.shows_between = False
    ms, with_between = time_frames(world, frames), None
    peak, gpu = peak_megabytes(), _gpu_megabytes()
    if world.has_between:
        world.shows_between = True
        both = time_frames(world, frames)
        with_between = percentiles(both) | {"fps": round(1000 / float(both.mean()), 2)}
    return {
        "frames": frames,
        "batch": batch or 1,
        "nfe": world.nfe,
        **percentiles(ms),
        "fps": round(1000 / float(ms.mean()), 2),
        "with_between": with_between,
        "load_seconds": load_seconds,
        "peak_megabytes": peak,
        "gpu_megabytes": gpu,
        "engine": world.engine,
        "machine": machine(),
    }


def _gpu_megabytes() -> float | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return round(torch.cuda.max_memory_reserved() / 1e6, 1)


def main(argv: Sequence[str] | None = None) -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    parser = argparse.ArgumentParser(description="Plays a world and prints what it costs, as JSON.")
    parser.add_argument("world")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--nfe", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--between", action="store_true", help="time frames with their in-between one too")
    options = vars(parser.parse_args(argv))
    print(json.dumps(measure(options.pop("world"), **options)))


if __name__ == "__main__":
    main()
