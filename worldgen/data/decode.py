"""Reading video files that may be damaged, truncated or of variable frame rate.

    facts = probe(path)                                   # counts by demuxing; headers are not believed
    for row, frame in read_frames(path, 15, 64, 48): ...  # row: the source frame (sidecar row) on screen at i / 15 s
    sound = read_sound(path, 24000)                       # (samples, channels) int16 from the first frame's instant

Every packet is decoded on its own: one that fails costs the frames up to the next keyframe, never the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter

from worldgen.errors import InputError

STANDARD_RATES = tuple(
    Fraction(*r)
    for r in [(10, 1), (12, 1), (15, 1), (20, 1), (24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (35, 1)]
    + [(50, 1), (60000, 1001), (60, 1), (120, 1), (144, 1), (240, 1)]
)
# SMPTE 2084 (PQ) and ARIB STD-B67 (HLG): brightness curves that look washed out when taken for plain video
HDR_CURVES = {16: "HDR10 (PQ)", 18: "HLG"}
ASPECT_TOLERANCE = 0.02
MAX_HOLES = 0.02
# a picture that stands for longer is a damaged timestamp, which could ask for millions of held frames
MAX_STILL_SECONDS = 60


@dataclass
class VideoNotes:
    """What reading a file met: shown by `worldgen check`."""

    notes: list[str] = field(default_factory=list)
    num_bad_packets: int = 0
    num_decoded: int = 0

    def add(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


@dataclass(frozen=True)
class VideoFacts:
    """What a video file really holds, found by reading its packets.

    fps: frames a second; of a variable rate, one over the median distance.
    times: (n,) float64, seconds from the first frame, increasing; on the exact grid when the rate is constant.
    rows: (n,) int64, which frame of the recording (row of the sidecar) each one is. Skips the frames that were lost.
    width, height, aspect: as displayed, after rotation and with the pixel's shape.
    origin: the instant of the first frame on the file's own clock, seconds. pts, time_base: that clock.
    is_cut_off: the file ends before it says it does. is_unfinished: it does not say, as it was never closed.
    is_start_lost: the first frame here is not the file's first.
    """

    fps: float
    width: int
    height: int
    aspect: float
    times: np.ndarray
    rows: np.ndarray
    is_constant_rate: bool
    is_cut_off: bool
    is_unfinished: bool
    is_start_lost: bool
    has_sound: bool
    sample_rate: int | None
    num_audio_tracks: int
    rotation: int
    notes: tuple[str, ...]
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
        by_time = np.round(self.times * self.fps).astype(np.int64)
        is_nearer = abs(num_rows - int(by_time[-1]) - 1) < abs(num_rows - self.num_frames)
        return replace(self, rows=by_time if is_nearer else np.arange(self.num_frames))


def probe(path: Path, fps_hint: float | None = None) -> VideoFacts:
    """Demuxes the whole file and decodes its first picture. fps_hint: what the recorder says, believed where it fits.
    Raises InputError with the reason when there is no video in it that can be decoded."""
    path = Path(path)
    with _open(path) as container:
        stream = _video_stream(container, path)
        pts, is_broken = [], False
        for packet in _packets(container, stream):
            if packet is None:
                is_broken = True
            elif packet.size and not packet.is_discard and not _is_hidden(packet, stream):
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is not None:
                    pts.append(stamp)
        time_base = stream.time_base
        claimed = _claimed_seconds(container, stream)
        rates = [stream.average_rate, stream.guessed_rate]
        audio = container.streams.audio
        sample_rate = audio[0].rate if audio else None
        num_audio_tracks = len(audio)
        pixel_shape = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or Fraction(1)
    if not pts:
        raise InputError(f"{path}: the video track holds no frames")
    stamps = np.unique(np.array(pts, np.int64))
    first_kept, last_kept = _longest_run(stamps, MAX_STILL_SECONDS / float(time_base))
    num_kept, num_stamps = last_kept - first_kept, len(stamps)
    stamps = stamps[first_kept:last_kept]
    seconds = (stamps - stamps[0]) * float(time_base)
    fps, offset, times = _fit_rate(seconds, [fps_hint, *rates], float(time_base))
    first = _first_frame(path)
    if first.color_trc in HDR_CURVES:
        kind = HDR_CURVES[first.color_trc]
        raise InputError(f"{path}: {kind} video; convert it to ordinary (SDR) video with tone mapping first")
    rotation = round(first.rotation / 90) % 4
    aspect = first.width / first.height * float(pixel_shape)
    width, height = first.width, first.height
    if rotation % 2:
        width, height, aspect = height, width, 1 / aspect
    notes = []
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
    end = seconds[-1] + 1 / fps
    is_cut_off = is_broken or (claimed is not None and claimed > end + max(2 / fps, 0.1))
    if num_kept < num_stamps:
        notes.append(
            f"timestamps jump by over {MAX_STILL_SECONDS} s: only the longest stretch is used, {num_kept} of "
            f"{num_stamps} frames"
        )
    if claimed is None:
        notes.append("no length in its header: never closed, or written live")
    return VideoFacts(
        fps=fps,
        width=width,
        height=height,
        aspect=aspect,
        times=seconds if times is None else times,
        rows=np.arange(len(stamps)) if times is None else _rows_by_time(times, fps),
        is_constant_rate=times is not None,
        is_cut_off=is_cut_off,
        is_unfinished=claimed is None,
        is_start_lost=first_kept > 0,
        has_sound=bool(num_audio_tracks),
        sample_rate=sample_rate,
        num_audio_tracks=num_audio_tracks,
        rotation=rotation,
        notes=tuple(notes),
        pts=stamps,
        time_base=time_base,
        origin=float(stamps[0] * time_base) + offset,
    )


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
    to_rgb = _Converter(facts, width, height, notes)
    shown: tuple[int, av.VideoFrame] | None = None
    picture: np.ndarray | None = None
    i = 0
    for position, frame in decode(path, facts, notes):
        if shown is None:
            shown = position, frame  # where the first frames are lost, the first that is not is held backwards
        if position <= shown[0] and shown[1] is not frame:
            continue
        while i < len(wanted) and wanted[i] < position:
            picture = to_rgb(shown[1]) if picture is None else picture
            row = int(facts.rows[shown[0]])
            yield row, picture, row != wanted_rows[i]
            i += 1
        if shown[1] is not frame:
            shown, picture = (position, frame), None
    if shown is None:
        raise InputError(f"{path}: no frame of it can be decoded")
    for j in range(i, len(wanted)):
        picture = to_rgb(shown[1]) if picture is None else picture
        row = int(facts.rows[shown[0]])
        yield row, picture, row != wanted_rows[j]


def decode(path: Path, facts: VideoFacts, notes: VideoNotes) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yields (position in facts, picture) of every frame that decodes, in order."""
    with _open(path) as container:
        stream = _video_stream(container, path)
        is_waiting = False  # for a keyframe, after an error
        for packet in _packets(container, stream):
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
                if position < 0:
                    continue
                if frame.is_corrupt:
                    notes.num_bad_packets += 1
                # a frame after a lost one is drawn over the wrong picture, and no decoder says so
                is_hole_before = position > 0 and facts.rows[position] > facts.rows[position - 1] + 1
                is_waiting = is_waiting or frame.is_corrupt or is_hole_before
                if frame.is_corrupt or (is_waiting and not frame.key_frame):
                    continue
                is_waiting = False
                notes.num_decoded += 1
                yield position, frame


