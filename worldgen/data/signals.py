"""What `worldgen check` looks at: small pictures, edges, and loudness of one recording, taken in one pass of
decoding."""

from __future__ import annotations

from dataclasses import dataclass

import av
import numpy as np

from worldgen.data.decode import Converter, VideoNotes, decode
from worldgen.data.ingest import Recording
from worldgen.data.sound import sound_blocks

THUMB_HEIGHT, THUMB_WIDTH = 18, 24
# of a longer recording, the rest is left out of the small pictures: 15 MB
MAX_THUMBS = 36_000
NUM_LOOKS = 48  # full pictures that are searched for black bars
NUM_SHOWN = 8
SHOWN_WIDTH = 96
DARK = 24  # black as video and its compression show it, of 255


@dataclass(frozen=True)
class Signals:
    """thumbs (m, 18, 24) uint8 grey, of the first m frames that decode; times (m,) seconds; rows (m,) int64, the
    sidecar's row of each. shown (k, h, 96, 3) uint8: pictures spread over the file. bars: rows and columns that stay
    black at the top, bottom, left and right, as displayed. rms, peak: of the sound, 0 to 1, None without; silent: share
    of its 50 ms pieces under -60 dBFS."""

    thumbs: np.ndarray
    times: np.ndarray
    rows: np.ndarray
    shown: np.ndarray
    bars: tuple[int, int, int, int]
    rms: float | None
    peak: float | None
    silent: float | None


def take_signals(recording: Recording, notes: VideoNotes) -> Signals:
    """Decodes all of a recording; notes is told what that met."""
    facts = recording.facts
    shown_height = max(8, min(SHOWN_WIDTH * 2, round(SHOWN_WIDTH / facts.aspect)))
    to_shown = Converter(facts, SHOWN_WIDTH, shown_height, notes)
    to_full = Converter(facts, facts.width, facts.height, VideoNotes())
    to_grey = av.video.reformatter.VideoReformatter()
    every = max(1, facts.num_frames // NUM_LOOKS)
    show_at = set(np.linspace(0, facts.num_frames - 1, NUM_SHOWN).astype(int).tolist())
    thumbs: list[np.ndarray] = []
    positions: list[int] = []
    shown: list[np.ndarray] = []
    brightest_row, brightest_column = np.zeros(facts.height, np.uint8), np.zeros(facts.width, np.uint8)
    for position, picture in decode(recording.path, facts, notes):
        notes.see_size(picture)
        if len(thumbs) < MAX_THUMBS:
            small = to_grey.reformat(picture, THUMB_WIDTH, THUMB_HEIGHT, "gray", interpolation="AREA", threads=1)
            thumbs.append(small.to_ndarray())
            positions.append(position)
        if position % every == 0:
            full = to_full(picture).max(axis=2)
            np.maximum(brightest_row, full.max(axis=1), out=brightest_row)
            np.maximum(brightest_column, full.max(axis=0), out=brightest_column)
        if position in show_at:
            shown.append(to_shown(picture))
    at = np.array(positions, np.int64)
    rms, peak, silent = _loudness(recording) if facts.has_sound else (None, None, None)
    return Signals(
        thumbs=np.array(thumbs, np.uint8).reshape(-1, THUMB_HEIGHT, THUMB_WIDTH),
        times=facts.times[at],
        rows=facts.rows[at],
        shown=np.array(shown, np.uint8).reshape(-1, shown_height, SHOWN_WIDTH, 3),
        bars=(*_dark_ends(brightest_row), *_dark_ends(brightest_column)),
        rms=rms,
        peak=peak,
        silent=silent,
    )


def _dark_ends(brightest: np.ndarray) -> tuple[int, int]:
    """How many at the start and at the end stay black; (0, 0) where that is one line of noise or most of the
    picture."""
    bright = np.flatnonzero(brightest > DARK)
    if not len(bright) or brightest.max() < 3 * DARK:
        return 0, 0
    before, after = int(bright[0]), int(len(brightest) - 1 - bright[-1])
    if before + after > 0.7 * len(brightest):
        return 0, 0
    return before if before > 1 else 0, after if after > 1 else 0


def _loudness(recording: Recording) -> tuple[float | None, float | None, float | None]:
    """Root mean square and peak, 0 to 1, and the share of pieces of 50 ms under -60 dBFS."""
    total, count, peak, num_silent, num_pieces = 0.0, 0, 0, 0, 0
    piece = max(1, (recording.facts.sample_rate or 48_000) // 20)
    for block in sound_blocks(recording.path, facts=recording.facts):
        values = block.astype(np.float64)
        total += float((values**2).sum())
        count += values.size
        peak = max(peak, int(np.abs(values).max(initial=0)))
        for i in range(0, len(values), piece):
            num_silent += bool(np.sqrt((values[i : i + piece] ** 2).mean()) < 32768 / 1000)
            num_pieces += 1
    if not count:
        return None, None, None
    return float(np.sqrt(total / count)) / 32768, peak / 32768, num_silent / num_pieces
