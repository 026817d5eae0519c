"""From a key to the picture that obeys it: measured, over the last moments."""

from __future__ import annotations

from collections import deque

import numpy as np


class Latency:
    """note() seconds; percentile() in milliseconds, over the last 200 and over all."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=200)
        self._all: list[float] = []

    def note(self, seconds: float) -> None:
        self._recent.append(1000 * seconds)
        self._all.append(1000 * seconds)

    def percentile(self, p: float, recent: bool = True) -> float | None:
        """None before the first key."""
        values = self._recent if recent else self._all
        return float(np.percentile(list(values), p)) if values else None
