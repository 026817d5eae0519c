"""The sound of a video file, in place from its first frame on.

sound = read_sound(path, 24000)  # (samples, channels) int16 from the first frame's instant
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from worldgen.data.container import audio_streams, open_container, packets
from worldgen.data.probe import VideoFacts, probe


def read_sound(
    path: Path, sample_rate: int | None = None, channels: int | None = None, facts: VideoFacts | None = None
) -> np.ndarray | None:
    """The first audio track -> (samples, channels) int16, sample 0 at the instant of the first frame; silence where it
    starts later or packets are lost; little of what follows the last frame. sample_rate, channels (1 or 2): None keeps
    the track's. None without a track."""
    facts = facts if facts is not None else probe(path)
    if not facts.has_sound:
        return None
    blocks = list(sound_blocks(path, sample_rate, channels, facts))
    return np.concatenate(blocks) if blocks else np.zeros((0, channels or 1), np.int16)


def sound_blocks(
    path: Path, sample_rate: int | None = None, channels: int | None = None, facts: VideoFacts | None = None
) -> Iterator[np.ndarray]:
    """read_sound in pieces end to end, so that a day of sound needs no more memory than a second."""
    facts = facts if facts is not None else probe(path)
    blocks, rate = _placed_blocks(path, facts), facts.sample_rate
    if channels is not None:
        blocks = (_change_channels(block, channels) for block in blocks)
    return blocks if sample_rate in (None, rate) or not rate else _change_rate(blocks, rate, sample_rate)


def _placed_blocks(path: Path, facts: VideoFacts) -> Iterator[np.ndarray]:
    with open_container(path) as container:
        tracks = audio_streams(container)
        if not tracks:
            return
        stream = tracks[0]
        rate = stream.rate
        # one or two channels are taken as they are, more are mixed to stereo
        num_decoded = min(2, stream.channels)
        to_int16 = av.AudioResampler(format="s16", layout="stereo" if num_decoded == 2 else "mono", rate=rate)
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
                    gap = max(0, start - length) if len(sound) else 0
                    length += gap
                    while gap:
                        yield np.zeros((min(gap, 1 << 20), num_decoded), np.int16)
                        gap -= min(gap, 1 << 20)
                if len(sound):
                    yield sound
                    length += len(sound)
                    is_placed = True


def _change_channels(sound: np.ndarray, channels: int) -> np.ndarray:
    if channels < sound.shape[1]:
        return sound.mean(axis=1, keepdims=True).astype(np.int16)
    return sound.repeat(2, axis=1) if channels > sound.shape[1] else sound


def _samples(blocks: list[av.AudioFrame], channels: int) -> np.ndarray:
    parts = [b.to_ndarray().reshape(-1, channels) for b in blocks]
    return np.concatenate(parts) if parts else np.zeros((0, channels), np.int16)


def _change_rate(blocks: Iterable[np.ndarray], rate: int, wanted: int) -> Iterator[np.ndarray]:
    """(samples, channels) int16 at rate -> at wanted, as long in seconds."""
    resampler, length, num_channels = None, 0, 1
    for sound in blocks:
        num_channels = sound.shape[1]
        layout = "stereo" if num_channels == 2 else "mono"
        if resampler is None:
            resampler = av.AudioResampler(format="s16", layout=layout, rate=wanted)
        block = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound).reshape(1, -1), format="s16", layout=layout)
        block.sample_rate, block.pts, block.time_base = rate, length, Fraction(1, rate)
        length += len(sound)
        yield _samples(resampler.resample(block), num_channels)
    if resampler is not None:
        yield _samples(resampler.resample(None), num_channels)
