"""Scripted players for Pyxel's games. They read where things are from PyxelGame's state columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from worldgen.envs.game import GameFrame
from worldgen.envs.policies import Policy, StickyPolicy

if TYPE_CHECKING:
    from worldgen.envs.pyxel_game import PyxelGame


def pyxel_player(game: PyxelGame) -> Policy:
    names = game.actions.names
    if game.game == "jump":
        return JumpPlayer(names)
    if game.game == "snake":
        return SnakePlayer(names)
    if game.game in ("shooter", "mega_wing"):
        return ShooterPlayer(names)
    if game.game == "space_rescue":
        return RescuePlayer(names)
    # onwards, and whatever the button does
    weights = np.array([1.0 + 2.0 * ("right" in n) + 1.0 * ("jump" in n or "fire" in n) for n in names])
    return StickyPolicy(game, hold_seconds=0.35, weights=weights)


class JumpPlayer:
    """Steers for the floor that is easiest to land on."""

    def __init__(self, names: tuple[str, ...]):
        self._idle, self._left, self._right = names.index("idle"), names.index("left"), names.index("right")

    def reset(self, rng: np.random.Generator) -> None:
        pass

    def act(self, frame: GameFrame, rng: np.random.Generator) -> int:
        state = frame.state
        gap = state["landing_x"] - state["player_x"]
        if state["landing_y"] < 0 or abs(gap) < 4:
            return self._idle
        return self._right if gap > 0 else self._left


class SnakePlayer:
    """Takes the straight way to the apple, never straight back."""

    def __init__(self, names: tuple[str, ...]):
        self._ways = {(0, 0): names.index("idle")}
        self._ways |= {(1, 0): names.index("right"), (-1, 0): names.index("left")}
        self._ways |= {(0, 1): names.index("down"), (0, -1): names.index("up")}

    def reset(self, rng: np.random.Generator) -> None:
        pass

    def act(self, frame: GameFrame, rng: np.random.Generator) -> int:
        s = frame.state
        heading = (int(s["dx"]), int(s["dy"]))
        gap_x, gap_y = int(np.sign(s["apple_x"] - s["x"])), int(np.sign(s["apple_y"] - s["y"]))
        wanted = [way for way in ((gap_x, 0), (0, gap_y)) if way != (0, 0) and way != (-heading[0], -heading[1])]
        if heading in wanted:
            return self._ways[heading]
        if wanted:
            return self._ways[wanted[0]]
        # the apple is right behind: turn aside, towards the middle of the field
        aside = (0, 1 if s["y"] < 28 else -1) if heading[0] else (1 if s["x"] < 20 else -1, 0)
        return self._ways[aside]


class ShooterPlayer:
    """Gets below the enemy that comes next and fires, a press at a time; steps out of the way of near ones."""

    def __init__(self, names: tuple[str, ...]):
        self._index = {name: i for i, name in enumerate(names)}
        self._fires = False

    def reset(self, rng: np.random.Generator) -> None:
        self._fires = False

    def act(self, frame: GameFrame, rng: np.random.Generator) -> int:
        s = frame.state
        self._fires = not self._fires  # these games fire once per press
        button = " + fire" if self._fires and rng.random() < 0.7 else ""
        gap = s["enemy_x"] - s["x"]
        if s["threat_dx"]:  # out of its way, and not into the edge
            aside = "left" if s["threat_dx"] > 0 else "right"
            aside = "right" if s["x"] < 4 else "left" if s["x"] > 108 else aside
            return self._index[aside + button]
        if s["enemy_y"] and abs(gap) > 4:
            return self._index[("right" if gap > 0 else "left") + button]
        if s["y"] < 120:
            return self._index["down" + button]
        return self._index["fire" if button else "idle"]


class RescuePlayer:
    """Jets when it sinks below the astronaut or drifts away; every release turns the ship around."""

    def __init__(self, names: tuple[str, ...]):
        self._idle, self._jet = names.index("idle"), names.index("jet")
        self._held = 0

    def reset(self, rng: np.random.Generator) -> None:
        self._held = 0

    def act(self, frame: GameFrame, rng: np.random.Generator) -> int:
        s = frame.state
        target = s["survivor_y"] if s["survivor_y"] >= 0 else 60.0
        towards = np.sign(s["survivor_x"] - s["ship_x"]) if s["survivor_x"] >= 0 else 0.0
        if self._held > 0:
            self._held -= 1
            return self._jet
        if s["ship_y"] + 10 * s["ship_vy"] > target:
            # long where the ship faces the astronaut, a tap where it does not
            self._held = int(rng.integers(6, 12)) if s["ship_dir"] == towards else int(rng.integers(1, 4))
            return self._jet
        return self._idle
