"""Scripted players for Pyxel's games. They read where things are from PyxelGame's state columns."""

from __future__ import annotations

from collections.abc import Mapping
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
    if game.game == "platformer":
        return PlatformerPlayer(names)
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


class PlatformerPlayer:
    """Runs to the right over walls, pits and enemies, jumping again in the air where one jump is not enough; now and
    then stands, turns back, or climbs as high as it likes. Where jumping has not brought it past a wall it lets itself
    fall along it, or goes back and past below."""

    MOODS = {"on": 0.62, "back": 0.14, "stand": 0.12, "climb": 0.12}
    STUCK = 30  # frames against a wall

    def __init__(self, names: tuple[str, ...]):
        self._index = {name: i for i, name in enumerate(names)}
        self._begin()

    def reset(self, rng: np.random.Generator) -> None:
        self._begin()

    def _begin(self) -> None:
        self._mood, self._mood_left, self._held, self._is_released, self._stuck = "on", 0, 0, True, 0

    def act(self, frame: GameFrame, rng: np.random.Generator) -> int:
        s = frame.state
        self._mood_left -= 1
        self._stuck = self._stuck + 1 if s["wall_dx"] == 1 else 0
        if self._stuck > self.STUCK:
            self._stuck = 0
            if rng.random() < 0.5:
                self._mood, self._mood_left = "fall", int(rng.integers(20, 60))
            else:
                self._mood, self._mood_left = "detour", int(rng.integers(4, 30))
        elif self._mood_left <= 0 and self._mood in ("detour", "drop"):
            self._mood = "drop" if self._mood == "detour" else "fall"
            self._mood_left = int(rng.integers(10, 30))
        elif self._mood_left <= 0:
            self._mood = str(rng.choice(list(self.MOODS), p=list(self.MOODS.values())))
            self._mood_left = int(rng.integers(10, 75 if self._mood == "on" else 30))
        way = {"back": "left", "detour": "left", "stand": "", "drop": ""}.get(self._mood, "right")
        if self._held == 0 and self._is_released and self._wants_to_jump(s, way, rng):
            self._held = int(rng.integers(2, 7))  # a key that stays down jumps once
        self._is_released = self._held == 0
        button = "jump" if self._held else ""
        self._held = max(0, self._held - 1)
        return self._index[" + ".join(filter(None, (way, button))) or "idle"]

    def _wants_to_jump(self, s: Mapping[str, float], way: str, rng: np.random.Generator) -> bool:
        if not s["stands"] and s["dy"] < 1:
            return False  # on its way up
        is_blocked = way == "right" and self._mood != "fall" and 0 < s["wall_dx"] <= 10
        is_over_pit = 0 < s["pit_dx"] <= (6 if s["stands"] else 2)
        is_near = abs(s["enemy_dx"]) < (20 if s["stands"] else 11)
        is_below = 0 < s["enemy_dy"] < (12 if s["stands"] else 20)
        is_beside = s["enemy_dx"] != 0 and -12 < s["enemy_dy"] <= 0
        is_threatened = is_near and (is_below or is_beside)
        is_climbing = self._mood == "climb" and s["y"] > 24
        return is_blocked or is_over_pit or is_threatened or is_climbing or bool(s["stands"] and rng.random() < 0.02)


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
