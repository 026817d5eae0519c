"""What of a folder of videos is usable: `worldgen check`, and the first step of the cache.

for report in check_folder(folder): print(report.path, report.status, report.reason)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from worldgen.actions import ActionMap
from worldgen.data.decode import VideoNotes, decode
from worldgen.data.probe import VideoFacts, probe
from worldgen.data.recording import VIDEO_SUFFIXES, RecordingInfo, Sidecar, find_sidecar, read_info, read_sidecar
from worldgen.errors import InputError

T = TypeVar("T")
S = TypeVar("S")
# (files done, files in all, the file just done)
Progress = Callable[[int, int, Path], None]
# below this a pool costs more than it gives
MIN_POOL_BYTES = 16 << 20
# what a file, and what lies beside it, can be at fault for (text that is not UTF-8 is a ValueError)
REFUSALS = (InputError, ValueError, ImportError, OSError)


@dataclass(frozen=True)
class FileReport:
    """One file of a folder.

    status: "ok", "repaired" (usable; `reason` says what was done) or "refused" (`reason` says why).
    num_frames: that are usable, of the file itself (not resampled). notes: what a user may want to know besides.
    """

    path: str
    status: str
    reason: str = ""
    num_frames: int = 0
    seconds: float = 0.0
    fps: float = 0.0
    width: int = 0
    height: int = 0
    has_sound: bool = False
    has_actions: bool = False
    num_bad_packets: int = 0
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> FileReport:
        return cls(**{**raw, "notes": tuple(raw["notes"])})


@dataclass(frozen=True)
class Recording:
    """A video and its rows, made to agree: sidecar rows 0..n-1 belong to rows 0..n-1 of facts.

    repairs: what it took. action_map: what NAME.json says, else what the actions look like (is_inferred).
    """

    path: Path
    facts: VideoFacts
    info: RecordingInfo | None
    sidecar: Sidecar | None
    action_map: ActionMap | None
    is_inferred: bool
    repairs: tuple[str, ...]
    notes: tuple[str, ...]

    def report(self, seen: VideoNotes) -> FileReport:
        """seen: what decoding the file met."""
        repairs = list(self.repairs)
        num_lost = self.facts.num_frames - seen.num_decoded
        num_holes = int(self.facts.rows[-1]) + 1 - self.facts.num_frames
        if seen.num_bad_packets or num_lost > 0 or num_holes > 0:
            repairs.append(
                f"{num_lost + num_holes} of {int(self.facts.rows[-1]) + 1} frames are damaged or missing: left out, "
                "and the episode is cut there"
            )
        return FileReport(
            path=str(self.path),
            status="repaired" if repairs else "ok",
            reason="; ".join(repairs),
            num_frames=seen.num_decoded,
            seconds=round(self.facts.seconds, 3),
            fps=round(self.facts.fps, 6),
            width=self.facts.width,
            height=self.facts.height,
            has_sound=self.facts.has_sound,
            has_actions=self.action_map is not None,
            num_bad_packets=seen.num_bad_packets,
            notes=tuple(dict.fromkeys((*self.facts.notes, *self.notes, *seen.notes))),
        )


def find_videos(folder: Path) -> list[Path]:
    """The video files under folder at any depth, sorted; hidden files and folders are skipped, links followed."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder" if folder.exists() else f"{folder} does not exist")
    found, seen = [], set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:  # a link back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [Path(root, f) for f in files if not f.startswith(".") and Path(f).suffix.lower() in VIDEO_SUFFIXES]
    if not found:
        raise InputError(f"{folder} holds no video: looked for {' '.join(VIDEO_SUFFIXES)} at any depth")
    return sorted(found)


