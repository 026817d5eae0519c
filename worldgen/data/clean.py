"""`worldgen check --fix`: recordings as they were meant to be, written as contract C1 has them; the originals stay."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.data.cache_build import checksum
from worldgen.data.cache_shard import output_rows
from worldgen.data.check import FileCheck, FolderCheck
from worldgen.data.container import cleaned_from
from worldgen.data.decode import VideoNotes, resample
from worldgen.data.ingest import Recording, open_recording
from worldgen.data.recording import RecordingInfo, RecordingWriter
from worldgen.data.sound import sound_blocks
from worldgen.data.video import VideoWriter
from worldgen.errors import InputError
from worldgen.files import check_folder_writable

MIN_SECONDS = 1.0  # a shorter piece is dropped


def fix_folder(check: FolderCheck, out: Path, say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """Writes every usable recording of a folder into out, at a constant rate: bars cropped, still stretches left out,
    cut into episodes at damage, at cuts and at those stretches, actions that are late or early moved to their frames.

    Returns what was done, by file: path, pieces (written files), frames, seconds_dropped, actions_moved. InputError
    where out holds a recording of that name already."""
    source = check.folder.resolve()
    if out.resolve().is_relative_to(source) or source.is_relative_to(out.resolve()):
        raise InputError(f"--fix {out} and {check.folder} lie inside each other: choose a folder elsewhere")
    check_folder_writable(out, "--fix")
    done = []
    targets = _targets([Path(file.report.path).relative_to(check.folder) for file in check.usable])
    for file, target in zip(check.usable, targets, strict=True):
        path = Path(file.report.path)
        # nothing comes before its cause; a picture that answers late may be the game's own way
        moved = (file.shift or 0) + min(0, check.lag or 0)
        done.append(fix_file(file, out / target, moved, {out / other for other in targets}))
        what = f"{path} -> {len(done[-1]['pieces'])} recordings, {done[-1]['frames']} frames"
        dropped = done[-1]["seconds_dropped"]
        what += f", {dropped:.1f} s left out" if dropped > 0.05 else ""
        say(what + (f", actions moved by {moved:+d} frames" if moved else ""))
    return done


def _targets(paths: list[Path]) -> list[Path]:
    """A name without its suffix for each path, no two the same: a.mkv and a.mp4 become a-mkv and a-mp4."""
    bare = [path.with_suffix("") for path in paths]
    count = Counter(bare)
    taken = {path for path in bare if count[path] == 1}
    targets = []
    for path, target in zip(paths, bare, strict=True):
        if count[target] > 1:
            name = f"{path.stem}-{path.suffix[1:]}"
            names = itertools.chain([name], (f"{name}-{k}" for k in itertools.count(2)))
            target = next(t for t in map(target.with_name, names) if t not in taken)
            taken.add(target)
        targets.append(target)
    return targets


@dataclass(frozen=True)
class _Plan:
    """pieces: the outputs (a frame each, at the file's rate) of every recording to be written. rows: of all of them."""

    pieces: list[np.ndarray]
    rows: dict[str, np.ndarray]
    show_last: bool


def fix_file(file: FileCheck, target: Path, moved: int = 0, reserved: Collection[Path] = frozenset()) -> dict[str, Any]:
    """Writes target.mkv, or target-0.mkv and on where it falls apart. moved: the action of row t goes to t + moved.
    reserved: targets of other files, which no piece may take."""
    recording = _move_actions(open_recording(Path(file.report.path)), moved)
    plan = _plan(file, recording)
    numbered = (target.with_name(f"{target.name}-{k}") for k in itertools.count())
    free = (piece for piece in numbered if piece not in reserved) if len(plan.pieces) > 1 else iter([target])
    names = [piece.with_name(f"{piece.name}.mkv") for piece in itertools.islice(free, len(plan.pieces))]
    if taken := [name for name in names if name.exists()]:
        raise InputError(f"{taken[0]} already exists: choose another --fix, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    pictures = _pictures(file, recording, plan)
    sound = _SoundReader(recording) if file.peak_db is not None else None
    for name, piece in zip(names, plan.pieces, strict=True):
        _write(name, recording, plan, piece, pictures, sound)
    num_frames = sum(len(piece) for piece in plan.pieces)
    return {
        "path": file.report.path,
        "pieces": [str(name) for name in names],
        "frames": num_frames,
        "seconds_dropped": round(max(0.0, recording.facts.seconds - num_frames / recording.facts.fps), 3),
        "actions_moved": moved,
    }


def _move_actions(recording: Recording, moved: int) -> Recording:
    if not moved or recording.sidecar is None:
        return recording
    actions, n = recording.sidecar.actions, len(recording.sidecar)
    placed = [actions[t - moved] if 0 <= t - moved < n else None for t in range(n)]
    return replace(recording, sidecar=replace(recording.sidecar, actions=placed))


def _plan(file: FileCheck, recording: Recording) -> _Plan:
    facts = recording.facts
    has_end = recording.sidecar is not None and bool(recording.sidecar.terminated[-2:].any())
    shown, missing = [], []
    for row, _, is_missing in resample(recording.path, facts, facts.fps, 8, 8, VideoNotes(), show_last=has_end):
        shown.append(row)
        missing.append(is_missing)
    times = np.arange(len(shown)) / facts.fps
    keep = ~np.array(missing)
    for first, last in file.still:
        keep &= (times < first) | (times >= last)
    kept = np.flatnonzero(keep)
    scene = np.searchsorted(np.array(file.cuts), times + 0.5 / facts.fps)
    begins = (np.diff(np.append(-2, kept)) > 1) | (np.diff(np.append(-1, scene[kept])) > 0)
    pieces = np.split(kept, np.flatnonzero(begins)[1:]) if len(kept) else []
    rows = output_rows(recording, recording.action_map, np.array(shown), np.ones(len(shown), bool))
    return _Plan([p for p in pieces if len(p) >= max(2, MIN_SECONDS * facts.fps)], rows, has_end)


def _pictures(file: FileCheck, recording: Recording, plan: _Plan) -> Any:
    """Yields (output, frame) in order, square pixels, without the bars."""
    facts = recording.facts
    width = max(1, round(facts.height * facts.aspect))
    x, y, inner_width, inner_height = file.crop or (0, 0, facts.width, facts.height)
    left, right = round(x * width / facts.width), round((x + inner_width) * width / facts.width)
    frames = resample(recording.path, facts, facts.fps, width, facts.height, VideoNotes(), show_last=plan.show_last)
    for i, (_, frame, _) in enumerate(frames):
        yield i, frame[y : y + inner_height, left:right]


def _write(
    name: Path, recording: Recording, plan: _Plan, piece: np.ndarray, pictures: Any, sound: _SoundReader | None
) -> None:
    fps, space = recording.facts.fps, recording.action_map
    origin = cleaned_from(recording.path) or checksum(recording.path)
    rate, channels = (sound.rate, sound.channels) if sound else (None, 1)
    with contextlib.ExitStack() as stack:
        recorder: RecordingWriter | None = None
        video: VideoWriter | None = None
        for i, frame in pictures:
            if i < piece[0]:
                continue
            heard = (
                None if sound is None else sound.between(round(i * sound.rate / fps), round((i + 1) * sound.rate / fps))
            )
            if recording.sidecar is None:
                if video is None:
                    height, width, _ = frame.shape
                    video = stack.enter_context(
                        VideoWriter(name, width, height, fps, sample_rate=rate, channels=channels, cleaned_from=origin)
                    )
                video.write(frame, heard)
            else:
                if recorder is None:
                    # what is not stated stays so: each file by itself would look like another game
                    info = replace(recording.info or RecordingInfo(fps, None, ""), fps=fps)
                    recorder = stack.enter_context(RecordingWriter(name, info, rate, channels, origin))
                columns = {k: float(v[i]) for k, v in plan.rows.items() if k.startswith("state.")}
                recorder.write(frame, heard, {k.removeprefix("state."): v for k, v in columns.items()})
                action = None
                if space is not None and not (plan.rows["actions"][i] == space.null()).all():
                    action = space.decode(plan.rows["actions"][i])
                recorder.act(
                    action,
                    reward=float(plan.rows["reward"][i]),
                    terminated=bool(plan.rows["terminated"][i]),
                    truncated=bool(plan.rows["truncated"][i]),
                )
            if i == piece[-1]:
                return


class _SoundReader:
    """The sound of a recording, read forwards."""

    def __init__(self, recording: Recording):
        self.rate = recording.facts.sample_rate or 48_000
        self._blocks = sound_blocks(recording.path, facts=recording.facts)
        self._held, self._at = next(self._blocks), 0
        self.channels = self._held.shape[1]

    def between(self, start: int, stop: int) -> np.ndarray:
        """(stop - start, channels) int16; silence after its end"""
        while self._at + len(self._held) < stop and (block := next(self._blocks, None)) is not None:
            keep = max(0, start - self._at)
            self._at += min(keep, len(self._held))
            self._held = np.concatenate([self._held[keep:], block])
        heard = self._held[max(0, start - self._at) : max(0, stop - self._at)]
        return np.pad(heard, ((0, stop - start - len(heard)), (0, 0)))
