"""An animated GIF of a play: what a README or a chat shows by itself. It has no sound.

Its 256 colours are chosen from the first frames, so that a long play needs no more memory than a short one.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from worldgen.data.video import as_rate
from worldgen.errors import InputError

TICK = Fraction(1, 100)  # seconds: a GIF counts in these
SEEN_FRAMES = 120  # that the colours are chosen from


class GifWriter:
    """write() and close() as VideoWriter's."""

    def __init__(self, path: Path, width: int, height: int, fps: float):
        self._width, self._height, self._period = width, height, 1 / as_rate(fps)
        self._waiting: list[np.ndarray] | None = []
        self._num_frames = 0
        try:
            self._container: Any = av.open(str(path), "w", format="gif")
        except (OSError, av.FFmpegError) as error:
            raise InputError(f"cannot write {path}: {error}") from None
        self._stream: Any = self._container.add_stream("gif", rate=round(1 / TICK))
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "pal8"
        self._stream.codec_context.time_base = TICK

    def write(self, frame: np.ndarray, sound: np.ndarray | None = None) -> None:
        """frame (h, w, 3) uint8"""
        if self._waiting is None:
            self._encode(frame)
            return
        self._waiting.append(frame.copy())
        if len(self._waiting) == SEEN_FRAMES:
            self._choose_colours()

    def close(self) -> None:
        if self._waiting:
            self._choose_colours()
        if self._num_frames:
            self._mux(self._stream.encode(None))
        self._container.close()

    def _choose_colours(self) -> None:
        waiting, self._waiting = self._waiting or [], None
        self._colour_with(self._colours(waiting))
        for frame in waiting:
            self._encode(frame)

    def _colours(self, frames: list[np.ndarray]) -> Any:
        """-> 16x16 pixels of them"""
        graph = av.filter.Graph()
        last = graph.add("palettegen", "reserve_transparent=0")
        self._buffer(graph).link_to(last)
        last.link_to(graph.add("buffersink"))
        graph.configure()
        for i, frame in enumerate(frames):
            graph.push(self._picture(frame, i))
        graph.push(None)
        return graph.pull()

    def _colour_with(self, palette: Any) -> None:
        """From now on each pixel gets the nearest of these colours: dither would flicker and be large."""
        graph: Any = av.filter.Graph()
        self._graph = graph  # its filters do not keep it
        self._source = self._buffer(graph)
        colours = graph.add_buffer(width=16, height=16, format="rgb32", time_base=TICK)
        use = graph.add("paletteuse", "dither=none:diff_mode=rectangle")
        self._source.link_to(use, 0, 0)
        colours.link_to(use, 0, 1)
        self._sink = graph.add("buffersink")
        use.link_to(self._sink)
        graph.configure()
        colours.push(palette)
        colours.push(None)

    def _buffer(self, graph: Any) -> Any:
        return graph.add_buffer(width=self._width, height=self._height, format="rgb24", time_base=TICK)

    def _encode(self, frame: np.ndarray) -> None:
        self._source.push(self._picture(frame, self._num_frames))
        self._num_frames += 1
        while True:
            try:
                coloured = self._sink.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            self._mux(self._stream.encode(coloured))

    def _picture(self, frame: np.ndarray, index: int) -> av.VideoFrame:
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts, picture.time_base = round(index * self._period / TICK), TICK
        return picture

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            self._container.mux(packet)
