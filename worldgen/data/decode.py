"""Reading the frames of video files that may be damaged, truncated or of variable frame rate.

    for row, frame in read_frames(path, 15, 64, 48): ...  # row: the source frame (sidecar row) on screen at i / 15 s

Every packet is decoded on its own: one that fails costs the frames up to the next keyframe, never the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from worldgen.data.container import open_container, packets, video_stream
from worldgen.data.probe import ASPECT_TOLERANCE, VideoFacts, probe
from worldgen.errors import InputError


@dataclass
class VideoNotes:
    """What reading a file met: shown by `worldgen check`."""

    notes: list[str] = field(default_factory=list)
    num_bad_packets: int = 0
    num_decoded: int = 0
    size: tuple[int, int] | None = None

    def add(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def see_size(self, picture: av.VideoFrame) -> None:
        size = picture.width, picture.height
        if self.size is not None and size != self.size:
            self.add(f"the picture's size changes inside the file, from {self.size} to {size}: all are scaled to one")
        self.size = size


def read_frames(
    path: Path, fps: float, width: int, height: int, notes: VideoNotes | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Decodes packet by packet and resamples by timestamp to `fps`, holding the last frame.

    Yields (row, frame) for the instants 0, 1 / fps, 2 / fps, ... from the first frame: row is the source frame that is
    on screen then, frame (height, width, 3) uint8 area-averaged. Raises InputError when the file cannot be opened or
    holds no video.
    """
    for row, frame, _ in resample(path, probe(path), fps, width, height, notes):
        yield row, frame


def resample(
    path: Path,
    facts: VideoFacts,
    fps: float,
    width: int,
    height: int,
    notes: VideoNotes | None = None,
    show_last: bool = False,
) -> Iterator[tuple[int, np.ndarray, bool]]:
    """read_frames with the file's facts at hand. Yields (row, frame, is_missing): is_missing where the frame that
    belongs there was lost and another is held. show_last: one more output where the last frame falls between two."""
    notes = notes if notes is not None else VideoNotes()
    if abs(facts.aspect * height / width - 1) > ASPECT_TOLERANCE:
        notes.add(f"stretched from {facts.aspect:.3f}:1 to {width}x{height}")
    wanted, wanted_rows = _schedule(facts, fps)
    if show_last and wanted_rows[-1] != facts.rows[-1]:
        wanted = np.append(wanted, facts.num_frames - 1)
        wanted_rows = np.append(wanted_rows, facts.rows[-1])
    to_rgb = Converter(facts, width, height, notes)

    def row_of(i: int, position: int) -> int:
        """A picture that stands still goes through the rows of all its instants."""
        is_still = position == wanted[i] and not facts.has_lost_frames
        return int(wanted_rows[i] if is_still else facts.rows[position])

    shown: tuple[int, av.VideoFrame] | None = None
    picture: np.ndarray | None = None
    i = 0
    for position, frame in decode(path, facts, notes):
        if shown is None:
            shown = position, frame  # where the first frames are lost, the first that is not is held backwards
        while i < len(wanted) and wanted[i] < position:
            picture = to_rgb(shown[1]) if picture is None else picture
            row = row_of(i, shown[0])
            yield row, picture, row != wanted_rows[i]
            i += 1
        if shown[1] is not frame:
            shown, picture = (position, frame), None
    if shown is None:
        raise InputError(f"{path}: no frame of it can be decoded")
    for j in range(i, len(wanted)):
        picture = to_rgb(shown[1]) if picture is None else picture
        row = row_of(j, shown[0])
        yield row, picture, row != wanted_rows[j]


def decode(path: Path, facts: VideoFacts, notes: VideoNotes) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yields (position in facts, picture) of every frame that decodes, in order."""
    with open_container(path) as container:
        stream = video_stream(container, path)
        is_waiting = False  # for a keyframe, after an error
        last = -1
        for packet in packets(container, stream):
            try:
                frames = [] if packet is None else packet.decode()
            except (av.FFmpegError, ValueError):
                frames = []
                packet = None
            if packet is None:
                notes.num_bad_packets += 1
                is_waiting = True
            for frame in frames:
                stamp = frame.pts if frame.pts is not None else frame.dts
                position = int(np.searchsorted(facts.pts, stamp, side="right")) - 1 if stamp is not None else -1
                # times that run back, and what a file that is still written to has gained since it was probed
                if position <= last or stamp > facts.pts[-1]:
                    continue
                if frame.is_corrupt:
                    notes.num_bad_packets += 1
                # a frame after a lost one is drawn over the wrong picture, and no decoder says so
                is_wrong = facts.is_wrong is not None and facts.is_wrong[position]
                is_hole_before = position > 0 and facts.rows[position] > facts.rows[position - 1] + 1
                is_guessed = facts.is_wrong is None and facts.has_lost_frames and is_hole_before
                is_waiting = is_waiting or frame.is_corrupt or is_guessed
                if frame.is_corrupt or is_wrong or (is_waiting and not frame.key_frame):
                    continue
                is_waiting, last = False, position
                notes.num_decoded += 1
                yield position, frame


class Converter:
    """Pictures of any size and pixel format -> (height, width, 3) uint8, rotated as the file says."""

    def __init__(self, facts: VideoFacts, width: int, height: int, notes: VideoNotes):
        self._quarter_turns = facts.rotation
        self._width, self._height = (height, width) if facts.rotation % 2 else (width, height)
        self._notes = notes
        self._reformatter = VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> np.ndarray:
        self._notes.see_size(picture)
        is_smaller = self._width <= picture.width and self._height <= picture.height
        scaling = Interpolation.AREA if is_smaller else Interpolation.BICUBIC
        # an untagged picture is BT.601 when small and BT.709 when HD: what encoders and players agree on
        is_untagged_hd = picture.colorspace == 2 and picture.height >= 720
        rgb = self._reformatter.reformat(
            picture,
            self._width,
            self._height,
            "rgb24",
            src_colorspace=Colorspace.ITU709 if is_untagged_hd else None,
            interpolation=scaling | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
            threads=1,
        ).to_ndarray()
        return np.ascontiguousarray(np.rot90(rgb, self._quarter_turns)) if self._quarter_turns else rgb


def _schedule(facts: VideoFacts, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """For each output instant: the position in facts of the frame on screen, and the row that belongs there."""
    slack = 1e-4 if facts.is_constant_rate else max(1e-4, float(facts.time_base) / 2)
    num_outputs = max(1, int(np.ceil(facts.seconds * fps - 0.01)))
    instants = np.arange(num_outputs) / fps + slack
    positions = np.searchsorted(facts.times, instants, side="right") - 1
    rows = facts.rows[positions]
    if facts.rows[-1] >= facts.num_frames:  # placed by time: frames are missing
        rows = np.minimum((instants * facts.fps).astype(np.int64), facts.rows[-1])
    return positions, rows
