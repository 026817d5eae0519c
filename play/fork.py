"""Two futures of one moment: one is played and kept, then the other is played beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from worldgen.play.loop import Player

MAX_BYTES = 96 << 20  # of pictures of the first future


@dataclass(frozen=True)
class Beside:
    """A second picture (h, w, 3) uint8, of the same size as the game's, what each of the two is called, and on which
    side it goes."""

    image: np.ndarray
    label: str
    game_label: str
    is_left: bool


class Fork:
    """Begins where the player is. After every step, beside() gives the other future's picture."""

    def __init__(self, player: Player):
        self.point = player.save()
        self.is_second = False
        self._first: list[np.ndarray] = []
        self._max_frames = max(1, MAX_BYTES // player.frame.image.nbytes)  # then the first future's last frame stays

    def play_second(self, player: Player) -> None:
        """Back to the moment, to play another future beside the one that was played until now."""
        player.load(self.point)
        self.is_second = True

    def beside(self, player: Player) -> Beside | None:
        """None when the player is no longer on a future of this moment."""
        step = player.position - self.point.position
        if step < 0 or player.seed != self.point.seed:
            return None
        if self.is_second:
            image = self._first[min(step, len(self._first)) - 1] if step and self._first else self.point.frame.image
            return Beside(image, "future 1", "future 2: you", True)
        del self._first[max(0, step - 1) :]  # what was rewound
        if step and len(self._first) < self._max_frames:
            self._first.append(player.frame.image)
        return Beside(self.point.frame.image, "future 2: fork again", "future 1: you", False)
