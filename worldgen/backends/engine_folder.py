"""TensorRT engines of a world: WORLD/tensorrt/<gpu>-<runtime><version>-<precision>/*.plan + manifest.json.

An engine runs on the GPU and the version it was built for, and holds weights: a stale or foreign one is refused.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from worldgen.backends.tensorrt_library import Gpu, Library
from worldgen.bundle import combined_hash, network_hashes
from worldgen.errors import BackendUnavailableError, InputError
from worldgen.files import file_hash, is_sealed
from worldgen.graphs import IN_PLACE, REQUIRED, GraphSpec, TensorSpec

ANY_GPU = "any"  # TensorRT for RTX builds for several generations at once, with no GPU at hand


def engine_folder(world: Path, gpu: str, library: Library, precision: str) -> Path:
    """gpu: its slug, or ANY_GPU"""
    return world / "tensorrt" / f"{gpu}-{library.kind}{library.version}-{precision}"


def engine_shape(tensor: TensorSpec, batch: int, is_in_place: bool) -> tuple[int, ...]:
    """How an engine sees a tensor: TensorRT writes into caches (b, heads, slots, width), whatever their heads are."""
    if not is_in_place or tensor.name not in (*IN_PLACE, *IN_PLACE.values()):
        return (batch, *tensor.shape)
    *heads, slots, width = tensor.shape
    return (batch, math.prod(heads), slots, width)


@dataclass(frozen=True)
class Engines:
    """A manifest, checked against the files it names.

    profiles: the most games of each profile, growing; is_in_place: rings are written where they lie.
    """

    folder: Path
    specs: dict[str, GraphSpec]
    position_period: int
    weights_hash: str
    precision: str
    profiles: tuple[int, ...]
    is_in_place: bool

    @property
    def max_batch(self) -> int:
        return self.profiles[-1]

    def profile(self, batch: int) -> int:
        """The profile that was tuned for this many games."""
        return next(i for i, most in enumerate(self.profiles) if batch <= most)

    def plan(self, graph: str) -> Path:
        return self.folder / f"{graph}.plan"


def find_engines(world: Path, gpu: Gpu, library: Library, precision: str | None = None) -> Engines:
    """The engines of this GPU and this TensorRT, in the precision or in the first that there is.

    Raises BackendUnavailableError where there are none, naming those that were built for others, and InputError for
    damaged engines and those of other weights; each with the command that builds them.
    """
    wanted = [precision] if precision else ["fp16", "bf16", "fp32"]  # fp8 is an experiment: only by name
    for name in wanted:
        for slug in (gpu.slug, *([ANY_GPU] if library.kind == "rtx" else [])):
            folder = engine_folder(world, slug, library, name)
            if (folder / "manifest.json").is_file():
                return read_engines(world, folder, gpu, library)
    build = f"worldgen export {world} --to tensorrt" + (f" --precision {precision}" if precision else "")
    others = sorted(p.parent.name for p in world.glob("tensorrt/*/manifest.json"))
    here = f"this machine has {gpu.name} (sm_{gpu.capability}), {library.module.__name__} {library.version}"
    if others:
        raise BackendUnavailableError(f"the engines of {world} are {', '.join(others)}; {here}: run `{build}`")
    raise BackendUnavailableError(f"no TensorRT engines in {world}; {here}: run `{build}`")


def read_engines(world: Path, folder: Path, gpu: Gpu | None, library: Library) -> Engines:
    path = folder / "manifest.json"
    try:
        raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        precision = str(raw["precision"])
        build = f"run `worldgen export {world} --to tensorrt --precision {precision}`"
        specs = {name: GraphSpec.from_json(name, graph) for name, graph in raw["graphs"].items()}
        sums = {name: str(graph["sha256"]) for name, graph in raw["graphs"].items()}
        made_for = (raw["runtime"], raw["version"], raw["gpu"])
        period, sources = int(raw["position_period"]), dict(raw["weights"])
        profiles, is_in_place = tuple(map(int, raw["profiles"])), bool(raw["is_in_place"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not a manifest ({error!r}): run `worldgen export {world} --to tensorrt`") from None
    if missing := [name for name in REQUIRED if name not in specs]:
        raise InputError(f"{path} lists no engine {missing[0]!r}: {build}")
    here = (library.module.__name__, library.version, gpu.name if gpu else ANY_GPU)
    if made_for[:2] != here[:2] or made_for[2] not in (ANY_GPU, here[2]):
        raise BackendUnavailableError(
            f"the engines in {folder} were built for {made_for[2]}, {made_for[0]} {made_for[1]}; this machine has "
            f"{here[2]}, {here[0]} {here[1]}: {build}"
        )
    for name, digest in sums.items():
        plan = folder / f"{name}.plan"
        if not plan.is_file():
            raise InputError(f"{plan} is missing: {build}")
        if file_hash(plan) != digest:
            raise InputError(f"{plan} is damaged (its hash is not the manifest's): {build}")
    if not is_sealed(raw):
        raise InputError(f"{path} was edited, or written by an older worldgen (its hash is not its own): {build}")
    if stale := [name for name, digest in network_hashes(world).items() if sources.get(name) != digest]:
        raise InputError(f"the engines in {folder} are older than {world / stale[0]}: {build}")
    return Engines(folder, specs, period, combined_hash(sources), precision, profiles, is_in_place)
