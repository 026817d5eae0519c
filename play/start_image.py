"""A picture or clip of one's own to start a game from: any file PyAV can open, made the world's size."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from worldgen.errors import InputError

MAX_FRAMES = 64  # of a clip, the last ones: the game goes on from its end
_TEXT_FORMATS = {"tty", "subviewer", "srt", "ass", "webvtt"}  # FFmpeg draws text files as terminal art


def load_start(path: Path, height: int, width: int, fps: float | None = None) -> np.ndarray:
    """-> (t, height, width, 3) uint8, t = 1 for a picture. fps: take that many frames a second of a clip.

    The whole picture is kept: black bars fill what its aspect leaves of the world's. Shrinking averages areas.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"--start {path}: {'a folder, not a picture or clip' if path.is_dir() else 'no such file'}")
    frames: deque[np.ndarray] = deque(maxlen=MAX_FRAMES)
    try:
        with av.open(str(path)) as container:
            if container.format.name in _TEXT_FORMATS or not container.streams.video:
                raise InputError(f"--start {path}: neither a picture nor a video")
            stream = container.streams.video[0]
            sar = stream.sample_aspect_ratio or Fraction(1)
            next_time = 0.0
            for frame in container.decode(stream):
                if fps is not None and frame.time is not None:
                    if frame.time + 1e-6 < next_time:
                        continue
                    next_time = max(next_time + 1 / fps, frame.time)
                frames.append(_letterboxed(frame, height, width, sar))
    except (OSError, av.FFmpegError) as error:
        if not frames:  # a clip cut off at its end still starts a game
            raise InputError(f"--start {path}: no picture or video ({error.strerror or error})") from None
    if not frames:
        raise InputError(f"--start {path}: holds no picture")
    return np.stack(frames)


def _letterboxed(frame: av.VideoFrame, height: int, width: int, sar: Fraction) -> np.ndarray:
    """-> (height, width, 3) uint8"""
    aspect = frame.width * (float(sar) or 1.0) / frame.height
    inner_w = max(1, min(width, round(height * aspect)))
    inner_h = max(1, min(height, round(width / aspect)))
    small = frame.reformat(width=inner_w, height=inner_h, format="rgb24", interpolation="AREA").to_ndarray()
    out = np.zeros((height, width, 3), np.uint8)
    y, x = (height - inner_h) // 2, (width - inner_w) // 2
    out[y : y + inner_h, x : x + inner_w] = small
    return out
