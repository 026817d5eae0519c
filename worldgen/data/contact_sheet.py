"""A picture of a whole folder: a row of frames from every recording, with what was found in it."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from worldgen.data.check import FileCheck, FolderCheck
from worldgen.text import GLYPH_HEIGHT, draw_text

PAPER, INK, WARM = (255, 255, 255), (30, 34, 42), (190, 70, 20)
MAX_ROWS = 40
GAP = 4
LINE = 2 * GLYPH_HEIGHT + GAP


def contact_sheet(check: FolderCheck) -> tuple[np.ndarray, int]:
    """(h, w, 3) uint8: of up to MAX_ROWS usable files, those with findings first, frames spread over each -> it and how
    many files it shows."""
    files = sorted((f for f in check.usable if f.shown is not None), key=lambda f: not f.findings())[:MAX_ROWS]
    rows = [_row(f, check.folder) for f in files]
    width = max((r.shape[1] for r in rows), default=400)
    title = f"{check.folder.name}: {len(check.usable)} of {len(check.files)} files usable"
    rows = [_text(title, max(width, 800), INK), *rows]
    width = max(r.shape[1] for r in rows)
    filled = [np.pad(r, ((0, GAP), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in rows]
    return np.concatenate(filled), len(files)


def _row(file: FileCheck, folder: Path) -> np.ndarray:
    assert file.shown is not None
    frames = [np.pad(f, ((0, 0), (0, GAP), (0, 0)), constant_values=255) for f in file.shown]
    strip = np.concatenate(frames, axis=1)
    name = str(Path(file.report.path).relative_to(folder)).encode(errors="replace").decode()
    width = max(strip.shape[1], 800)
    lines = [_text(f"{name}  {file.report.seconds:.0f} S  {file.report.fps:g} FPS", width, INK)]
    lines += [_text(words, width, WARM) for words in file.findings()[:3]]
    return np.concatenate([*lines, np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=255)])


def _text(words: str, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    line = np.full((LINE, width, 3), PAPER, np.uint8)
    draw_text(line, words, GAP, 2, colour, scale=2 if len(words) * 12 < width else 1)
    return line


def write_png(path: Path, picture: np.ndarray) -> None:
    """picture (h, w, 3) uint8"""
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode(None))
