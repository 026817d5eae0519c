"""`worldgen check`: what a folder of recordings holds, file by file and as a whole, before anyone trains on it.

check = check_folder(folder); print(check.files[0].report.status, check.lag)
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.data.decode import VideoNotes
from worldgen.data.findings import Span, action_counts, find_cuts, near_duplicates, picture_hashes, still_spans
from worldgen.data.ingest import REFUSALS, FileReport, duplicate, find_videos, look_once, open_recording, refusal
from worldgen.data.lag import LagEvidence, lag_inputs
from worldgen.data.map_files import map_files
from worldgen.data.progress import Progress
from worldgen.data.recorded_actions import encode_actions
from worldgen.data.signals import MAX_THUMBS, Signals, take_signals
from worldgen.errors import InputError


@dataclass(frozen=True)
class FileCheck:
    """A file's report and what was found in it.

    still: (start, end) seconds in which nothing happens. cuts: seconds at which a scene ends. crop: (x, y, width,
    height) of the picture inside of its black bars. loudness_db, peak_db: RMS and peak under full scale; silent: share
    of the time. actions: how often each was taken. shift: frames by which its pictures answer its rows later than in
    the other files; None where that cannot be told. same_as: files that show the same, with the share.
    """

    report: FileReport
    still: tuple[Span, ...] = ()
    cuts: tuple[float, ...] = ()
    crop: tuple[int, int, int, int] | None = None
    loudness_db: float | None = None
    peak_db: float | None = None
    silent: float | None = None
    actions: dict[str, int] | None = None
    shift: int | None = None
    same_as: tuple[tuple[str, float], ...] = ()
    shown: np.ndarray | None = None

    @property
    def usable_seconds(self) -> float:
        """Without the stretches in which nothing happens."""
        if self.report.status == "refused":
            return 0.0
        share = self.report.num_frames / max(1, round(self.report.seconds * self.report.fps))
        return max(0.0, self.report.seconds * min(1.0, share) - sum(b - a for a, b in self.still))

    def findings(self) -> list[str]:
        """What a person should look at, in words."""
        out = []
        if self.still:
            seconds = sum(b - a for a, b in self.still)
            out.append(f"still for {seconds:.1f} s in {len(self.still)} stretches, from {self.still[0][0]:.1f} s")
        if self.cuts:
            out.append(f"{len(self.cuts)} cuts, at {', '.join(f'{c:.2f}' for c in self.cuts[:5])} s")
        if self.crop:
            x, y, width, height = self.crop
            out.append(f"black bars: the picture is {width}x{height} at {x},{y}")
        if self.peak_db is not None and self.peak_db < -60:
            out.append("its sound is silent throughout")
        if self.report.has_sound and self.peak_db is None:
            out.append("its audio track holds no sound")
        if self.shift:
            when = "late" if self.shift < 0 else "early"
            out.append(f"its actions are written {abs(self.shift)} frames {when}, compared with the other files")
        if self.report.num_frames > MAX_THUMBS:
            out.append(f"stills, cuts and copies were looked for in its first {MAX_THUMBS} frames only: split it")
        out += [f"{share:.0%} of it is in {name} too" for name, share in self.same_as]
        return out

    def to_json(self) -> dict[str, Any]:
        facts = {k: v for k, v in vars(self).items() if k not in ("report", "shown")}
        return {**self.report.to_json(), **facts, "usable_seconds": round(self.usable_seconds, 3)}


@dataclass(frozen=True)
class FolderCheck:
    """files: in the order of find_videos. lag: frames by which the pictures of all files answer their actions."""

    folder: Path
    files: tuple[FileCheck, ...]
    lag: int | None

    @property
    def usable(self) -> list[FileCheck]:
        return [f for f in self.files if f.report.status != "refused"]

    @property
    def actions(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for file in self.files:
            total.update(file.actions or {})
        return dict(total)

    @property
    def frame_rates(self) -> dict[str, int]:
        return dict(Counter(f"{f.report.fps:g}" for f in self.usable))

    def findings(self) -> list[str]:
        out = []
        if len(self.frame_rates) > 1:
            listed = ", ".join(f"{n} at {rate}" for rate, n in self.frame_rates.items())
            out.append(f"several frame rates ({listed} fps): training resamples all to the most common")
        if self.lag is not None and self.lag < 0:
            out.append(
                f"the actions are written {-self.lag} frames late: row t must hold the action chosen on frame t "
                "(`--fix OUT` moves them)"
            )
        if self.lag is not None and self.lag > 1:
            out.append(
                f"the picture answers {self.lag} frames after the action: the game's own delay, or rows written early"
            )
        counts = {k: v for k, v in self.actions.items() if k != "unknown"}
        never = [name for name, count in counts.items() if not count]
        if never:
            out.append(f"never pressed: {', '.join(never[:10])}")
        return out

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder),
            "minutes": round(sum(f.report.seconds for f in self.usable) / 60, 3),
            "usable_minutes": round(sum(f.usable_seconds for f in self.usable) / 60, 3),
            "frame_rates": self.frame_rates,
            "actions": self.actions,
            "lag": self.lag,
            "findings": self.findings(),
            "files": [f.to_json() for f in self.files],
        }


def check_folder(folder: Path, on_progress: Progress | None = None) -> FolderCheck:
    """Decodes every video of a folder but the copies. Never raises for what is wrong with one of them."""
    videos = find_videos(folder)
    looks, same = look_once(
        videos,
        lambda some: map_files(_look, some, some, on_progress),
        lambda found: not isinstance(found, Exception) and found[0].report.status != "refused",
    )
    files: list[FileCheck] = []
    evidence: dict[int, LagEvidence] = {}
    signals: dict[int, Signals] = {}
    for i, video in enumerate(videos):
        if video in same:
            files.append(FileCheck(duplicate(video, same[video])))
            continue
        found = looks[video]
        if isinstance(found, Exception):
            files.append(FileCheck(refusal(video, found)))
            continue
        file, of_file, seen = found
        files.append(file)
        if of_file is not None:
            evidence[i] = of_file
        if seen is not None:
            signals[i] = seen
    every = LagEvidence()
    for one in evidence.values():
        every.merge(one)
    lag, weights = every.lag(), every.weights()
    if lag is not None and weights is not None:
        for i, one in evidence.items():
            files[i] = replace(files[i], shift=one.shift_against(every, weights))
    places = list(signals)
    for a, b, share in near_duplicates([signals[i] for i in places]):
        i, j = places[a], places[b]
        files[j] = replace(files[j], same_as=(*files[j].same_as, (files[i].report.path, share)))
    return FolderCheck(Path(folder), tuple(files), lag)


def inspect_file(path: Path) -> FileCheck:
    """One file by itself. Never raises for what is wrong with it."""
    return _look(path)[0]


def _look(path: Path) -> tuple[FileCheck, LagEvidence | None, Signals | None]:
    try:
        recording = open_recording(path)
        notes = VideoNotes()
        signals = take_signals(recording, notes)
        if notes.num_decoded < 2:
            raise InputError(f"{path}: {notes.num_decoded} of its {recording.facts.num_frames} frames can be decoded")
        counts, evidence = None, None
        if recording.action_map is not None and recording.sidecar is not None:
            rows = encode_actions(recording.action_map, recording.sidecar.actions, path)
            counts = action_counts(recording.action_map, rows)
            evidence = LagEvidence()
            evidence.add(signals, lag_inputs(recording.action_map, rows))
    except REFUSALS as error:
        return FileCheck(refusal(path, error)), None, None
    facts = recording.facts
    top, bottom, left, right = signals.bars
    file = FileCheck(
        report=recording.report(notes),
        still=tuple(still_spans(signals, 1 / facts.fps)),
        cuts=tuple(find_cuts(signals.thumbs, signals.times)),
        crop=(left, top, facts.width - left - right, facts.height - top - bottom) if any(signals.bars) else None,
        loudness_db=_decibels(signals.rms),
        peak_db=_decibels(signals.peak),
        silent=None if signals.silent is None else round(signals.silent, 3),
        actions=counts,
        shown=signals.shown,
    )
    # what near_duplicates() needs: a picture for every change, not every frame
    hashes = picture_hashes(signals.thumbs)
    is_new = np.append(True, hashes[1:] != hashes[:-1]) if len(hashes) else np.zeros(0, bool)
    nothing = np.zeros((0, 0, 0, 3), np.uint8)
    small = replace(signals, thumbs=signals.thumbs[is_new], times=signals.times[is_new], shown=nothing)
    return file, evidence, small


def _decibels(level: float | None) -> float | None:
    return None if level is None else round(20 * float(np.log10(max(level, 1e-5))), 1)
