"""What a video file really holds: counts and times by demuxing; headers are not believed.

facts = probe(path); print(facts.num_frames, facts.fps, facts.is_constant_rate, facts.notes)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from worldgen.data.container import audio_streams, open_container, packets, video_stream
from worldgen.data.frame_rate import fit_rate, has_few_holes, longest_run, rows_by_time
from worldgen.data.lost_packets import LostPackets
from worldgen.errors import InputError

# SMPTE 2084 (PQ) and ARIB STD-B67 (HLG): brightness curves that look washed out when taken for plain video
HDR_CURVES = {16: "HDR10 (PQ)", 18: "HLG"}
ASPECT_TOLERANCE = 0.02
# a picture that stands for longer is a damaged timestamp, which could ask for millions of held frames
MAX_STILL_SECONDS = 60
# pictures that are stored before those that they follow are at most 16 apart
MAX_REORDER_SECONDS, MAX_REORDER_FRAMES = 1.0, 16


@dataclass(frozen=True)
class VideoFacts:
    """What a video file really holds, found by reading its packets.

    fps: frames a second; of a variable rate, one over the median distance.
    times: (n,) float64, seconds from the first frame, increasing; on the exact grid when the rate is constant.
    rows: (n,) int64, which frame of the recording (row of the sidecar) each one is. Skips the frames that were lost.
    has_lost_frames: where rows skip, frames were lost. Else the recorder left them out, and the picture before stood
        still.
    is_wrong: (n,) bool, the frames that are drawn over a lost one, where the codec tells (H.264). None where it does
        not: with lost frames, all from where rows skip to the next keyframe.
    width, height, aspect: as displayed, after rotation and with the pixel's shape.
    origin: the instant of the first frame on the file's own clock, seconds. pts, time_base: that clock.
    is_cut_off: the file ends before it says it does. is_unfinished: it does not say, as it was never closed.
    is_start_lost: the first frame here is not the file's first. is_out_of_order: its timestamps run back.
    notes: what a person should know. repairs: what was left out.
    """

    fps: float
    width: int
    height: int
    aspect: float
    times: np.ndarray
    rows: np.ndarray
    is_constant_rate: bool
    has_lost_frames: bool
    is_wrong: np.ndarray | None
    is_cut_off: bool
    is_unfinished: bool
    is_start_lost: bool
    is_out_of_order: bool
    has_sound: bool
    sample_rate: int | None
    num_audio_tracks: int
    rotation: int
    notes: tuple[str, ...]
    repairs: tuple[str, ...]
    pts: np.ndarray
    time_base: Fraction
    origin: float

    @property
    def num_frames(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> float:
        return float(self.times[-1]) + 1 / self.fps

    def with_rows(self, num_rows: int) -> VideoFacts:
        """The same file beside a sidecar of num_rows: where the rows count the instants of a constant rate rather than
        the packets that survived, each frame is placed by its time."""
        if not self.is_constant_rate:
            return self
        by_time = rows_by_time(self.times, self.fps)
        is_nearer = abs(num_rows - int(by_time[-1]) - 1) < abs(num_rows - self.num_frames)
        return replace(self, rows=by_time if is_nearer else np.arange(self.num_frames))


def probe(path: Path, fps_hint: float | None = None) -> VideoFacts:
    """Demuxes the whole file and decodes its first picture. fps_hint: what the recorder says, believed where it fits.
    Raises InputError with the reason when there is no video in it that can be decoded."""
    path = Path(path)
    with open_container(path) as container:
        stream = video_stream(container, path)
        pts, is_broken = [], False
        lost = LostPackets(stream.codec_context)
        for packet in packets(container, stream):
            if packet is None:
                is_broken = True
            elif packet.size and not packet.is_discard and not _is_hidden(packet, stream):
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is not None:
                    pts.append(stamp)
                    lost.see(packet, stamp)
        time_base = stream.time_base
        is_matroska = "matroska" in container.format.name
        claimed = _claimed_seconds(container, stream)
        rates = [stream.average_rate, stream.guessed_rate]
        audio = audio_streams(container)
        sample_rate = audio[0].rate if audio else None
        num_audio_tracks = len(audio)
        pixel_shape = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
    if not pts:
        raise InputError(f"{path}: the video track holds no frames")
    stamps = np.array(pts, np.int64)
    back = float((np.maximum.accumulate(stamps) - stamps).max() * time_base)
    stamps = np.unique(stamps)
    usual = float(np.median(np.diff(stamps)) * time_base) if len(stamps) > 1 else 0.0
    is_out_of_order = back > max(MAX_REORDER_SECONDS, MAX_REORDER_FRAMES * usual)
    first_kept, last_kept = longest_run(stamps, MAX_STILL_SECONDS / float(time_base))
    num_kept, num_stamps = last_kept - first_kept, len(stamps)
    stamps = stamps[first_kept:last_kept]
    seconds = (stamps - stamps[0]) * float(time_base)
    fps, offset, times = fit_rate(seconds, [fps_hint, *rates], float(time_base))
    # mkv says when it ends on its own clock, others how long it is
    claimed_end = None if claimed is None else claimed - (float(stamps[0] * time_base) if is_matroska else 0.0)
    first = _first_frame(path)
    if first.color_trc in HDR_CURVES:
        kind = HDR_CURVES[first.color_trc]
        raise InputError(f"{path}: {kind} video; convert it to ordinary (SDR) video with tone mapping first")
    rotation = round(first.rotation / 90) % 4
    aspect = first.width / first.height * float(pixel_shape)
    width, height = first.width, first.height
    if rotation % 2:
        width, height, aspect = height, width, 1 / aspect
    notes: list[str] = []
    repairs: list[str] = []
    if times is None:
        notes.append(f"variable frame rate: about {fps:.5g} fps, resampled by timestamps")
    if rotation:
        notes.append(f"rotated by {90 * rotation} degrees as its flag says")
    if abs(aspect * height / width - 1) > ASPECT_TOLERANCE:
        notes.append(f"pixels are not square: shown at {aspect:.3f}:1")
    if first.interlaced_frame:
        notes.append("interlaced: fields are not separated, moving edges show combs")
    if num_audio_tracks > 1:
        notes.append(f"{num_audio_tracks} audio tracks: the first is used")
    by_time = np.arange(len(stamps)) if times is None else rows_by_time(times, fps)
    has_lost_frames, is_wrong = has_few_holes(by_time), None
    if lost.is_known:
        has_lost_frames, is_wrong = lost.find(stamps, by_time)
    end = seconds[-1] + 1 / fps
    is_cut_off = is_broken or (claimed_end is not None and claimed_end > end + max(2 / fps, 0.1))
    if num_kept < num_stamps:
        repairs.append(
            f"timestamps jump by over {MAX_STILL_SECONDS} s: only the longest stretch is used, {num_kept} of "
            f"{num_stamps} frames"
        )
    if is_out_of_order:
        repairs.append(f"timestamps run back by {back:.2f} s: what comes again is left out")
    if any(component.is_alpha for component in first.format.components):
        notes.append("transparency is left out")
    if claimed is None:
        notes.append("no length in its header: never closed, or written live")
    return VideoFacts(
        fps=fps,
        width=width,
        height=height,
        aspect=aspect,
        times=seconds if times is None else times,
        rows=by_time if has_lost_frames else np.arange(len(stamps)),
        is_constant_rate=times is not None,
        has_lost_frames=has_lost_frames,
        is_wrong=is_wrong,
        is_cut_off=is_cut_off,
        is_unfinished=claimed is None,
        is_start_lost=first_kept > 0,
        is_out_of_order=is_out_of_order,
        has_sound=bool(num_audio_tracks),
        sample_rate=sample_rate,
        num_audio_tracks=num_audio_tracks,
        rotation=rotation,
        notes=tuple(notes),
        repairs=tuple(repairs),
        pts=stamps,
        time_base=time_base,
        origin=float(stamps[0] * time_base) + offset,
    )


def _is_hidden(packet: Any, stream: Any) -> bool:
    """VP8 stores reference pictures that are never shown as packets of their own."""
    return stream.codec_context.name in ("vp8", "libvpx") and not bytes(packet)[0] & 0x10


def _claimed_seconds(container: Any, stream: Any) -> float | None:
    """How long the file says its video is; None where it was never finished."""
    tag = stream.metadata.get("DURATION")
    if tag is not None:
        try:
            h, m, s = tag.split(":")
            return int(h) * 3600 + int(m) * 60 + float(s)
        except ValueError:
            pass
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def _first_frame(path: Path) -> av.VideoFrame:
    with open_container(path) as container:
        stream = video_stream(container, path)
        for packet in packets(container, stream):
            try:
                for frame in packet.decode() if packet is not None else ():
                    return frame
            except (av.FFmpegError, ValueError):
                continue
    raise InputError(f"{path}: no frame of it can be decoded")