def open_recording(path: Path) -> Recording:
    """Probes the video, reads what lies beside it and makes the two agree. InputError where they cannot."""
    path = Path(path)
    info = read_info(path)
    facts = probe(path, info.fps if info else None)
    repairs, notes = [], []
    if info and abs(info.fps / facts.fps - 1) > 0.01:
        notes.append(f"NAME.json says {info.fps:g} fps, the video runs at {facts.fps:g}: its timestamps are believed")
    beside, sidecar = find_sidecar(path), None
    if beside is not None:
        sidecar = read_sidecar(beside)
        if facts.is_start_lost:
            raise InputError(f"{path}: its first timestamps are damaged, so the rows of {beside.name} have no place")
        sidecar, facts, repair = match_rows(sidecar, facts, path, beside)
        repairs += [repair] if repair else []
    if facts.is_cut_off:
        repairs.append(f"the file is cut off after {facts.seconds:.2f} s")
    if facts.num_frames < 2:
        raise InputError(f"{path}: {facts.num_frames} usable frame; a recording needs at least 2")
    action_map, is_inferred = None, False
    if beside is not None and sidecar is not None and any(a is not None for a in sidecar.actions):
        is_inferred = info is None
        action_map = info.actions if info else infer_action_map(sidecar.actions, beside)
        encode_actions(action_map, sidecar.actions, beside)
    return Recording(path, facts, info, sidecar, action_map, is_inferred, tuple(repairs), tuple(notes))


def match_rows(sidecar: Sidecar, facts: VideoFacts, video: Path, beside: Path) -> tuple[Sidecar, VideoFacts, str]:
    """Row t belongs to frame t from the start, so only the ends may differ. Returns both at one length and what was
    done. One row too many or too few is cut or padded (the last row is padding by convention); more only where the
    video itself shows that it was cut off, or its rows were."""
    facts = facts.with_rows(len(sidecar))
    num_frames, num_rows = int(facts.rows[-1]) + 1, len(sidecar)
    if num_rows == num_frames:
        return sidecar, facts, ""
    is_open_ended = facts.is_cut_off or facts.is_unfinished
    if num_rows == num_frames - 1:
        return _pad_row(sidecar), facts, f"{beside.name} has {num_rows} rows for {num_frames} frames: last row padded"
    if num_rows == num_frames + 1 or (num_rows > num_frames and is_open_ended):
        cut = f"{beside.name} has {num_rows} rows for {num_frames} frames: the rows after the video's end are left out"
        return _cut_rows(sidecar, num_frames), facts, cut
    raise InputError(
        f"{video} has {num_frames} frames but {beside.name} has {num_rows} rows: one row a frame is needed, "
        "so they are not of the same recording, or one of them lost its start"
    )


def _cut_rows(sidecar: Sidecar, n: int) -> Sidecar:
    return Sidecar(
        actions=sidecar.actions[:n],
        reward=sidecar.reward[:n],
        terminated=sidecar.terminated[:n],
        truncated=sidecar.truncated[:n],
        state={k: v[:n] for k, v in sidecar.state.items()},
    )


def _pad_row(sidecar: Sidecar) -> Sidecar:
    return Sidecar(
        actions=[*sidecar.actions, None],
        reward=np.append(sidecar.reward, np.float32(0)),
        terminated=np.append(sidecar.terminated, False),
        truncated=np.append(sidecar.truncated, False),
        state={k: np.append(v, np.nan) for k, v in sidecar.state.items()},
    )


def encode_actions(action_map: ActionMap, actions: list[Any], source: Path) -> np.ndarray:
    """Actions as recorded -> (t, width) rows that networks read; NULL where None. Errors name the file and row."""
    rows = action_map.null(len(actions))
    known = [i for i, a in enumerate(actions) if a is not None]
    if not known:
        return rows
    is_scalar_box = action_map.kind == "box" and len(action_map.sizes) == 1

    def values(i: int) -> Any:
        return [actions[i]] if is_scalar_box and not isinstance(actions[i], list) else actions[i]

    try:
        rows[known] = action_map.encode([values(i) for i in known], len(known))
        return rows
    except (InputError, ValueError, TypeError):
        pass
    for i in known:  # again, to name the row
        try:
            rows[i] = action_map.encode(values(i))
        except (InputError, ValueError, TypeError) as error:
            raise InputError(f"{source}, row {i}: {error}") from None
    return rows


