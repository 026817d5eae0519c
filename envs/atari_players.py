"""Scripted Atari players. They read the ball and the paddle from the console's memory (AleGame's state columns)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from worldgen.envs.game import GameFrame
from worldgen.envs.policies import Policy, StickyPolicy

if TYPE_CHECKING:
    from worldgen.envs.ale_game import AleGame


def atari_player(game: AleGame) -> Policy:
    if game.rom == "breakout":
        # player_x and ball_x are counted from different places; a ball at height 0 waits to be served
        return Paddle(game, "ball_x", "player_x", offset=20.0, more="right", less="left", serve="fire")
    if game.rom == "pong":
        # the game names the paddle's two directions after the joystick: right is up, towards smaller y
        return Paddle(game, "ball_y", "player_y", offset=-4.0, more="left", less="right", serve="fire")
    return StickyPolicy(game, hold_seconds=0.5, weights=_eager(game))


class Paddle:
    """Keeps the paddle under the ball, aiming a little beside its middle, elsewhere after every hit."""

    def __init__(self, game: AleGame, ball: str, paddle: str, *, offset: float, more: str, less: str, serve: str):
        names = game.actions.names
        self._more, self._less, self._serve = names.index(more), names.index(less), names.index(serve)
        self._idle = names.index("idle")
        self._ball, self._paddle, self._offset = ball, paddle, offset
        self._aim = 0.0

    def reset(self, rng: np.random.Generator) -> None:
        self._aim = 0.0

    def act(self, frame: GameFrame, rng: np.random.Generator) -> int:
        state = frame.state
        if state["ball_y"] == 0:
            return self._serve if rng.random() < 0.5 else self._idle
        if rng.random() < 0.05:
            self._aim = float(rng.uniform(-5, 5))
        gap = state[self._ball] - self._offset + self._aim - state[self._paddle]
        if abs(gap) < 5:
            return self._idle
        return self._more if gap > 0 else self._less


def _eager(game: AleGame) -> np.ndarray:
    """Anything rather than idling, fire above all: many games start, and score, by it."""
    return np.array([0.3 if name == "idle" else 2.0 if name == "fire" else 1.0 for name in game.actions.names])
