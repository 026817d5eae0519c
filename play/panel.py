"""Panels of text for the window: its figures, its help and its messages, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worldgen.play.governor import Effort
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


@dataclass(frozen=True)
class Figures:
    """What the window knows of the last moments. fps: pictures shown a second; key_ms: from a key to its picture, p50
    and p99, None before the first; underruns: of the sound, None without sound; effort: that goes into a frame, and the
    one that was asked for, which is another where it takes too long."""

    fps: float
    key_ms: tuple[float, float] | None = None
    underruns: int | None = None
    effort: Effort | None = None
    wanted: Effort | None = None
    state: str = ""
    action: str = ""


def hud_lines(player: Player, figures: Figures) -> list[str]:
    stats, world = player.stats, player.world
    shown = world.config.fps * (1 + world.shows_between)
    lines = [
        f"{figures.fps:.1f} of {shown:g} fps{' with in-between' * world.shows_between} {figures.state}".rstrip(),
        f"model {stats.percentile(50, recent=True):.1f} ms p50 {stats.percentile(99, recent=True):.1f} p99",
    ]
    if figures.key_ms is not None:
        lines.append("key to picture {:.0f} ms p50 {:.0f} p99".format(*figures.key_ms))
    lines.append(f"{stats.frames} frames, {stats.dropped} dropped")
    if figures.underruns is not None:
        lines.append(f"{figures.underruns} sound gaps")
    lines.append(f"{world.backend_name} nfe {world.nfe} seed {player.seed}")
    if figures.wanted is not None and figures.effort is not None and figures.effort != figures.wanted:
        lines.append(f"too slow for {figures.wanted.described()}: {figures.effort.described()}")
    if player.frame.uncertainty is not None:  # above 1: unlike nearly all that was recorded
        guess = ": the model is guessing" if player.frame.uncertainty > 1 else ""
        lines.append(f"uncertainty {float(player.frame.uncertainty):.2f}{guess}")
    return [*lines, figures.action]
