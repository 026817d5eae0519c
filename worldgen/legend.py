"""The legend: which keys are pressed and what the action is called, drawn for clips and for the window."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from worldgen.actions import ActionMap
from worldgen.text import GLYPH_HEIGHT, draw_text, text_width

BACKGROUND = (16, 16, 20)
CAP, CAP_TEXT = (48, 48, 56), (150, 150, 160)
CAP_PRESSED, CAP_PRESSED_TEXT = (255, 200, 60), (20, 16, 0)
NAME = (235, 235, 240)

_SHORT = {
    "left": "←", "right": "→", "up": "↑", "down": "↓", "return": "enter", "left shift": "shift", "left ctrl": "ctrl",
    "left alt": "alt", "right shift": "rshift", "right ctrl": "rctrl", "right alt": "ralt", "escape": "esc",
    "backspace": "bksp",
}  # fmt: skip
_ARROWS = ("left", "up", "down", "right")


def key_label(key: str) -> str:
    return _SHORT.get(key, key)


def legend_keys(actions: ActionMap) -> tuple[str, ...]:
    """Every key that the actions use, arrows first, then in the order the actions name them."""
    used = dict.fromkeys(key for keys in actions.keys for key in keys)
    arrows = [key for key in _ARROWS if key in used]
    return (*arrows, *(key for key in used if key not in arrows))


def pressed_keys(actions: ActionMap, action: Any) -> frozenset[str]:
    """The keys that press an action (empty for actions that no keyboard presses)."""
    if action is None or not actions.keys:
        return frozenset()
    if actions.is_discrete:
        return frozenset(actions.keys[int(action)])
    if actions.kind == "multi_binary":
        return frozenset(keys[0] for keys, on in zip(actions.keys, action, strict=True) if on and keys)
    return frozenset()


def legend_scale(width: int) -> int:
    """Text pixels per picture pixel, for a picture of this width."""
    return max(1, round(width / 320))


def legend_height(width: int) -> int:
    return (GLYPH_HEIGHT + 8) * legend_scale(width)


def draw_legend(width: int, actions: ActionMap, action: Any) -> np.ndarray:
    """The strip that goes under a picture of this width -> (legend_height(width), width, 3) uint8.

    Key caps from the left, lit while pressed, then the action's name; caps that leave no room for a name of eight
    letters are dropped.
    """
    name = "" if action is None else actions.name(action)
    return _draw(width, legend_keys(actions), pressed_keys(actions, action), name).copy()


@lru_cache(maxsize=256)
def _draw(width: int, keys: tuple[str, ...], pressed: frozenset[str], name: str) -> np.ndarray:
    scale = legend_scale(width)
    strip = np.full((legend_height(width), width, 3), BACKGROUND, np.uint8)
    top, x = 4 * scale, 3 * scale
    room_for_name = text_width("a" * 8, scale)
    for key in keys:
        label = key_label(key)
        cap_width = max(text_width(label), GLYPH_HEIGHT) * scale + 4 * scale
        if x + cap_width + room_for_name > width:
            break
        is_pressed = key in pressed
        face = CAP_PRESSED if is_pressed else CAP
        strip[top - 2 * scale : top + (GLYPH_HEIGHT + 2) * scale, x : x + cap_width] = face
        inside = x + (cap_width - text_width(label, scale)) // 2
        draw_text(strip, label, inside, top, CAP_PRESSED_TEXT if is_pressed else CAP_TEXT, scale)
        x += cap_width + 2 * scale
    draw_text(strip, name, x + 2 * scale, top, NAME, scale)
    return strip