def read_sound(
    path: Path, sample_rate: int | None = None, channels: int | None = None, facts: VideoFacts | None = None
) -> np.ndarray | None:
    """The first audio track -> (samples, channels) int16, sample 0 at the instant of the first frame; silence where it
    starts later or packets are lost; little of what follows the last frame. sample_rate, channels (1 or 2): None keeps
    the track's. None without a track."""
    facts = facts if facts is not None else probe(path)
    with _open(path) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        rate = stream.rate
        channels = channels or min(2, stream.channels)
        # one or two channels are taken as they are, more are mixed to stereo
        num_decoded = min(2, stream.channels)
        to_int16 = av.AudioResampler(format="s16", layout="stereo" if num_decoded == 2 else "mono", rate=rate)
        pieces: list[np.ndarray] = []
        length, is_placed = 0, False
        for packet in _packets(container, stream):
            try:
                blocks = [] if packet is None else [(b, to_int16.resample(b)) for b in packet.decode()]
            except (av.FFmpegError, ValueError):
                continue
            for block, converted in blocks:
                sound = _samples(converted, num_decoded)
                start = length
                if block.pts is not None:
                    start = round((float(block.pts * block.time_base) - facts.origin) * rate)
                if start > (facts.seconds + 1) * rate:  # after the last frame, or a damaged timestamp
                    continue
                # mkv counts milliseconds, so only a real hole moves a later block
                if not is_placed or abs(start - length) > 0.04 * rate:
                    sound = sound[max(0, length - start) :]
                    pieces.append(np.zeros((max(0, start - length) if len(sound) else 0, num_decoded), np.int16))
                    length += len(pieces[-1])
                pieces.append(sound)
                length += len(sound)
                is_placed = is_placed or len(sound) > 0
    sound = np.concatenate(pieces) if pieces else np.zeros((0, num_decoded), np.int16)
    if channels < num_decoded:
        sound = sound.mean(axis=1, keepdims=True).astype(np.int16)
    elif channels > num_decoded:
        sound = sound.repeat(2, axis=1)
    return sound if sample_rate in (None, rate) else _change_rate(sound, rate, sample_rate)


