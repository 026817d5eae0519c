"""The Pyxel games that come with Pyxel: where they are, what presses them, when they are over, what is where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ARROWS = ("left", "right", "up", "down")
Facts = Callable[[Any, dict[str, Any]], dict[str, float]]  # (the game's object, its module's globals) -> columns


@dataclass(frozen=True)
class PyxelSpec:
    """script: in Pyxel's examples folder, or inside a .pyxapp there. fps: the game's own.
    actions: name -> keys held together. Keys are pygame's names; `jump` and `fire` are what space does.
    facts: numbers that are recorded; "over" (ended by losing or winning) and "score" (its rise is the reward) are
    not columns. A game whose title waits for Enter has has_title."""

    script: str
    fps: int
    actions: dict[str, tuple[str, ...]]
    facts: Facts
    app: str = ""
    has_title: bool = False
    licence: str = "MIT"


def _moves(*directions: str, button: str = "", key: str = "space", together: tuple[str, ...] = ()) -> dict:
    actions: dict[str, tuple[str, ...]] = {"idle": ()} | {d: (d,) for d in directions}
    if button:
        actions[button] = (key,)
        actions |= {f"{d} + {button}": (d, key) for d in together}
    return actions


def _at(thing: Any, *names: str, prefix: str = "") -> dict[str, float]:
    """The attributes of something that may not exist (zeros then)."""
    return {f"{prefix}{n}": float(getattr(thing, n, 0) or 0) for n in names}


def _enemies(enemies: list[Any], player: Any) -> dict[str, float]:
    """How many there are, where the one is that reaches the player's height next, and how far to the side the one is
    that is about to hit (0: none is)."""
    if player is None:
        return {"enemy_x": 0.0, "enemy_y": 0.0, "threat_dx": 0.0, "num_enemies": float(len(enemies))}
    target = max((e for e in enemies if e.y < player.y - 24), key=lambda e: e.y, default=None)
    threats = [e for e in enemies if abs(e.x - player.x) < 18 and -10 < player.y - e.y < 36]
    threat = min(threats, key=lambda e: abs(e.x - player.x) + abs(e.y - player.y), default=None)
    threat_dx = 0.0 if threat is None else float(threat.x - player.x) or 0.5
    return _at(target, "x", "y", prefix="enemy_") | {"threat_dx": threat_dx, "num_enemies": float(len(enemies))}


def _jump(app: Any, _: dict[str, Any]) -> dict[str, float]:
    facts = _at(app, "player_x", "player_y", "player_dy", "score") | {"over": float(not app.is_alive)}
    # where to be to land on the floor that takes the least steering; floors drift left by 4 a frame, steps are 2
    landings = []
    for x, y, alive in app.floor:
        frames, height, speed = 0, app.player_y + 16, app.player_dy
        while height < y + 4 and frames < 60:
            height, speed, frames = height + speed, min(speed + 1, 8), frames + 1
        wanted = x - 4 * frames + 12
        if alive and y > app.player_y + 8 and abs(wanted - app.player_x) - 18 <= 2 * frames and -10 < wanted < 150:
            landings.append((abs(wanted - app.player_x) - 2 * frames, wanted, y))
    easiest = min(landings, default=(0, -1, -1))
    return facts | {"landing_x": float(easiest[1]), "landing_y": float(easiest[2])}


def _platformer(_: Any, module: dict[str, Any]) -> dict[str, float]:
    player = module["player"]
    module.setdefault("worldgen_best", 0)
    module["worldgen_best"] = max(module["worldgen_best"], player.x // 8)
    x, y = int(player.x), int(player.y)
    get_tile, is_wall = module["get_tile"], module["is_wall"]

    def is_solid(x: int, y: int) -> bool:  # from the side: a floor stops what falls onto it alone
        return bool(get_tile(x // 8, y // 8)[0] >= module["WALL_TILE_X"])

    def is_pit(x: int) -> bool:
        return not any(is_wall(x, below) for below in range(max(0, y) + 8, 128, 8))

    # pixels to what is in the way on the right and to the nearest enemy, 0 where there is none
    wall = next((d for d in range(1, 25) if is_solid(x + 7 + d, y + 4)), 0)
    pit = next((d for d in range(1, 25) if is_pit(x + 3 + d)), 0)
    near = [(e.x - x, e.y - y) for e in module["enemies"] if abs(e.x - x) < 32]
    enemy_dx, enemy_dy = min(near, key=lambda gap: abs(gap[0]) + abs(gap[1]), default=(0, 0))
    return _at(player, "x", "y", "dx", "dy", "direction") | {
        "stands": float(is_wall(x, y + 8) or is_wall(x + 7, y + 8)),
        "wall_dx": float(wall),
        "pit_dx": float(pit),
        "enemy_dx": float(enemy_dx),
        "enemy_dy": float(enemy_dy),
        "scroll_x": float(module["scroll_x"]),
        "num_enemies": float(len(module["enemies"])),
        "score": float(module["worldgen_best"]),  # it keeps no score: new ground covered, in tiles
    }


def _shooter(app: Any, module: dict[str, Any]) -> dict[str, float]:
    return (
        _at(app.player, "x", "y")
        | _at(app, "score")
        | _enemies(module["enemies"], app.player)
        | {"num_bullets": float(len(module["bullets"])), "over": float(app.scene == 2)}
    )


def _snake(app: Any, _: dict[str, Any]) -> dict[str, float]:
    (x, y), (dx, dy), (apple_x, apple_y) = app.snake[0], app.direction, app.apple
    places = {"x": x, "y": y, "dx": dx, "dy": dy, "apple_x": apple_x, "apple_y": apple_y, "length": len(app.snake)}
    return {k: float(v) for k, v in places.items()} | _at(app, "score") | {"over": float(app.death)}


def _caverns(game: Any, _: dict[str, Any]) -> dict[str, float]:
    return (
        _at(game.player, "x", "y", "dx", "dy")
        | _at(game, "score", "screen_x")
        | {"num_enemies": float(len(game.enemies)), "over": float(game.scene_name in ("gameover", "clear"))}
    )


def _mega_wing(game: Any, _: dict[str, Any]) -> dict[str, float]:
    return (
        _at(game.player, "x", "y")
        | _at(game, "score", "level")
        | _enemies(game.enemies, game.player)
        | {"num_bullets": float(len(game.enemy_bullets)), "over": float(game.scene == 2)}
    )


def _space_rescue(app: Any, _: dict[str, Any]) -> dict[str, float]:
    x, y = app.survivors[0] if app.survivors else (-1, -1)
    return (
        _at(app, "ship_x", "ship_y", "ship_vx", "ship_vy", "ship_dir", "score")
        | {"survivor_x": float(x), "survivor_y": float(y), "num_meteors": float(len(app.meteors))}
        | {"over": float(app.is_exploding)}
    )


def _laser_jetman(app: Any, _: dict[str, Any]) -> dict[str, float]:
    play = app.gameplay
    if play is None:
        return {"over": 0.0}
    return (
        _at(play.player, "x", "y")
        | _at(play, "score", "lives", "scroll_x")
        | {"num_enemies": float(len(play.enemies)), "over": float(play.state == "GAME_OVER")}
    )


GAMES = {
    "jump": PyxelSpec("02_jump_game.py", 30, _moves("left", "right"), _jump),
    "snake": PyxelSpec("07_snake.py", 20, _moves(*ARROWS), _snake),
    "shooter": PyxelSpec(
        "09_shooter.py", 30, _moves(*ARROWS, button="fire", together=ARROWS), _shooter, has_title=True
    ),
    "platformer": PyxelSpec(
        "10_platformer.py", 30, _moves("left", "right", button="jump", together=("left", "right")), _platformer
    ),
    "cursed_caverns": PyxelSpec(
        "main.py",
        30,
        _moves("left", "right", button="jump", together=("left", "right")),
        _caverns,
        app="cursed_caverns",
        has_title=True,
    ),
    "mega_wing": PyxelSpec(
        "mega_wing.py",
        30,
        _moves(*ARROWS, button="fire", together=ARROWS),
        _mega_wing,
        app="mega_wing",
        has_title=True,
    ),
    "space_rescue": PyxelSpec(
        "space_rescue.py", 30, _moves(button="jet"), _space_rescue, app="space_rescue", has_title=True
    ),
    "laser_jetman": PyxelSpec(
        "main.py",
        60,
        _moves("left", "right", "up", button="fire", key="j", together=("left", "right", "up"))
        | {"up + left": ("up", "left"), "up + right": ("up", "right")},
        _laser_jetman,
        app="laser-jetman",
        has_title=True,
    ),
}
