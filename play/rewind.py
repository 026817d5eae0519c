"""Rewinding: moments of the last seconds to go back through, in bounded memory."""

from __future__ import annotations

from collections import deque
from dataclasses import fields, is_dataclass
from math import ceil
from typing import Any

from worldgen.play.loop import Player, SavePoint

SECONDS = 10.0  # how far back, when memory allows
MAX_STRIDE = 8  # frames between two moments at most: further apart, going back would jump
MAX_BYTES = 64 << 20


class Rewind:
    """Keeps a moment every `stride` frames; the oldest go once `max_bytes` are used.

    The stride is the smallest that reaches 10 seconds back, so small worlds rewind frame by frame.
    """

    def __init__(self, fps: float, max_bytes: int = MAX_BYTES):
        self._fps, self._max_bytes = fps, max_bytes
        self._points: deque[SavePoint] = deque()
        self._point_bytes = 0
        self._since = 0
        self.stride = 1

    def __len__(self) -> int:
        return len(self._points)

    @property
    def num_bytes(self) -> int:
        return len(self._points) * self._point_bytes

    def note(self, player: Player) -> None:
        """After every step."""
        self._since += 1
        if self._since < self.stride and self._points:
            return
        self._since = 0
        point = player.save()
        if not self._point_bytes:
            self._point_bytes = max(1, num_bytes(point.state) + num_bytes(point.frame))
            wanted = ceil(SECONDS * self._fps * self._point_bytes / self._max_bytes)
            self.stride = min(max(1, wanted), MAX_STRIDE)
        while self._points and (len(self._points) + 1) * self._point_bytes > self._max_bytes:
            self._points.popleft()
        self._points.append(point)

    def back(self, player: Player) -> bool:
        """Takes the player to the moment before the frame on screen; False where memory ends."""
        while len(self._points) > 1 and self._points[-1].frame is player.frame:
            self._points.pop()
        if not self._points or self._points[-1].frame is player.frame:
            return False
        player.load(self._points[-1])
        self._since = 0
        return True


def num_bytes(value: Any) -> int:
    """Memory of the arrays in a value: arrays, and dataclasses, mappings and sequences of them."""
    if hasattr(value, "nbytes"):
        return int(value.nbytes)
    if is_dataclass(value) and not isinstance(value, type):
        return sum(num_bytes(getattr(value, f.name)) for f in fields(value))
    if isinstance(value, dict):
        return sum(num_bytes(v) for v in value.values())
    if isinstance(value, list | tuple):
        return sum(num_bytes(v) for v in value)
    return 0
