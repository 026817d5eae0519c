"""Writing video files through PyAV: recordings for training and clips for people. The reader is decode.py."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from worldgen.data.container import CLEANED_FROM
from worldgen.errors import InputError


def as_rate(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(1001)


# what AAC encodes; a clip with another rate (the Atari's 30,720 Hz) is resampled
AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)


class VideoWriter:
    """Writes frames and their sound.

    A .mkv is a recording: H.264 4:4:4, crf 8 (qmax 12), GOP 20, no B-frames, FLAC. A .mp4 is a clip for people: 4:2:0,
    AAC, and `scale` enlarges each pixel (nearest).
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        fps: float,
        *,
        sample_rate: int | None = None,
        channels: int = 1,
        scale: int = 1,
        cleaned_from: str = "",
    ):
        """cleaned_from: checksum of the recording that this is a cleaned one of"""
        self._container: Any = None
        self._is_clip = Path(path).suffix == ".mp4"
        self._scale = scale
        # without flushing, ffmpeg keeps up to 5 s of a recording in memory and a killed one is an empty file
        how = {"movflags": "+faststart"} if self._is_clip else {"flush_packets": "1", "cluster_time_limit": "500"}
        try:
            self._container = av.open(str(path), "w", container_options=how)
        except (OSError, av.FFmpegError) as error:
            raise InputError(f"cannot write {path}: {error}") from None
        if cleaned_from:
            self._container.metadata[CLEANED_FROM] = cleaned_from
        rate = as_rate(fps)
        self._stream: Any = self._container.add_stream("libx264", rate=rate)
        self._stream.width, self._stream.height = width * scale, height * scale
        if self._is_clip:
            # 4:2:0 needs even sides
            self._stream.width += self._stream.width % 2
            self._stream.height += self._stream.height % 2
            self._stream.pix_fmt = "yuv420p"
            self._stream.options = {"crf": "16", "preset": "veryfast"}
        else:
            self._stream.pix_fmt = "yuv444p"
            # crf alone gives less to each frame the more there are: 38 dB for Doom's worst at 60 fps; qmax 12 keeps 42
            quality = {"crf": "8", "qmax": "12", "preset": "veryfast"}
            self._stream.options = {**quality, "bf": "0", "g": "20", "threads": "1"}
        self._stream.codec_context.time_base = 1 / rate
        self._num_frames = 0
        self._audio: Any = None
        if sample_rate is not None:
            layout = "stereo" if channels == 2 else "mono"
            codec = "aac" if self._is_clip else "flac"
            file_rate = sample_rate if not self._is_clip or sample_rate in AAC_RATES else 48_000
            self._sample_rate = sample_rate
            self._audio = self._container.add_stream(codec, rate=file_rate, layout=layout)
            self._audio.codec_context.time_base = Fraction(1, file_rate)
            # flac takes s16 packed frames, aac planar floats; any frame size in, the encoder's own out
            self._resampler = av.AudioResampler(
                format=self._audio.codec_context.format.name, layout=layout, rate=file_rate
            )
            self._fifo = av.AudioFifo()
            self._num_samples = 0

    def write(self, frame: np.ndarray, sound: np.ndarray | None = None) -> None:
        """frame (h, w, 3) uint8; sound (samples, channels) int16 or float in [-1, 1], None is silence."""
        if self._scale > 1:
            frame = frame.repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        pad_h, pad_w = self._stream.height - frame.shape[0], self._stream.width - frame.shape[1]
        if pad_h or pad_w:
            frame = np.pad(frame, ((0, pad_h), (0, pad_w), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture.pts, picture.time_base = self._num_frames, self._stream.codec_context.time_base
        self._num_frames += 1
        for packet in self._stream.encode(picture):
            self._container.mux(packet)
        if self._audio is not None:
            if sound is None:
                end = round(self._num_frames * self._sample_rate / self._stream.codec_context.framerate)
                sound = np.zeros((max(0, end - self._num_samples), self._audio.channels), np.int16)
            if len(sound):
                self._write_sound(sound)

    def _write_sound(self, sound: np.ndarray) -> None:
        if sound.dtype != np.int16:
            sound = (np.clip(sound, -1, 1) * 32767).astype(np.int16)
        samples, channels = sound.shape
        block = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(sound.reshape(1, -1)), format="s16", layout="stereo" if channels == 2 else "mono"
        )
        block.sample_rate = self._sample_rate
        block.pts, block.time_base = self._num_samples, Fraction(1, self._sample_rate)
        self._num_samples += samples
        for converted in self._resampler.resample(block):
            self._fifo.write(converted)
        self._drain(self._audio.codec_context.frame_size or 1024)

    def _drain(self, size: int, partial: bool = False) -> None:
        while (block := self._fifo.read(size, partial)) is not None:
            for packet in self._audio.encode(block):
                self._container.mux(packet)
            if partial:
                break

    def close(self) -> None:
        if self._container is None:
            return
        if self._audio is not None and self._num_samples:
            for converted in self._resampler.resample(None):
                self._fifo.write(converted)
            self._drain(0, partial=True)
            for packet in self._audio.encode(None):
                self._container.mux(packet)
        for packet in self._stream.encode(None):
            self._container.mux(packet)
        self._container.close()
        self._container = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
