"""Scripted Doom players. They look where a person looks: at the named boxes of things in view (ViZDoom's labels)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.envs.game import GameFrame
from worldgen.envs.policies import Policy

if TYPE_CHECKING:
    from worldgen.envs.vizdoom_game import VizdoomGame

CENTRE = 160  # the crosshair's column in a 320 pixel wide view
BAD_THINGS = ("Poison",)


def doom_player(game: VizdoomGame) -> Policy:
    """The player for a scenario: dodges, gathers, or seeks and shoots."""
    game.watch_labels()
    if game.scenario == "take_cover":
        return Dodger(game)
    if "ATTACK" in game.buttons:
        return Fighter(game)
    return Explorer(game)


class Explorer:
    """Walks towards things worth having, around those that hurt, and turns away from walls it is stuck at."""

    def __init__(self, game: VizdoomGame):
        self.game = game
        self.can_turn = "TURN_LEFT" in game.buttons
        self.can_walk = "MOVE_FORWARD" in game.buttons
        self.turn = "TURN_LEFT"
        self._turning, self._frames_walked = 0, 0
        self._place = (0.0, 0.0)

    def reset(self, rng: np.random.Generator) -> None:
        self.turn = str(rng.choice(["TURN_LEFT", "TURN_RIGHT"]))
        self._turning, self._frames_walked = 0, 0
        self._place = (0.0, 0.0)

    def act(self, frame: GameFrame, rng: np.random.Generator) -> int:
        wanted = [x for x in self.game.labels if _is_item(x) and x.object_name not in BAD_THINGS]
        if wanted and self._turning == 0:
            return self.walk_to(max(wanted, key=lambda x: x.width * x.height))
        return self.wander(frame, rng)

    def walk_to(self, thing: Any) -> int:
        offset = _middle(thing) - CENTRE
        turn = [] if abs(offset) < 20 else ["TURN_LEFT" if offset < 0 else "TURN_RIGHT"]
        return self.game.action_for("MOVE_FORWARD", *turn)

    def wander(self, frame: GameFrame, rng: np.random.Generator) -> int:
        """Forward; a turn of random length where it got stuck, sometimes for no reason, and along bends."""
        if self._turning > 0:
            self._turning -= 1
            self._frames_walked = 0
            return self.game.action_for(self.turn)
        place = (frame.state["x"], frame.state["y"])
        self._frames_walked += 1
        # a walk needs a few frames to get going
        is_stuck = self.can_walk and self._frames_walked > 3 and np.hypot(*np.subtract(place, self._place)) < 1.5
        self._place = place
        if self.can_turn and (is_stuck or rng.random() < 0.02):
            if rng.random() < 0.4:
                self.turn = _opposite(self.turn)
            self._turning = int(rng.integers(2, 14))
            return self.game.action_for(self.turn)
        if is_stuck and "USE" in self.game.buttons and rng.random() < 0.5:
            return self.game.action_for("USE")
        if rng.random() < 0.1:
            return self.game.action_for("MOVE_FORWARD", str(rng.choice(["TURN_LEFT", "TURN_RIGHT"])))
        return self.game.action_for("MOVE_FORWARD")


class Fighter(Explorer):
    """Faces the nearest enemy and shoots when it is in the crosshair; with none in view it looks and walks around."""

    def reset(self, rng: np.random.Generator) -> None:
        super().reset(rng)
        self._prefers_near = bool(rng.random() < 0.7)

    def act(self, frame: GameFrame, rng: np.random.Generator) -> int:
        enemies = [x for x in self.game.labels if x.object_category == "Monster"]
        if not enemies:
            return self.search(frame, rng)
        # the largest on screen is the nearest; the one nearest to the crosshair is the quickest to shoot
        near = max(enemies, key=lambda x: x.height)
        quick = min(enemies, key=lambda x: abs(_middle(x) - CENTRE))
        return self.fight(near if self._prefers_near else quick, rng)

    def fight(self, enemy: Any, rng: np.random.Generator) -> int:
        offset = _middle(enemy) - CENTRE
        is_aimed = abs(offset) <= max(3.0, enemy.width / 2)
        left, right = ("TURN_LEFT", "TURN_RIGHT") if self.can_turn else ("MOVE_LEFT", "MOVE_RIGHT")
        side = left if offset < 0 else right
        self.turn = side if self.can_turn else self.turn
        if not is_aimed:
            # some players fire while they turn
            return self.game.action_for(side, *(["ATTACK"] if abs(offset) < 40 and rng.random() < 0.3 else []))
        if self.can_walk and rng.random() < 0.2:
            return self.game.action_for("MOVE_FORWARD", "ATTACK")
        return self.game.action_for("ATTACK")

    def search(self, frame: GameFrame, rng: np.random.Generator) -> int:
        if self.can_walk:
            return super().act(frame, rng)
        if self.can_turn:
            if rng.random() < 0.02:
                self.turn = _opposite(self.turn)
            return self.game.action_for(self.turn)
        return self.game.action_for(str(rng.choice(["MOVE_LEFT", "MOVE_RIGHT"])))


class Dodger:
    """Looks a second ahead along three ways to go (left, right, stay) and takes the one that fireballs miss most."""

    ahead = 20  # frames
    near = 70.0  # map units beyond which a miss is as good as any other

    def __init__(self, game: VizdoomGame):
        self.game = game
        self._way, self._y, self._speed = 1.0, 0.0, 0.0

    def reset(self, rng: np.random.Generator) -> None:
        self._way, self._y, self._speed = float(rng.choice([-1.0, 1.0])), float("nan"), 0.0

    def act(self, frame: GameFrame, rng: np.random.Generator) -> int:
        """Strafing left is +y here: the player faces east throughout."""
        x, y = frame.state["x"], frame.state["y"]
        self._speed = y - self._y if self._y == self._y else 0.0
        if self._way and abs(self._speed) < 0.5 and rng.random() < 0.2:
            self._way = -self._way  # at a wall
        if rng.random() < 0.03:
            self._way = float(rng.choice([-1.0, 0.0, 1.0]))
        self._y = y
        balls = [b for b in self.game.labels if "Ball" in b.object_name]
        self._way = max((self._way, -self._way, 1.0, 0.0), key=lambda way: self._miss(x, y, way, balls))
        return self.game.action_for(*{1.0: ["MOVE_LEFT"], -1.0: ["MOVE_RIGHT"], 0.0: []}[self._way])

    def _miss(self, x: float, y: float, way: float, balls: list[Any]) -> float:
        """How near the nearest ball comes when the player keeps going this way."""
        frames = np.arange(1, self.ahead + 1)
        # Doom's friction on the way to 16 units a frame, each a difference of y
        speeds = 15.9 * way + (self._speed - 15.9 * way) * 0.82**frames
        ys = y + np.cumsum(speeds)
        miss = self.near
        for ball in balls:
            gap_x = ball.object_position_x + ball.object_velocity_x * self.game.tics * frames - x
            gap_y = ball.object_position_y + ball.object_velocity_y * self.game.tics * frames - ys
            miss = min(miss, float(np.hypot(gap_x, gap_y).min()))
        return miss


def _middle(thing: Any) -> float:
    return thing.x + thing.width / 2


def _is_item(thing: Any) -> bool:
    return thing.object_category not in ("Monster", "Player", "Self", "Unknown", "Effect", "Decoration")


def _opposite(button: str) -> str:
    return button.replace("LEFT", "RIGHT") if "LEFT" in button else button.replace("RIGHT", "LEFT")
