"""The sound of a video file, in place from its first frame on.

sound = read_sound(path, 24000)  # (samples, channels) int16 from the first frame's instant
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from worldgen.data.container import open_container, packets
from worldgen.data.probe import VideoFacts, probe


def read_sound(
    path: Path, sample_rate: int | None = None, channels: int | None = None, facts: VideoFacts | None = None
) -> np.ndarray | None:
    """The first audio track -> (samples, channels) int16, sample 0 at the instant of the first frame; silence where it
    starts later or packets are lost; little of what follows the last frame. sample_rate, channels (1 or 2): None keeps
    the track's. None without a track."""
    facts = facts if facts is not None else probe(path)
    with open_container(path) as container:
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
        for packet in packets(container, stream):
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
