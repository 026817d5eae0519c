"""A folder of videos, and a video with what lies beside it made to agree: the first step of `worldgen check` and of the
cache.

recording = open_recording(path); print(recording.facts.num_frames, recording.repairs)
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from worldgen.actions import ActionMap
from worldgen.data.decode import VideoNotes
from worldgen.data.probe import VideoFacts, probe
from worldgen.data.recorded_actions import encode_actions, infer_action_map
from worldgen.data.recording import VIDEO_SUFFIXES, RecordingInfo, read_info
from worldgen.data.sidecar import Sidecar, find_sidecar, find_sidecars, read_sidecar
from worldgen.errors import InputError
from worldgen.files import file_hash

T = TypeVar("T")
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
        num_holes = int(self.facts.rows[-1]) + 1 - self.facts.num_frames if self.facts.has_lost_frames else 0
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
    """The video files under folder at any depth, sorted; hidden files and folders are skipped, links
    followed. A folder that cannot be read stands for what it may hold."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder" if folder.exists() else f"{folder} does not exist")
    found, seen = [], set()
    unreadable: list[Path] = []

    def note(error: OSError) -> None:
        unreadable.append(Path(error.filename))

    for root, folders, files in os.walk(folder, onerror=note, followlinks=True):
        real = os.path.realpath(root)
        if real in seen:  # a link back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [Path(root, f) for f in files if not f.startswith(".") and Path(f).suffix.lower() in VIDEO_SUFFIXES]
    if Path(folder) in unreadable:
        raise InputError(f"{folder} cannot be read: change its permissions")
    found += unreadable  # a folder that cannot be read is reported like a video that cannot
    if not found:
        raise InputError(f"{folder} holds no video: looked for {' '.join(VIDEO_SUFFIXES)} at any depth")
    return sorted(found)


def open_recording(path: Path) -> Recording:
    """Probes the video, reads what lies beside it and makes the two agree. InputError where they cannot."""
    path = Path(path)
    info = read_info(path)
    facts = probe(path, info.fps if info else None)
    repairs = list(facts.repairs)
    notes: list[str] = []
    if info and info.fps and abs(info.fps / facts.fps - 1) > 0.01:
        notes.append(f"NAME.json says {info.fps:g} fps, the video runs at {facts.fps:g}: its timestamps are believed")
    found, sidecar = find_sidecars(path), None
    beside = found[0] if found else None
    if len(found) > 1:
        notes.append(f"{', '.join(p.name for p in found[1:])} is not read: {found[0].name} is")
    if beside is not None:
        sidecar = read_sidecar(beside)
        repairs += sidecar.repairs
        if facts.is_out_of_order:
            raise InputError(f"{path}: its timestamps run back, so the rows of {beside.name} have no place")
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
        stated = info.actions if info else None
        is_inferred = stated is None
        action_map = stated or infer_action_map(sidecar.actions, beside)
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
        f"{video}: {num_frames} frames but {beside.name} has {num_rows} rows: one row a frame is needed, "
        "so they are not of the same recording, or one of them lost its start: remove the one that does not belong"
    )


def _cut_rows(sidecar: Sidecar, n: int) -> Sidecar:
    return replace(
        sidecar,
        actions=sidecar.actions[:n],
        reward=sidecar.reward[:n],
        terminated=sidecar.terminated[:n],
        truncated=sidecar.truncated[:n],
        state={k: v[:n] for k, v in sidecar.state.items()},
    )


def _pad_row(sidecar: Sidecar) -> Sidecar:
    return replace(
        sidecar,
        actions=[*sidecar.actions, None],
        reward=np.append(sidecar.reward, np.float32(0)),
        terminated=np.append(sidecar.terminated, False),
        truncated=np.append(sidecar.truncated, False),
        state={k: np.append(v, np.nan) for k, v in sidecar.state.items()},
    )


def refusal(path: Path, error: Exception) -> FileReport:
    return FileReport(str(path), "refused", str(error).removeprefix(f"{path}: ").removeprefix(f"{path} "))


def look_once(
    videos: list[Path], look: Callable[[list[Path]], list[T]], is_usable: Callable[[T], bool]
) -> tuple[dict[Path, T], dict[Path, Path]]:
    """What look() gives for each video but the copies of a usable one, and of which each of those is a copy. Of equal
    videos one with rows beside it is used, else the first; the others are looked at only where that one is not usable.
    Copies and links would be counted twice, and held out of training on one side only."""
    looks: dict[Path, T] = {}
    same: dict[Path, Path] = {}
    groups = _equal_videos(videos)
    while groups:
        firsts = [group[0] for group in groups]
        looks |= zip(firsts, look(firsts), strict=True)
        same |= {copy: first for first, *copies in groups if is_usable(looks[first]) for copy in copies}
        groups = [copies for first, *copies in groups if copies and not is_usable(looks[first])]
    return looks, same


def _equal_videos(videos: list[Path]) -> list[list[Path]]:
    """Groups of videos that hold the same bytes, those with rows beside them first."""
    sizes: dict[Path, int] = {}
    for video in videos:
        with contextlib.suppress(OSError):  # it is refused for that when it is opened
            facts = video.stat()
            if stat.S_ISREG(facts.st_mode) and facts.st_size:  # a pipe would never end
                sizes[video] = facts.st_size
    num_of_size = Counter(sizes.values())
    groups: dict[str | Path, list[Path]] = {}
    for video in videos:
        key: str | Path = video
        if num_of_size[sizes.get(video, 0)] > 1:
            with contextlib.suppress(OSError):
                key = file_hash(video)
        groups.setdefault(key, []).append(video)
    return [sorted(group, key=lambda video: find_sidecar(video) is None) for group in groups.values()]


def duplicate(video: Path, kept: Path) -> FileReport:
    return FileReport(str(video), "refused", f"the same video as {kept}: used once")
