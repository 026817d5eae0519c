"""What each action does: the same starts, played under every action in turn, to be seen side by side.

All clips of one start begin with the same frames and the same noise, so that they differ by the action alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.actions import ActionMap
from worldgen.data.video import VideoWriter
from worldgen.errors import InputError
from worldgen.legend import key_label
from worldgen.text import GLYPH_HEIGHT, draw_text, text_width
from worldgen.training.sheet import FAINT, GAP, INK, LIGHT, NIGHT, PAPER, enlarge
from worldgen.training.watch import OnProgress, unheard
from worldgen.world import World

SHEET_TALL, VIDEO_TALL = 72, 112
MAX_ACTIONS = 24

KEYS = {
    "effect": "how much holding this action instead of the others changes the picture, root mean square in grey "
    "levels, over all starts and frames",
    "effect_spread": "its standard deviation over the starts, over its mean: 0 if it does as much everywhere",
    "motion": "how far the picture is from the start's own, root mean square in grey levels: least under what is idle",
}


@dataclass(frozen=True)
class ActionClips:
    """shown (s, h, w, 3) uint8: the frame that each start shows. frames (a, s, t, h, w, 3) uint8: what follows it when
    the action is held."""

    actions: ActionMap
    shown: np.ndarray
    frames: np.ndarray


def play_every_action(world: World, num_frames: int, seed: int = 0, on_actions: OnProgress = unheard) -> ActionClips:
    """world: batch slots, one start each. Raises InputError for actions that are not a short list."""
    actions = world.config.actions
    if not actions.is_discrete or actions.sizes[0] > MAX_ACTIONS:
        raise InputError(
            f"{world.config.name} takes {actions.describe()}: clips are made of one list of up to {MAX_ACTIONS} actions"
        )
    assert world.batch is not None, "World.load(..., batch=n)"
    seeds = [seed + i for i in range(world.batch)]
    starts = np.arange(world.batch) % max(1, world.num_starts) if world.num_starts else None
    shown, played = np.zeros(0), []
    for action in range(actions.sizes[0]):
        on_actions(action, actions.sizes[0])
        shown = world.reset(seeds, start=starts).image.copy()
        steps = [world.step([action] * world.batch).image.copy() for _ in range(num_frames)]
        played.append(np.stack(steps, axis=1))
    return ActionClips(actions, shown, np.stack(played))


def effects(clips: ActionClips) -> dict[str, dict[str, Any]]:
    """Of each action, by its name: the keys of KEYS"""
    frames = clips.frames.astype(np.float32)
    num_actions = len(frames)
    # mean over the other actions of the squared difference, of each start
    total, squares = frames.sum(0), np.square(frames).sum(0)
    others = max(1, num_actions - 1)
    out: dict[str, dict[str, Any]] = {}
    for i, name in enumerate(clips.actions.names):
        mine = frames[i]
        distance = (num_actions * mine**2 - 2 * mine * total + squares).clip(0) / others
        by_start = np.sqrt(distance.mean(axis=(1, 2, 3, 4)))
        out[name] = {
            "effect": float(np.sqrt(distance.mean())),
            "effect_spread": float(by_start.std() / max(1e-6, by_start.mean())),
            "motion": float(np.sqrt(np.square(mine - clips.shown[:, None]).mean())),
        }
    return out


def columns(num_frames: int) -> list[int]:
    """Which frames a sheet shows of each clip: the middle one and the last."""
    return sorted({max(0, num_frames // 2 - 1), num_frames - 1})


def sheet(clips: ActionClips, notes: dict[str, str]) -> np.ndarray:
    """A row for each action, a group of frames for each start: (h, w, 3) uint8. notes: of an action, under its
    name."""
    a, s, t, h, w, _ = clips.frames.shape
    scale = max(1, round(SHEET_TALL / h))
    tall, wide, text = h * scale, w * scale, 2
    picks = columns(t)
    group = (len(picks) * (wide + 2)) + GAP
    titles = [[name, _keys(clips.actions, i), notes.get(name, "")] for i, name in enumerate(clips.actions.names)]
    label = max(text_width(line, text if n == 0 else 1) for lines in titles for n, line in enumerate(lines)) + 2 * GAP
    head = GLYPH_HEIGHT * text + 2 * GAP
    page = np.full((head + (a + 1) * (tall + GAP), label + s * group, 3), PAPER, np.uint8)
    draw_text(page, f"held for {picks[0] + 1} and {t} frames", GAP, GAP, FAINT, 1)
    for j in range(s):
        x = label + j * group
        draw_text(page, f"start {j + 1}", x, GAP, FAINT, text)
        page[head : head + tall, x : x + wide] = enlarge(clips.shown[j], scale)
        for i in range(a):
            y = head + (i + 1) * (tall + GAP)
            for k, frame in enumerate(picks):
                left = x + k * (wide + 2)
                page[y : y + tall, left : left + wide] = enlarge(clips.frames[i, j, frame], scale)
    draw_text(page, "before", GAP, head + tall // 2 - GLYPH_HEIGHT, FAINT, text)
    for i, lines in enumerate(titles):
        y = head + (i + 1) * (tall + GAP) + max(0, tall // 2 - 2 * GLYPH_HEIGHT)
        for n, line in enumerate(lines):
            draw_text(page, line, GAP, y, INK if n == 0 else FAINT, text if n == 0 else 1)
            y += GLYPH_HEIGHT * (text if n == 0 else 1) + 4
    return page


def write_video(path: Path, clips: ActionClips, fps: float) -> None:
    """An .mp4: a row for each action, a column for each start, all at once; half a second of stillness first."""
    a, s, t, h, w, _ = clips.frames.shape
    scale = max(1, round(VIDEO_TALL / h))
    tall, wide = h * scale, w * scale
    label = max(text_width(name, 1) for name in clips.actions.names) + 2 * GAP
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    with VideoWriter(temporary, label + s * (wide + GAP), a * (tall + GAP), fps) as video:
        page = np.full((a * (tall + GAP), label + s * (wide + GAP), 3), NIGHT, np.uint8)
        for i, name in enumerate(clips.actions.names):
            draw_text(page, name, GAP, i * (tall + GAP) + tall // 2, LIGHT, 1)
        for frame in [-1] * max(1, round(fps / 2)) + list(range(t)):
            for i in range(a):
                for j in range(s):
                    picture = clips.shown[j] if frame < 0 else clips.frames[i, j, frame]
                    y, x = i * (tall + GAP), label + j * (wide + GAP)
                    page[y : y + tall, x : x + wide] = enlarge(picture, scale)
            video.write(page)
    temporary.replace(path)


def _keys(actions: ActionMap, action: int) -> str:
    keys = actions.keys[action] if actions.keys else ()
    return "key " + " + ".join(key_label(k) for k in keys) if keys else "no key"
