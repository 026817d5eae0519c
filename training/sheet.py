"""Pictures of a replay: contact sheets and a side-by-side video, the recording beside what the world generates."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from worldgen.actions import ActionMap
from worldgen.data.video import VideoWriter
from worldgen.legend import draw_legend, legend_height
from worldgen.text import GLYPH_HEIGHT, draw_text, text_width
from worldgen.training.metrics import mean_squared_error
from worldgen.training.replay import Replay

PAPER, INK, FAINT = (255, 255, 255), (30, 34, 42), (120, 126, 138)
NIGHT, LIGHT = (16, 16, 20), (235, 235, 240)
GAP = 6
TALL = 112  # a frame of a sheet is enlarged to about this height
VIDEO_TALL = 288


def to_png(picture: np.ndarray) -> bytes:
    """(h, w, 3) uint8 -> a PNG file"""
    h, w, _ = picture.shape
    rows = np.concatenate([np.zeros((h, 1), np.uint8), picture.reshape(h, 3 * w)], axis=1)  # filter 0 before each row

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)
    packed = zlib.compress(rows.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def enlarge(frame: np.ndarray, scale: int) -> np.ndarray:
    """(h, w, 3) -> each pixel scale x scale"""
    return frame.repeat(scale, axis=0).repeat(scale, axis=1)


def sheet_columns(num_frames: int) -> list[int]:
    """Which frames after the prompt a sheet shows: 1, 2, 4, 8, ... and the last."""
    powers = [2**i for i in range(num_frames.bit_length()) if 2**i <= num_frames]
    return sorted({*powers, num_frames})


def sheet_clips(replay: Replay, count: int = 4) -> list[tuple[int, str]]:
    """Clips to show, with why: some spread evenly, and the one with the largest error of all. Never the best ones."""
    errors = [mean_squared_error(m, r) for m, r in zip(replay.made, replay.real, strict=True)]
    worst = int(np.argmax(errors))
    others = [i for i in range(len(errors)) if i != worst]
    picks = np.linspace(0, len(others) - 1, min(count - 1, len(others))).astype(int)
    return [(others[i], "evenly spread") for i in dict.fromkeys(picks.tolist())] + [(worst, "the worst of all clips")]


def contact_sheet(replay: Replay, clip: int, actions: ActionMap) -> np.ndarray:
    """One clip: recorded above generated, at frames 0 (the end of the prompt), 1, 2, 4, ... -> (h', w', 3) uint8"""
    h, w, _ = replay.last.shape[1:]
    scale = max(1, round(TALL / h))
    tall, wide, text = h * scale, w * scale, 2
    head, label = GLYPH_HEIGHT * text + GAP, text_width("generated", text) + 2 * GAP
    columns = [0, *sheet_columns(replay.num_frames)]
    page = np.full((head + 2 * (tall + GAP), label + len(columns) * (wide + GAP), 3), PAPER, np.uint8)
    for row, name in enumerate(("recorded", "generated")):
        draw_text(page, name, 0, head + row * (tall + GAP) + tall // 2 - GLYPH_HEIGHT, INK, text)
    for i, column in enumerate(columns):
        x = label + i * (wide + GAP)
        title = "prompt" if column == 0 else str(column)
        draw_text(page, title, x + (wide - text_width(title, text)) // 2, 0, FAINT, text)
        real = replay.last[clip] if column == 0 else replay.real[clip, column - 1]
        made = replay.shown[clip] if column == 0 else replay.made[clip, column - 1]
        for row, frame in enumerate((real, made)):
            y = head + row * (tall + GAP)
            page[y : y + tall, x : x + wide] = enlarge(frame, scale)
    return page


def long_sheet(frames: np.ndarray) -> np.ndarray:
    """Long games (b, t, h, w, 3), one below the other: 8 frames of each, ever further apart -> (h', w', 3) uint8"""
    b, t, h, w, _ = frames.shape
    scale = max(1, round(TALL / h))
    tall, wide, text = h * scale, w * scale, 2
    head = GLYPH_HEIGHT * text + GAP
    columns = np.unique(np.geomspace(1, t, 8).round().astype(int)).tolist()
    page = np.full((head + b * (tall + GAP), len(columns) * (wide + GAP), 3), PAPER, np.uint8)
    for i, column in enumerate(columns):
        x = i * (wide + GAP)
        draw_text(page, str(column), x + (wide - text_width(str(column), text)) // 2, 0, FAINT, text)
        for row in range(b):
            y = head + row * (tall + GAP)
            page[y : y + tall, x : x + wide] = enlarge(frames[row, column - 1], scale)
    return page


def write_side_by_side(path: Path, replay: Replay, clips: Sequence[int], actions: ActionMap, fps: float) -> None:
    """An .mp4: recorded on the left, generated on the right; under them the keys that led to the frame, the pressed
    ones lit, and the action's name."""
    h, w, _ = replay.last.shape[1:]
    scale = max(1, round(VIDEO_TALL / h))
    tall, wide = h * scale, w * scale
    text = 2 if wide >= 200 else 1
    bar, full = GLYPH_HEIGHT * text + 2 * GAP, 2 * wide + GAP
    strip = legend_height(full)
    null = actions.null()

    def moment(after: int, name: str = "frame ") -> str:
        return f"{name}{after}  {after / fps:.1f} s"

    is_narrow = text_width("recorded" + moment(replay.num_frames), text) + 4 * GAP > wide
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    with VideoWriter(temporary, full, bar + tall + strip, fps) as video:
        for number, clip in enumerate(clips):
            pairs = [(replay.last[clip], replay.shown[clip], None)]
            pairs *= max(1, round(fps / 2))  # half a second of the prompt's end, to see where it begins
            pairs += zip(replay.real[clip], replay.made[clip], replay.actions[clip], strict=True)
            for i, (real, made, row) in enumerate(pairs):
                picture = np.full((bar + tall + strip, full, 3), NIGHT, np.uint8)
                picture[bar : bar + tall, :wide] = enlarge(real, scale)
                picture[bar : bar + tall, wide + GAP : full] = enlarge(made, scale)
                after = max(0, i + 1 - (len(pairs) - replay.num_frames))
                where = moment(after, "" if is_narrow else "frame ") if after else "prompt"
                draw_text(picture, "recorded", GAP, GAP, LIGHT, text)
                draw_text(picture, "generated", wide + 2 * GAP, GAP, LIGHT, text)
                draw_text(picture, where, wide - text_width(where, text) - GAP, GAP, FAINT, text)
                count = f"clip {number + 1}/{len(clips)}"
                draw_text(picture, count, full - text_width(count, text) - GAP, GAP, FAINT, text)
                action = None if row is None or (row == null).all() else actions.decode(row)
                picture[bar + tall :] = draw_legend(full, actions, action)
                video.write(picture)
    temporary.replace(path)
