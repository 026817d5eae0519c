"""Recording with several processes: each has a game of its own and plays whole episodes.

Which episodes a recording holds must not depend on who finishes first. So workers play ahead; once the episodes before
number k are long enough together, those after it are dropped, and k is played again, shorter, where it is too long.
"""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty
from typing import Any

from worldgen.envs.record import Plan, episode_limit, episode_path, record_episode
from worldgen.errors import RunError
from worldgen.interrupts import hangups_withheld

KEEP_ALL, STOP_NOW = 2**31 - 1, -1  # values of `last_wanted`


@dataclass(frozen=True)
class Report:
    """What a worker sends: how far an episode is. error: what ended the worker."""

    index: int
    num_frames: int
    is_finished: bool = False
    error: str = ""


def record_in_parallel(
    plan: Plan,
    name: str,
    first: int,
    frames: int,
    workers: int,
    lengths: dict[int, int],
    show: Callable[[int, int], None],
) -> bool:
    """Fills `lengths` with the frames of each episode that is kept; -> whether it was interrupted."""
    context = multiprocessing.get_context("spawn")
    tasks, reports = context.Queue(), context.Queue()
    last_wanted = context.Value("i", KEEP_ALL)
    processes = [
        context.Process(target=_work, args=(plan, tasks, reports, last_wanted), daemon=True) for _ in range(workers)
    ]
    with hangups_withheld():  # from them, from their first moment on
        for process in processes:
            process.start()
    running: dict[int, int] = {}
    finished: dict[int, int] = {}

    def start(index: int, limit: int) -> None:
        running[index] = 0
        tasks.put((index, limit))

    def before(index: int) -> int:
        """Frames that the episodes before `index` have so far."""
        return sum(finished.get(i, running.get(i, 0)) for i in range(first, index))

    following = first
    interrupted = False
    try:
        while (last := _last_needed(finished, first, frames)) is None:
            while len(running) < workers and before(following) < frames:
                start(following, episode_limit(frames - before(following)))
                following += 1
            _receive(reports, processes, running, finished)
            show(min(frames, before(following)), len(finished))
        last_wanted.value = last
        room = episode_limit(frames - before(last))
        if finished[last] > room:
            _drain(reports, processes, running, finished)
            _remove(plan, name, last)
            del finished[last]
            start(last, room)
        _drain(reports, processes, running, finished)
    except KeyboardInterrupt:
        interrupted = True
        last_wanted.value = STOP_NOW
        _drain(reports, processes, running, finished)
        last = max(finished, default=first)
    finally:
        for _ in processes:
            tasks.put(None)
        for process in processes:
            process.join(timeout=5)
            if process.is_alive():
                process.terminate()
    for index in [i for i in finished if i > last]:
        _remove(plan, name, index)
        del finished[index]
    lengths.update(sorted(finished.items()))
    return interrupted


def _last_needed(finished: dict[int, int], first: int, frames: int) -> int | None:
    """The episode in which the recording ends, once every one before it is finished."""
    total, index = 0, first
    while index in finished:
        total += finished[index]
        if total >= frames:
            return index
        index += 1
    return None


def _receive(reports: Any, processes: list[Any], running: dict[int, int], finished: dict[int, int]) -> None:
    try:
        report: Report = reports.get(timeout=0.5)
    except Empty:
        if all(p.is_alive() for p in processes):
            return
        raise RunError("a recording worker died; what it recorded so far is kept") from None
    if report.error:
        raise RunError(f"recording episode {report.index} failed: {report.error}")
    running[report.index] = report.num_frames
    if report.is_finished:
        finished[report.index] = running.pop(report.index)


def _drain(reports: Any, processes: list[Any], running: dict[int, int], finished: dict[int, int]) -> None:
    while running:
        _receive(reports, processes, running, finished)


def _remove(plan: Plan, name: str, index: int) -> None:
    path = episode_path(plan, name, index)
    for suffix in (".mkv", ".jsonl", ".json"):
        path.with_suffix(suffix).unlink(missing_ok=True)


def _work(plan: Plan, tasks: Any, reports: Any, last_wanted: Any) -> None:
    """A worker process. Ctrl-C and SIGHUP reach it through the one that started it, so that its file is closed well."""
    from worldgen.envs.catalogue import make_game
    from worldgen.envs.policies import make_policy

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.simplefilter("ignore")  # said once already, by the process that started this one
    parent: Any = multiprocessing.parent_process()
    index = -1
    game = None
    try:
        game = make_game(plan.env, plan.fps)
        policy = make_policy(plan.policy, game)
        while (task := _next_task(tasks, parent)) is not None:
            index, limit = task

            def on_frame(num_frames: int) -> bool:
                if num_frames % 50 == 0:
                    reports.put(Report(index, num_frames))  # noqa: B023
                is_orphan = num_frames % 50 == 0 and not parent.is_alive()
                return last_wanted.value >= index and not is_orphan  # noqa: B023

            path = episode_path(plan, game.name, index)
            count = record_episode(game, policy, path, plan.seed, index, limit, on_frame)
            reports.put(Report(index, count, is_finished=True))
    except Exception as error:
        reports.put(Report(index, 0, error=f"{type(error).__name__}: {error}"))
    finally:
        if game is not None:
            game.close()
        if not parent.is_alive():
            reports.cancel_join_thread()  # nobody will read them


def _next_task(tasks: Any, parent: Any) -> tuple[int, int] | None:
    """None when there is nothing left to do, or nobody left to do it for."""
    while parent.is_alive():
        try:
            return tasks.get(timeout=2)
        except Empty:
            continue
    return None
