"""Records games: `worldgen record vizdoom:defend_the_center --out recordings/doom --frames 1000`.

One episode per file, NAME-SEED-INDEX.mkv with its .jsonl and .json (contract C1). Episode i depends on the game, the
policy, the seed and i alone, so the same command gives the same recordings with any number of workers. Existing files
are never touched: running the same command again continues the numbering. A killed run leaves usable files.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.data.recording import RecordingInfo, RecordingWriter
from worldgen.envs.catalogue import make_game
from worldgen.envs.game import Game
from worldgen.envs.policies import POLICIES, Policy, make_policy
from worldgen.errors import InputError
from worldgen.files import check_folder_writable
from worldgen.interrupts import HANGUP, ignore_hangups, signals_handled, termination_as_interrupt, terminations

EPISODE_FRAMES = 3000  # a game that does not end by then is cut, flagged truncated


@dataclass(frozen=True)
class Plan:
    """What every episode of a run shares. Sent to the workers."""

    env: str
    out: Path
    policy: str = "mix"
    seed: int = 0
    fps: float | None = None


@dataclass(frozen=True)
class Progress:
    frames: int
    total: int
    episodes: int
    seconds: float

    @property
    def fps(self) -> float:
        return self.frames / max(self.seconds, 1e-9)


OnProgress = Callable[[Progress], None]


def record(
    env: str,
    out: Path,
    frames: int,
    *,
    policy: str = "mix",
    seed: int = 0,
    fps: float | None = None,
    workers: int = 1,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Records `frames` frames of `env` into the folder `out`. The last episode is cut to fit and flagged truncated;
    when only one frame is left for it, it gets two, as an episode needs them.

    -> {"env", "out", "policy", "seed", "episodes", "frames", "seconds", "fps", "game_fps", "sound_seconds",
    "interrupted"}; "fps" is frames recorded per second of waiting. Ctrl-C ends a run early and keeps what was played.
    """
    for name, value, least in (("frames", frames, 2), ("workers", workers, 1), ("seed", seed, 0)):
        if value < least:
            raise InputError(f"--{name} {value}: choose {least} or more")
    if policy not in POLICIES:
        raise InputError(f"unknown policy {policy!r}; choose {', '.join(POLICIES)}")
    plan = Plan(env, Path(out), policy, seed, fps)
    check_folder_writable(plan.out, "--out")
    start = time.perf_counter()
    game = make_game(env, fps)
    facts = {"game_fps": game.fps, "sample_rate": game.sample_rate}
    first = next_index(plan, game.name)

    def show(num_frames: int, episodes: int) -> None:
        if on_progress is not None:
            on_progress(Progress(num_frames, frames, episodes, time.perf_counter() - start))

    lengths: dict[int, int] = {}
    try:
        with termination_as_interrupt():
            if workers == 1:
                interrupted = _record_serially(plan, game, first, frames, lengths, show)
            else:
                from worldgen.envs.record_workers import record_in_parallel

                game.close()  # before the workers start theirs
                interrupted = record_in_parallel(plan, game.name, first, frames, workers, lengths, show)
    finally:
        game.close()
    total, seconds = sum(lengths.values()), time.perf_counter() - start
    return {
        "env": game.name,
        "out": str(out),
        "policy": policy,
        "seed": seed,
        "episodes": len(lengths),
        "frames": total,
        "seconds": round(seconds, 3),
        "fps": round(total / seconds, 2),
        "game_fps": facts["game_fps"],
        "sound_seconds": round(total / game.fps, 3) if facts["sample_rate"] else 0.0,
        "interrupted": interrupted,
    }


def record_episode(
    game: Game,
    policy: Policy,
    path: Path,
    seed: int,
    index: int,
    limit: int,
    on_frame: Callable[[int], bool] = lambda num_frames: True,
) -> int:
    """Plays episode `index` into `path`, at most `limit` frames; -> frames. Stops where on_frame(frames) is False.

    Row t is the action chosen on frame t; the reward and the end that it led to stand in the same row.
    """
    rng = np.random.default_rng([seed, index])
    game_seed = int(rng.integers(2**31 - 1))
    policy.reset(rng)
    frame = game.reset(game_seed)
    info = RecordingInfo(game.fps, game.actions, game.name, game_seed, game.licence)
    with RecordingWriter(path, info, game.sample_rate, game.channels) as writer:
        writer.write(frame.image, frame.sound, frame.state)
        is_over = False
        while not is_over:
            action = policy.act(frame, rng)
            frame = game.step(action)
            is_over = frame.terminated or frame.truncated
            is_cut = not is_over and (writer.num_frames + 1 >= limit or not on_frame(writer.num_frames + 1))
            writer.act(action, frame.reward, frame.terminated, frame.truncated or is_cut)
            writer.write(frame.image, frame.sound, frame.state)
            is_over = is_over or is_cut
        return writer.num_frames


def episode_path(plan: Plan, name: str, index: int) -> Path:
    return plan.out / f"{_stem(plan, name)}-{index:05d}.mkv"


def next_index(plan: Plan, name: str) -> int:
    """The first number after those that any file in the folder has."""
    pattern = re.compile(rf"{re.escape(_stem(plan, name))}-(\d+)\..+")
    taken = [int(m[1]) for p in plan.out.glob("*") if (m := pattern.fullmatch(p.name))] if plan.out.is_dir() else []
    return max(taken, default=-1) + 1


def episode_limit(frames_left: int) -> int:
    return max(2, min(frames_left, EPISODE_FRAMES))


def _stem(plan: Plan, name: str) -> str:
    return f"{re.sub('[^A-Za-z0-9_]+', '-', name)}-{plan.seed}"


def _record_serially(
    plan: Plan, game: Game, first: int, frames: int, lengths: dict[int, int], show: Callable[[int, int], None]
) -> bool:
    """Fills `lengths` with the frames of each episode; -> whether it was interrupted."""
    policy = make_policy(plan.policy, game)
    index, total = first, 0
    try:
        with _stop_signal() as stop:
            while total < frames and not stop.is_set():

                def on_frame(num_frames: int) -> bool:
                    if num_frames % 50 == 0:
                        show(total + num_frames, len(lengths))  # noqa: B023
                    return not stop.is_set()

                path = episode_path(plan, game.name, index)
                lengths[index] = record_episode(
                    game, policy, path, plan.seed, index, episode_limit(frames - total), on_frame
                )
                total += lengths[index]
                index += 1
                show(total, len(lengths))
            return stop.is_set()
    except KeyboardInterrupt:
        rows = episode_path(plan, game.name, index).with_suffix(".jsonl")
        if index not in lengths and rows.is_file():
            lengths[index] = len(rows.read_text(encoding="utf-8").splitlines())
        return True


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """Set by Ctrl-C, SIGTERM or SIGHUP: the episode ends with the frame being played, never inside one. A second one,
    unless it is SIGHUP, does not wait."""
    stop = threading.Event()

    def on_signal(number: int, _: Any) -> None:
        if number == HANGUP:
            ignore_hangups()
        elif stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    with signals_handled((signal.SIGINT, *terminations()), on_signal):
        yield stop
