"""A deterministic game's exact state as the history that led to it: save() notes it, load() plays it again.

For games whose own save files leave something out. (ViZDoom's do: saving lets two tics pass, loading keeps the held
keys and the playing sounds of whatever went before, so neither pictures nor sounds come out the same.)
"""

from __future__ import annotations

import json
from typing import Any

from worldgen.envs.game import Game
from worldgen.errors import InputError


class History:
    """The seed and the actions of the current episode of one game."""

    def __init__(self, game: str, fps: float):
        self._game, self._fps = game, fps
        self.begin(0)

    def begin(self, seed: int) -> None:
        self._seed, self._actions = seed, list[Any]()

    def add(self, action: Any) -> None:
        self._actions.append(action)

    def save(self) -> bytes:
        state = {"game": self._game, "fps": self._fps, "seed": self._seed, "actions": self._actions}
        return json.dumps(state).encode()

    def read(self, state: bytes) -> tuple[int, list[Any]]:
        """-> seed, actions of a state saved by the same game at the same rate."""
        try:
            raw = json.loads(state)
            game, fps, seed, actions = raw["game"], raw["fps"], raw["seed"], raw["actions"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"not a saved state of {self._game}") from None
        if (game, fps) != (self._game, self._fps):
            raise InputError(f"a saved state of {game} at {fps:g} fps does not fit {self._game} at {self._fps:g} fps")
        return seed, actions

    def replay(self, state: bytes, game: Game) -> None:
        """Plays a saved state again on the game whose history this is."""
        seed, actions = self.read(state)
        game.reset(seed)
        for action in actions:
            game.step(action)
