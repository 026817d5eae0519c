"""Panels of text for the window: its figures, its help and its messages, as pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worldgen.play.loop import Player
from worldgen.text import GLYPH_HEIGHT, draw_text, text_width

BACKGROUND, INK = (10, 10, 14), (230, 230, 235)


def draw_panel(lines: Sequence[str], scale: int = 1) -> np.ndarray:
    """-> (h, w, 3) uint8, as large as its text and a margin."""
    line_height, margin = (GLYPH_HEIGHT + 3) * scale, 4 * scale
    width = max((text_width(line, scale) for line in lines), default=0) + 2 * margin
    panel = np.full((len(lines) * line_height + 2 * margin - 3 * scale, width, 3), BACKGROUND, np.uint8)
    for i, line in enumerate(lines):
        draw_text(panel, line, margin, margin + i * line_height, INK, scale)
    return panel


def hud_lines(player: Player, fps: float, action_name: str, underruns: int | None, state: str = "") -> list[str]:
    """The figures of the last moments. fps: frames shown a second; underruns: of the sound, None without sound."""
    stats, world = player.stats, player.world
    lines = [
        f"{fps:.1f} of {world.config.fps:g} fps {state}".rstrip(),
        f"frame {stats.percentile(50, recent=True):.1f} ms p50 {stats.percentile(99, recent=True):.1f} p99",
        f"{stats.frames} frames, {stats.dropped} dropped",
        f"{world.backend_name} nfe {world.nfe} seed {player.seed}",
        action_name,
    ]
    if underruns:
        lines.insert(3, f"{underruns} sound gaps")
    return lines
