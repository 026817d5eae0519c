"""Rewinding: the last frames to go back through one by one, in bounded memory.

Before each step a moment is kept: what the step will overwrite (`World.mark`: one slot of the ring cache, not the whole
of it). Going back undoes the steps in reverse order. Only where the game jumps (a new episode, a loaded moment) is a
whole snapshot kept.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from worldgen.play.loop import Player, SavePoint

SECONDS = 60.0  # how far back, when memory allows
MAX_BYTES = 96 << 20


@dataclass(frozen=True)
class Moment:
    """A point to come back to. is_mark: its state undoes the one step that followed; else it is a whole snapshot."""

    point: SavePoint
    is_mark: bool
    num_bytes: int

    def leads_to(self, player: Player) -> bool:
        """Whether undoing is what takes the player back here."""
        here = (player.seed, player.position)
        return not self.is_mark or here == (self.point.seed, self.point.position + 1)


class Rewind:
    """note() before every step and every jump, back() to undo the newest. The oldest go once `max_bytes` are used."""

    def __init__(self, fps: float, max_bytes: int = MAX_BYTES):
        self._max_bytes, self._max_moments = max_bytes, round(SECONDS * fps)
        self._moments: deque[Moment] = deque()
        self.num_bytes = 0

    def __len__(self) -> int:
        return len(self._moments)

    def note(self, player: Player, jumps: bool = False) -> None:
        """jumps: what follows is not one step of the world from here."""
        if self._moments and not self._moments[-1].leads_to(player):
            self.clear()  # the player went elsewhere without a word: a replayed restart
        is_mark = not (jumps or bool(player.frame.terminated))  # the step after the end begins the next episode
        point = _with_one_picture(player.mark() if is_mark else player.save())
        moment = Moment(point, is_mark, num_bytes(point.state, point.frame))
        self._moments.append(moment)
        self.num_bytes += moment.num_bytes
        while len(self._moments) > 1 and (self.num_bytes > self._max_bytes or len(self._moments) > self._max_moments):
            self.num_bytes -= self._moments.popleft().num_bytes

    def clear(self) -> None:
        self._moments.clear()
        self.num_bytes = 0

    def back(self, player: Player) -> bool:
        """Takes the player to the moment before the frame on screen; False where memory ends."""
        if not self._moments:
            return False
        moment = self._moments.pop()
        self.num_bytes -= moment.num_bytes
        if moment.is_mark:
            player.unwind(moment.point)
        else:
            player.load(moment.point)
        return True


def _with_one_picture(point: SavePoint) -> SavePoint:
    """The picture on screen is in the frame and in the state: kept once, it is a third less to keep."""
    image, shown = point.frame.image[None], getattr(point.state, "image", None)
    if shown is None or not np.array_equal(shown, image):
        return point
    return replace(point, state=replace(point.state, image=image))


def num_bytes(*values: Any) -> int:
    """Memory of the arrays in dataclasses of arrays; one that is shared counts once."""
    arrays = [x for value in values for x in vars(value).values() if isinstance(x, np.ndarray)]
    return sum({id(x if x.base is None else x.base): x.nbytes for x in arrays}.values())
