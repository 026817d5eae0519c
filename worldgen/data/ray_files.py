"""map_files() on a Ray cluster, with Ray Data. A worker that dies is replaced and its file tried again."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worldgen.data.progress import Progress
from worldgen.errors import InputError, MissingExtraError


def is_on_ray() -> bool:
    """Whether there is a cluster: RAY_ADDRESS names one ("auto", or an address), or ray.init() was called."""
    ray = sys.modules.get("ray")
    return bool(os.environ.get("RAY_ADDRESS")) or (ray is not None and ray.is_initialized())


def map_on_ray(
    function: Callable[[Any], Any], items: list[Any], paths: list[Path], on_progress: Progress | None = None,
    may_use_gpus: bool = False,
) -> list[Any]:  # fmt: skip
    """As map_files(). What is written to paths must be seen from every node: recordings and cache on shared storage.
    may_use_gpus: a GPU for each item where the cluster has any."""
    try:
        import ray.data  # ray comes without it too
    except ImportError:
        raise MissingExtraError("preparing recordings on a Ray cluster", "ray") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a file that kills its worker again and again costs only itself
    # one file a block: the unit that is tried again
    data = ray.data.from_items([{"i": i} for i in range(len(items))], override_num_blocks=len(items))
    shared = [ray.put(item) for item in items]

    def work(row: dict[str, Any]) -> dict[str, Any]:
        return {"i": row["i"], "result": [function(ray.get(shared[row["i"]]))]}

    results: list[Any] = [InputError(f"{path}: its process died, again and again") for path in paths]
    num_gpus = 1 if may_use_gpus and ray.cluster_resources().get("GPU") else None
    for done, row in enumerate(data.map(work, num_gpus=num_gpus).iter_rows()):
        results[row["i"]] = row["result"][0]
        if on_progress:
            on_progress(done + 1, len(items), paths[row["i"]])
    return results
