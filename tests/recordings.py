"""Recordings whose frames say which frame they are, so that a shift by one cannot hide."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from worldgen.actions import ActionMap
from worldgen.data.recording import RecordingInfo, RecordingWriter

HEIGHT, WIDTH = 48, 64
WALK = ActionMap.discrete(["left", "stay", "right"], [("left",), (), ("right",)])


def coded_frame(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(h, w, 3) uint8 with `number` in ten vertical bars, below a strip that differs from frame to frame."""
    frame = np.zeros((height, width, 3), np.uint8)
    bars = np.arange(width) * 10 // width
    frame[:] = np.where((number >> bars) & 1, 230, 20)[None, :, None]
    frame[: height // 4] = (number * 37) % 256
    return frame


def number_of(frame: np.ndarray) -> int:
    """The number in a coded frame of any size."""
    height, width, _ = frame.shape
    middle = frame[height // 2 :].mean(axis=(0, 2))
    centres = ((np.arange(10) + 0.5) * width / 10).astype(int)
    return int(((middle[centres] > 125) << np.arange(10)).sum())


def game_frames(n: int, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """(n, h, w, 3) uint8: tiles that scroll behind a moving square."""
    rng = np.random.default_rng(seed)
    tiles = rng.integers(0, 256, (height // 8 + 1, (width + n) // 8 + 2, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    frames = np.stack([tiles[:height, t : t + width] for t in range(n)])
    for t in range(n):
        y, x = (2 * t) % (height - 8), (3 * t) % (width - 8)
        frames[t, y : y + 8, x : x + 8] = (250, 40, 40)
    return frames


def record(path: Path, n: int = 40, fps: float = 30, first: int = 0, sample_rate: int | None = None) -> np.ndarray:
    """An episode of n coded frames numbered from first; a random walk over WALK. Returns its actions (n,)."""
    actions = np.random.default_rng(first + n).integers(3, size=n)
    with RecordingWriter(path, RecordingInfo(fps, WALK, "test"), sample_rate=sample_rate) as writer:
        for t in range(n):
            sound = None
            if sample_rate is not None:
                sound = np.full((round(sample_rate / fps), 1), first + t, np.int16)
            writer.write(coded_frame(first + t), sound, {"number": first + t})
            writer.act(int(actions[t]), reward=float(t), terminated=t == n - 2)
    return actions


def write_video(
    path: Path,
    frames: list[np.ndarray] | np.ndarray,
    times_ms: list[int] | None = None,
    fps: int = 30,
    codec: str = "libx264",
    muxer: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    sound: np.ndarray | list[tuple[int, np.ndarray]] | None = None,
    sound_at_ms: int = 0,
    sample_rate: int = 48000,
) -> None:
    """A video that worldgen did not write: any timestamps, muxer options, sound (samples,) int16 that starts late, or
    such pieces, each with the sample it begins at."""
    with av.open(str(path), "w", container_options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"g": "12", "crf": "10", **(options or {})} if codec == "libx264" else options or {}
        stream.codec_context.time_base = Fraction(1, 1000)
        audio = None
        if sound is not None:
            audio = container.add_stream("flac" if path.suffix == ".mkv" else "aac", rate=sample_rate, layout="mono")
        for i, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = times_ms[i] if times_ms else round(i * 1000 / fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if audio is not None:
            pieces = sound if isinstance(sound, list) else [(sound_at_ms * sample_rate // 1000, sound)]
            for first, piece in pieces:
                for i in range(0, len(piece), 1024):
                    block = av.AudioFrame.from_ndarray(piece[None, i : i + 1024], format="s16", layout="mono")
                    block.sample_rate, block.pts = sample_rate, first + i
                    container.mux(audio.encode(block))
            container.mux(audio.encode(None))


def remux(source: Path, target: Path, change: Callable[[int, av.Packet], list[av.Packet]]) -> None:
    """Copies the video packets of a file; change(i, packet) gives what to write for the i-th."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.size]
        for i, packet in enumerate(packets):
            for kept in change(i, packet):
                kept.stream = stream
                new.mux(kept)
