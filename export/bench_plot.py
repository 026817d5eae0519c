"""The figures of a benchmark as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worldgen.errors import InputError

SUFFIXES = (".png", ".jpg", ".svg", ".pdf")


def check_picture(path: Path) -> None:
    """Raises InputError for a file that plot() cannot draw."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"--plot {path}: a picture is {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def plot(figures: Mapping[str, Any], path: Path) -> None:
    """Time a frame by engine and nfe, and world-frames a second by batch size where several were timed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sweep = figures.get("sweep")
    figure, axes = pyplot.subplots(1, 2 if sweep else 1, figsize=(11 if sweep else 6, 4), squeeze=False)
    engines = figures["engines"]
    latency, width = axes[0, 0], 0.8 / len(engines)
    for i, (name, engine) in enumerate(engines.items()):
        frames = engine["frame"]
        at = [k + width * (i - (len(engines) - 1) / 2) for k in range(len(frames))]
        middle = [frame["ms_p50"] for frame in frames.values()]
        above = [frame["ms_p95"] - frame["ms_p50"] for frame in frames.values()]
        latency.bar(at, middle, width, yerr=([0] * len(above), above), capsize=3, label=name)
        latency.set_xticks(range(len(frames)), [f"nfe {n}" for n in frames])
    latency.set_ylabel("ms a frame: median, whisker to p95")
    latency.set_title(f"{figures['world']}, {figures['batch']} at once")
    latency.legend()
    if sweep:
        throughput = axes[0, 1]
        sizes = [int(size) for size in sweep]
        for name, engine in engines.items():
            for n in engine["frame"]:
                speeds = [timed[name][n]["world_fps"] for timed in sweep.values()]
                throughput.plot(sizes, speeds, marker="o", label=f"{name}, nfe {n}")
        throughput.set_xscale("log", base=2)
        throughput.set_xticks(sizes, [str(size) for size in sizes])
        throughput.set_ylim(bottom=0)
        throughput.set_xlabel("games at once")
        throughput.set_ylabel("world-frames a second")
        throughput.legend()
    machine = figures["machine"]
    figure.suptitle(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_average']}", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