def _samples(blocks: list[av.AudioFrame], channels: int) -> np.ndarray:
    parts = [b.to_ndarray().reshape(-1, channels) for b in blocks]
    return np.concatenate(parts) if parts else np.zeros((0, channels), np.int16)


def _change_rate(sound: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """(samples, channels) int16 at rate -> at wanted, as long in seconds."""
    layout = "stereo" if sound.shape[1] == 2 else "mono"
    resampler = av.AudioResampler(format="s16", layout=layout, rate=wanted)
    parts = []
    for i in range(0, len(sound), 1 << 16):
        piece = np.ascontiguousarray(sound[i : i + (1 << 16)]).reshape(1, -1)
        block = av.AudioFrame.from_ndarray(piece, format="s16", layout=layout)
        block.sample_rate, block.pts, block.time_base = rate, i, Fraction(1, rate)
        parts.append(_samples(resampler.resample(block), sound.shape[1]))
    parts.append(_samples(resampler.resample(None), sound.shape[1]))
    return np.concatenate(parts)


class _Converter:
    """Pictures of any size and pixel format -> (height, width, 3) uint8, rotated as the file says."""

    def __init__(self, facts: VideoFacts, width: int, height: int, notes: VideoNotes):
        self._quarter_turns = facts.rotation
        self._width, self._height = (height, width) if facts.rotation % 2 else (width, height)
        self._size: tuple[int, int] | None = None
        self._notes = notes
        self._reformatter = VideoReformatter()

    def __call__(self, picture: av.VideoFrame) -> np.ndarray:
        size = picture.width, picture.height
        if self._size is not None and size != self._size:
            self._notes.add(f"the picture's size changes inside the file, from {self._size} to {size}")
        self._size = size
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


def _open(path: Path) -> Any:
    """An open container; InputError with the reason where there is none."""
    try:
        if not path.stat().st_size:
            raise InputError(f"{path}: the file is empty")
        name = str(path)
        try:
            name.encode()
        except UnicodeEncodeError:  # a name that is not UTF-8 cannot be handed to ffmpeg
            return av.open(path.open("rb"), metadata_errors="replace")
        return av.open(name, metadata_errors="replace")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (av.FFmpegError, OSError) as error:
        if path.suffix.lower() in (".mp4", ".mov") and isinstance(error, av.InvalidDataError) and _is_mp4(path):
            raise InputError(
                f"{path}: its index (moov) is missing, so the recording was cut off and no player can read it; "
                "record to .mkv, or to OBS's hybrid mp4, which survive that"
            ) from None
        raise InputError(f"{path}: cannot be opened as video ({error.strerror or error})") from None


def _is_mp4(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(12)[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free")


def _video_stream(container: Any, path: Path) -> Any:
    # a cover picture is a video track of one frame
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise InputError(f"{path}: no video track")
    stream = streams[0]
    if stream.codec_context is None:
        raise InputError(f"{path}: its video codec is not known to this PyAV")
    # one thread: with more, an error names the wrong packet
    stream.codec_context.thread_count = 1
    return stream


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream, the empty one that flushes the decoder last; None where the container is damaged."""
    failures = 0
    while failures < 4:
        try:
            for packet in container.demux(stream):
                failures = 0
                yield packet
            return
        except (av.FFmpegError, OSError):
            failures += 1
            if failures == 1:
                yield None


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
    with _open(path) as container:
        stream = _video_stream(container, path)
        for packet in _packets(container, stream):
            try:
                for frame in packet.decode() if packet is not None else ():
                    return frame
            except (av.FFmpegError, ValueError):
                continue
    raise InputError(f"{path}: no frame of it can be decoded")


def _fit_rate(seconds: np.ndarray, rates: list[Any], tick: float) -> tuple[float, float, np.ndarray | None]:
    """Timestamps -> (fps, offset, exact times) where they follow a constant rate, jitter and lost frames allowed; the
    rate began `offset` after the first timestamp. Else (fps, 0, None)."""
    if len(seconds) < 2:
        return float(next((r for r in rates if r), 30)), 0.0, np.zeros(1)
    step = float(np.median(np.diff(seconds)))
    mean = (len(seconds) - 1) / seconds[-1]
    best: tuple[float, float, float, np.ndarray] | None = None
    for rate in [*rates, *STANDARD_RATES, mean, 1 / step]:
        if not rate or abs(float(rate) * step - 1) > 0.1:
            continue
        rate = float(rate)
        grid = np.round(seconds * rate)
        late = seconds - grid / rate
        # the first frame may be the one that is off
        offset = 0.0 if np.abs(late).max() <= tick else float(late.max() + late.min()) / 2
        error = float(np.abs(late - offset).max())
        # two frames on one instant are not that rate; a rate that fits to the file's tick needs no better one
        if (np.diff(grid) < 1).any() or error > 0.3 / rate:
            continue
        if best is None or error < best[0] - tick:
            best = error, rate, offset, grid
        if error <= tick:
            break
    if best is None:
        rate = 1 / step
        nearest = min(STANDARD_RATES, key=lambda r: abs(float(r) - rate))
        return float(nearest) if abs(float(nearest) / rate - 1) < 0.02 else rate, 0.0, None
    _, rate, offset, grid = best
    return rate, offset, grid / rate


def _longest_run(stamps: np.ndarray, max_step: float) -> tuple[int, int]:
    """The slice of sorted stamps with the most of them and no step above max_step."""
    edges = np.concatenate([[0], np.flatnonzero(np.diff(stamps) > max_step) + 1, [len(stamps)]])
    longest = int(np.argmax(np.diff(edges)))
    return int(edges[longest]), int(edges[longest + 1])


def _rows_by_time(times: np.ndarray, fps: float) -> np.ndarray:
    """A few holes in a constant rate are lost frames. Many are a recorder that leaves still frames out."""
    rows = np.round(times * fps).astype(np.int64)
    num_holes = int((np.diff(rows) > 1).sum())
    return rows if num_holes <= max(1, MAX_HOLES * len(rows)) else np.arange(len(rows))


def _schedule(facts: VideoFacts, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """For each output instant: the position in facts of the frame on screen, and the row that belongs there."""
    slack = 1e-4 if facts.is_constant_rate else max(1e-4, float(facts.time_base) / 2)
    num_outputs = max(1, int(np.ceil(facts.seconds * fps - 0.01)))
    instants = np.arange(num_outputs) / fps + slack
    positions = np.searchsorted(facts.times, instants, side="right") - 1
    rows = facts.rows[positions]
    if facts.rows[-1] >= facts.num_frames:  # placed by time: packets are missing
        rows = np.minimum((instants * facts.fps).astype(np.int64), facts.rows[-1])
    return positions, rows
