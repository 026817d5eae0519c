"""A player that plays ToyGame well: it imagines a few moves with the game's own rules and takes the best."""

from __future__ import annotations

import numpy as np

from worldgen.envs.toy_game import ToyGame
from worldgen.envs.toy_level import SUB
from worldgen.envs.toy_physics import DEAD, WON, PlayState, advance

IDLE, LEFT, RIGHT, JUMP, LEFT_JUMP, RIGHT_JUMP = range(6)
Move = tuple[tuple[int, int], ...]  # (action, ticks), one after the other

LOOK_AHEAD = 84  # ticks that a move is imagined for, and as many again, idle, until the player stands
SOON = 24  # what a move has gained by then counts extra, so that good moves are not put off
COMMITMENT = 50  # a move under way is only dropped for one that is better by so much
MOVES: tuple[Move, ...] = (
    *(((RIGHT, run), (IDLE, 40)) for run in (84, 48, 24, 8)),
    *(((RIGHT, wait), (RIGHT_JUMP, hold), (RIGHT, 84)) for wait in (2, 12, 24) for hold in (6, 26)),
    *(((RIGHT, wait), (RIGHT_JUMP, hold), (RIGHT, 2), (IDLE, 40)) for wait in (2, 12) for hold in (12, 26)),
    *(((RIGHT, wait), (RIGHT_JUMP, hold), (RIGHT, 14), (IDLE, 40)) for wait in (2, 12) for hold in (12, 26)),
    ((IDLE, 14), (RIGHT, 30), (IDLE, 40)),
    ((IDLE, 24), (RIGHT_JUMP, 26), (RIGHT, 16), (IDLE, 40)),
    ((JUMP, 26), (RIGHT, 20), (IDLE, 40)),
    ((JUMP, 18), (RIGHT_JUMP, 14), (RIGHT, 12), (IDLE, 40)),
    ((LEFT, 16), (RIGHT, 6), (RIGHT_JUMP, 26), (RIGHT, 16), (IDLE, 40)),
    ((LEFT, 40), (RIGHT, 24), (RIGHT_JUMP, 26), (RIGHT, 16)),
    ((LEFT_JUMP, 26), (LEFT, 10), (IDLE, 40)),
    ((LEFT, 24), (IDLE, 40)),
    ((IDLE, 30),),
)


class ScriptedToyPlayer:
    """Runs right, jumps pits, stomps on or avoids walkers, goes for coins.

    exploration: how often a decision takes any move that survives instead of the best one; this makes plays differ
        and visits more of the game, at the price of time.
    """

    def __init__(self, exploration: float = 0.1):
        self.exploration = exploration
        self._actions: list[int] = []  # one per frame, the rest of the move that was chosen
        self._tick = -1  # when the next of them is due
        self._decide_in = 0  # frames until the next decision
        self._seed = -1

    def act(self, game: ToyGame, rng: np.random.Generator) -> int:
        """The action for the frame that the game shows now."""
        if game.play.tick != self._tick or game.level.seed != self._seed:  # another game, or a loaded one
            self._actions, self._decide_in = [], 0
        if self._decide_in <= 0 or not self._actions:
            self._decide(game, rng)
        self._decide_in -= 1
        self._tick, self._seed = game.play.tick + game.ticks_per_frame, game.level.seed
        return self._actions.pop(0)

    def _decide(self, game: ToyGame, rng: np.random.Generator) -> None:
        moves = [_by_frame(move, game.ticks_per_frame) for move in MOVES]
        values = [imagine(game, actions) for actions in moves]
        if self._actions:
            moves.append(self._actions)
            values.append(imagine(game, self._actions) + COMMITMENT)
        best = int(np.argmax(values))
        frames = int(rng.integers(10, 24))
        if rng.random() < self.exploration:
            safe = [i for i, value in enumerate(values) if value > -500]
            best, frames = (int(rng.choice(safe)) if safe else best), frames * 2
        self._actions = moves[best]
        self._decide_in = max(frames // game.ticks_per_frame, 1)


def imagine(game: ToyGame, actions: list[int]) -> float:
    """How good it is to take these actions, one a frame: pixels, coins and stomps gained, the flag; -1000 for dying."""
    play, level, soon = game.play.copy(), game.level, 0.0
    frames, start = LOOK_AHEAD // game.ticks_per_frame, _worth(game.play)
    for i in range(2 * frames):
        action = actions[i] if i < len(actions) else IDLE
        for _ in range(game.ticks_per_frame):
            advance(level, play, action)
        if play.outcome == DEAD:
            return i - 1000
        if i == SOON // game.ticks_per_frame:
            soon = _worth(play) - start
        if play.outcome == WON:
            return 1000.0 - i
        if i >= frames and play.on_ground:
            break
    return _worth(play) - start + soon / 2


def _worth(play: PlayState) -> float:
    return play.x / SUB + 30 * len(play.taken) + 30 * len(play.stomped)


def _by_frame(move: Move, ticks_per_frame: int) -> list[int]:
    frames = [action for action, ticks in move for _ in range(max(round(ticks / ticks_per_frame), 1))]
    return frames[: LOOK_AHEAD // ticks_per_frame]
