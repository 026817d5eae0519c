"""One picture of ToyGame: what the camera sees, drawn; or labelled, for ground truth."""

from __future__ import annotations

import bisect
from collections.abc import Iterator

import numpy as np

from worldgen.envs.toy_art import PIXEL, Sprite, colour, sprites
from worldgen.envs.toy_level import ROWS, SUB, TILE, WALKER_HEIGHT, Level
from worldgen.envs.toy_physics import DEAD, ENDING_TICKS, HEIGHT, PLAYING, WIDTH, WON, PlayState
from worldgen.envs.toy_scenery import Scenery

CURTAIN = colour("#140c1c")
LABELS = ("background", "ground", "flag", "coins", "walkers", "player")


def draw_picture(scenery: Scenery, level: Level, play: PlayState) -> np.ndarray:
    """-> (h, w, 3) uint8"""
    camera_x, camera_y = find_camera(scenery.height, scenery.width, level, play)
    canvas = np.empty((scenery.height, scenery.width), PIXEL)
    scenery.draw(canvas, camera_x, camera_y)
    for _, sprite, x, y in _in_view(level, play, camera_x, scenery.width):
        _stamp(canvas, sprite, x - camera_x, y - camera_y)
    if play.outcome != PLAYING:
        canvas[_curtain(play, scenery, camera_x, camera_y)] = CURTAIN
    return np.ascontiguousarray(canvas.view(np.uint8).reshape(scenery.height, scenery.width, 4)[:, :, :3])


def draw_labels(scenery: Scenery, level: Level, play: PlayState) -> dict[str, np.ndarray]:
    """-> a mask (h, w) bool for each of LABELS but the background"""
    camera_x, camera_y = find_camera(scenery.height, scenery.width, level, play)
    labels = scenery.ground_mask(camera_x, camera_y).astype(np.uint8) * LABELS.index("ground")
    for label, sprite, x, y in _in_view(level, play, camera_x, scenery.width):
        stencil = Sprite(np.full(sprite.mask.shape, LABELS.index(label), np.uint8), sprite.mask)
        _stamp(labels, stencil, x - camera_x, y - camera_y)
    if play.outcome != PLAYING:
        labels[_curtain(play, scenery, camera_x, camera_y)] = 0
    return {name: labels == i for i, name in enumerate(LABELS) if i}


def find_camera(height: int, width: int, level: Level, play: PlayState) -> tuple[int, int]:
    """The left and top edge of the picture in pixels of the level: it follows the player, with more room ahead."""
    x = (play.x + WIDTH // 2) // SUB - width * 2 // 5
    spare = ROWS * TILE - height
    y = play.y // SUB - height // 3
    return min(max(x, 0), level.width - width), min(max(y, 0), spare) if spare > 0 else spare


def _in_view(level: Level, play: PlayState, left: int, width: int) -> Iterator[tuple[str, Sprite, int, int]]:
    """label, sprite, x, y of its top left in pixels of the level, in drawing order"""
    art, tick = sprites(), play.tick
    flag_x, flag_y = level.flag
    if flag_x - left < width + 8:
        flag = art[f"flag{tick // 8 % 4}"]
        yield "flag", flag, flag_x - 2, flag_y - flag.mask.shape[0]

    first = bisect.bisect_left(level.coins, (left - 8, 0))
    last = bisect.bisect_right(level.coins, (left + width + 8, 0))
    spin = art[f"coin{tick // 8 % 4}"]
    for i in range(first, last):
        x, y = level.coins[i]
        if i not in play.taken:
            yield "coins", spin, x - 4, y - 4
        elif tick - play.taken[i] < 12:
            age = tick - play.taken[i]
            yield "background", art[f"sparkle{age // 4}"], x - 4, y - 6 - age // 2

    for i, walker in enumerate(level.walkers):
        if i not in play.stomped:
            x, way = walker.position(tick)
            sprite = art[f"walker{x // SUB // 4 % 2}" + (" left" if way < 0 else "")]
        elif tick - play.stomped[i] < 20:
            x, _ = walker.position(play.stomped[i])
            sprite = art["squashed"]
        else:
            continue
        if left - 16 < x // SUB < left + width + 16:
            yield "walkers", sprite, x // SUB - 1, walker.y + WALKER_HEIGHT - sprite.mask.shape[0]

    age = tick - play.dust_at
    if age < 9:
        yield "background", art[f"dust{age // 3}"], play.dust_x // SUB - 9, play.dust_y // SUB - 4
    player = art[_pose(play) + (" left" if play.facing < 0 else "")]
    x, y = play.x // SUB - 2, (play.y + HEIGHT) // SUB - player.mask.shape[0]
    yield "player", player, x, y


def _pose(play: PlayState) -> str:
    if play.outcome == DEAD:
        return "hurt"
    if play.outcome == WON:
        return "cheer"
    if not play.on_ground:
        return "rise" if play.vy < 0 else "drop"
    if play.vx:
        return f"run{play.x // SUB // 6 % 4}"
    return "blink" if play.tick % 150 < 8 else "stand"


def _curtain(play: PlayState, scenery: Scenery, camera_x: int, camera_y: int) -> np.ndarray:
    """(h, w) bool: outside the circle that closes around the player after the end"""
    h, w = scenery.height, scenery.width
    left = ENDING_TICKS - (play.tick - play.ended_at)
    radius = 13 + max(left, 0) * (h + w) * 2 // 3 // ENDING_TICKS
    x = min(max((play.x + WIDTH // 2) // SUB - camera_x, 0), w - 1)
    y = min(max((play.y + HEIGHT // 2) // SUB - camera_y, 0), h - 1)
    rows, columns = np.arange(h)[:, None] - y, np.arange(w) - x
    return rows * rows + columns * columns > radius * radius


def _stamp(canvas: np.ndarray, sprite: Sprite, x: int, y: int) -> None:
    """Copy a sprite, cut off at the edges, to column x and row y."""
    h, w = sprite.mask.shape
    top, left = max(-y, 0), max(-x, 0)
    bottom, right = min(h, canvas.shape[0] - y), min(w, canvas.shape[1] - x)
    if top < bottom and left < right:
        part = slice(top, bottom), slice(left, right)
        np.copyto(canvas[y + top : y + bottom, x + left : x + right], sprite.pixels[part], where=sprite.mask[part])