def infer_action_map(actions: Iterable[Any], source: Path) -> ActionMap:
    """What the actions of a recording without NAME.json look like: integers are discrete, lists of 0 and 1 buttons,
    other lists of integers multi-discrete, floats continuous."""
    known = [a for a in actions if a is not None]
    if any(isinstance(a, str) for a in known):
        word = next(a for a in known if isinstance(a, str))
        raise InputError(f"{source}: action {word!r} is a word; write integers, and the names into {source.stem}.json")
    has_lists = isinstance(known[0], list)
    try:
        table = np.array(known)
    except ValueError:
        table = np.zeros(0, object)
    if table.ndim != 1 + has_lists or table.dtype.kind not in "biuf" or not table.size:
        raise InputError(f"{source}: the actions differ in kind or length from row to row")
    if not np.isfinite(table).all():
        raise InputError(f"{source}: an action is not finite")
    # parquet and csv turn integers with gaps into floats
    if not has_lists and (table == np.round(table)).all():
        if table.min() < 0:
            raise InputError(f"{source}: action {int(table.min())} is negative; discrete actions count from 0")
        return ActionMap("discrete", (int(table.max()) + 1,))
    if has_lists and table.dtype.kind in "biu" and table.min() >= 0:
        largest = table.astype(np.int64).max(axis=0)
        if largest.max() <= 1:
            return ActionMap("multi_binary", (2,) * table.shape[1])
        return ActionMap("multi_discrete", tuple(int(n) + 1 for n in largest))
    values = table.reshape(len(table), -1).astype(np.float64)
    low, high = np.minimum(values.min(axis=0), -1.0), np.maximum(values.max(axis=0), 1.0)
    return ActionMap("box", (0,) * values.shape[1], low=tuple(low.tolist()), high=tuple(high.tolist()))


def inspect_file(path: Path) -> FileReport:
    """Decodes all of a file and reads what lies beside it. Never raises for what is wrong with a file."""
    try:
        recording = open_recording(path)
        seen = VideoNotes()
        for _ in decode(recording.path, recording.facts, seen):
            pass
        if seen.num_decoded < 2:
            raise InputError(f"{path}: {seen.num_decoded} of its {recording.facts.num_frames} frames can be decoded")
        return recording.report(seen)
    except REFUSALS as error:
        return refusal(path, error)


def refusal(path: Path, error: Exception) -> FileReport:
    return FileReport(str(path), "refused", str(error).removeprefix(f"{path}: "))


def check_folder(folder: Path, on_progress: Progress | None = None) -> list[FileReport]:
    """A report on every video of a folder, in the order of find_videos."""
    videos = find_videos(folder)
    reports = map_files(inspect_file, videos, videos, on_progress)
    return [r if isinstance(r, FileReport) else refusal(path, r) for path, r in zip(videos, reports, strict=True)]


def reports_to_json(reports: list[FileReport]) -> dict[str, Any]:
    return {"files": [report.to_json() for report in reports]}


def map_files(
    function: Callable[[S], T], items: list[S], paths: list[Path], on_progress: Progress | None = None
) -> list[T | InputError]:
    """[function(item) for item in items], in processes where there is enough to do; paths: the file of each item.
    A file that kills its process (a decoder's crash, memory) gives an InputError in its place; the others go on."""
    results: list[Any] = [None] * len(items)
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    num_workers = min(len(items), num_cores)
    size = sum(p.stat().st_size for p in paths if p.is_file())
    if num_workers < 2 or size < MIN_POOL_BYTES:
        for i, item in enumerate(items):
            results[i] = function(item)
            if on_progress:
                on_progress(i + 1, len(items), paths[i])
        return results
    num_done, left = 0, set(range(len(items)))

    def finish(i: int, result: Any) -> None:
        nonlocal num_done
        results[i] = result
        left.discard(i)
        num_done += 1
        if on_progress:
            on_progress(num_done, len(items), paths[i])

    with _pool(num_workers) as pool:
        futures = {pool.submit(function, item): i for i, item in enumerate(items)}
        try:
            for future in as_completed(futures):
                finish(futures[future], future.result())
        except BrokenProcessPool:
            pass
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


def _pool(num_workers: int) -> ProcessPoolExecutor:
    # spawn: fork copies the threads' locks of whoever calls, and is not everywhere
    return ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"))
