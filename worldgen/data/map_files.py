"""The same work on many files, in processes that a damaged file may kill."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import current_process, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from worldgen.cores import usable_cores
from worldgen.data.progress import Progress
from worldgen.data.ray_files import is_on_ray, map_on_ray
from worldgen.errors import InputError, RunError

T = TypeVar("T")
S = TypeVar("S")
_NO_PROCESS = (
    "no process could be started: each of them imports the script that asks for it, so a script does its work below "
    "`if __name__ == '__main__':`"
)
# below this a pool costs more than it gives
MIN_POOL_BYTES = 16 << 20


def map_files(
    function: Callable[[S], T], items: list[S], paths: list[Path], on_progress: Progress | None = None
) -> list[T | InputError]:
    """[function(item) for item in items], in processes where there is enough to do, on a Ray cluster where there is
    one; paths: the file of each item. A file that kills its process (a decoder's crash, memory) gives an InputError in
    its place; the others go on."""
    if items and is_on_ray():
        return map_on_ray(function, items, paths, on_progress)
    results: list[Any] = [None] * len(items)
    num_workers = min(len(items), usable_cores())
    size = sum(p.stat().st_size for p in paths if p.is_file())
    if num_workers < 2 or size < MIN_POOL_BYTES:
        for i, item in enumerate(items):
            results[i] = function(item)
            if on_progress:
                on_progress(i + 1, len(items), paths[i])
        return results
    if getattr(current_process(), "_inheriting", False):  # still importing the script that began this very process
        sys.exit(1)  # without a word: whoever began it has them
    started = get_context("spawn").Event()
    num_done, left = 0, set(range(len(items)))

    def finish(i: int, result: Any) -> None:
        nonlocal num_done
        results[i] = result
        left.discard(i)
        num_done += 1
        if on_progress:
            on_progress(num_done, len(items), paths[i])

    with _pool(num_workers, started) as pool:
        futures = {pool.submit(function, item): i for i, item in enumerate(items)}
        try:
            for future in as_completed(futures):
                finish(futures[future], future.result())
        except BrokenProcessPool:
            if not started.is_set():
                raise RunError(_NO_PROCESS) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for i in sorted(left):  # one of these killed the pool: each alone
        with _pool(1) as pool:
            try:
                finish(i, pool.submit(function, items[i]).result())
            except BrokenProcessPool:
                finish(i, InputError(f"{paths[i]}: the decoder crashed on it"))
    return results


def _pool(num_workers: int, started: Any = None) -> ProcessPoolExecutor:
    """started: an event that is set by the first process that began."""
    # spawn: fork copies the threads' locks of whoever calls, and is not everywhere
    return ProcessPoolExecutor(num_workers, get_context("spawn"), _begin, (started,))


def _begin(started: Any) -> None:
    """In each process. It ends with the one that began it, however that was killed: nobody waits for it any more."""
    Thread(target=_end_with_parent, daemon=True).start()
    if started is not None:
        started.set()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
