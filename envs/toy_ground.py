"""What ToyGame's player walks on, painted: turf and earth, bricks, crates, and plants that grow on the turf."""

from __future__ import annotations

import numpy as np

from worldgen.envs.toy_art import PIXEL, Sprite, colour
from worldgen.envs.toy_level import AIR, BRICK, CRATE, GROUND, ROWS, TILE, Level
from worldgen.envs.toy_themes import Theme

LEVEL_HEIGHT = ROWS * TILE

# Letters: light, body, dark, outline.

BRICK_TILE = """
llllllll
bbbdbbbb
bbbdbbbb
dddddddd
llllllll
bbbbbbbd
bbbbbbbd
dddddddd
"""
CRATE_TILE = """
oooooooooooooooo
ollllllllllllllo
olbbbbbbbbbbbbdo
olboooooooooobdo
olbobbbbbbbblodo
olbobdbbbbblbodo
olbobbdbbblbbodo
olbobbbdblbbbodo
olbobbbblbbbbodo
olbobbblbdbbbodo
olbobblbbbdbbodo
olboblbbbbbdbodo
olboooooooooobdo
olbbbbbbbbbbbbdo
oddddddddddddddo
oooooooooooooooo
"""
STONES = ("ll..\nlbbd\n.dd.", ".l.\nlbd\n.d.", "lll.\nlbbd\nlbbd\n.dd.")
GRASS = ("l..b.\n.b.b.\n.bbb.", ".l..l\n.bb.b\n..bb.")
FLOWER = (".l.\nlol\n.l.\n.b.\nbb.", ".l..\nlol.\n.l.b\n.bb.\n.b..")
BUSH = """
.....oooo.....
..ooollllooo..
.ollllbbblllo.
ollbbblbbbbblo
obblbbbbblbbdo
obbbbbdbbbbddo
obddbbbbdbdddo
"""


def paint_ground(
    theme: Theme, rng: np.random.Generator, level: Level, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """-> pixels (h, w) PIXEL, mask (h, w) bool; the level stands at the bottom left"""
    pixels = np.zeros((height, max(width, level.width)), PIXEL)
    mask = np.zeros(pixels.shape, bool)
    part = slice(height - LEVEL_HEIGHT, height), slice(0, level.width)
    _paint_earth(theme, rng, level, pixels[part])
    _paint_blocks(theme, level, pixels[part])
    mask[part] = solid_pixels(level)
    _plant(theme, rng, level, pixels[part], mask[part])
    return pixels[:, :width], mask[:, :width]


def solid_pixels(level: Level) -> np.ndarray:
    """(h, w) bool: what the player cannot enter"""
    return _by_pixel(level.tiles != AIR)


def _by_pixel(tiles: np.ndarray) -> np.ndarray:
    return tiles.repeat(TILE, 0).repeat(TILE, 1)


def _colours(codes: tuple[str, ...]) -> np.ndarray:
    return np.array([colour(c) for c in codes], PIXEL)


def _paint_earth(theme: Theme, rng: np.random.Generator, level: Level, pixels: np.ndarray) -> None:
    is_earth = _by_pixel(level.tiles == GROUND)
    height, width = is_earth.shape
    depth = np.zeros((height, width), int)  # 1 at the surface
    for row in range(height):
        depth[row] = is_earth[row] * (1 + (depth[row - 1] if row else 0))
    fine = rng.random((height, width))
    coarse = _by_pixel(rng.random((height // TILE * 4, width // TILE * 4)))[::4, ::4]  # specks of 2 by 2 pixels
    light, body, dark, outline = _colours(theme.earth)
    pixels[is_earth] = body
    pixels[is_earth & (coarse < 0.08)] = light
    pixels[is_earth & (coarse > 0.9)] = dark
    pixels[is_earth & (depth > 20) & ((fine < 0.4) | (depth > 30))] = dark
    for _ in range(width // 10):
        y, x = int(rng.integers(height - 5)), int(rng.integers(width - 5))
        stone = _picture(STONES[int(rng.integers(len(STONES)))], theme.earth)
        h, w = stone.mask.shape
        if depth[y : y + h, x : x + w].min() > 9:
            np.copyto(pixels[y : y + h, x : x + w], stone.pixels, where=stone.mask)
    has_left, has_right = np.roll(is_earth, 1, 1), np.roll(is_earth, -1, 1)
    is_bottom = is_earth & ~np.vstack([is_earth[1:], np.ones((1, width), bool)])
    pixels[is_earth & ~np.roll(has_right, -1, 1)] = dark
    pixels[(is_earth & ~(has_left & has_right)) | is_bottom] = outline

    bright, turf, shade = _colours(theme.turf)
    hem = 5 + np.round(np.sin(np.arange(width) * 0.8) + rng.uniform(-1, 1, width)).astype(int)
    pixels[is_earth & (depth <= hem + 1)] = outline
    pixels[is_earth & (depth <= hem)] = shade
    pixels[is_earth & (depth <= np.minimum(hem - 1, 4))] = turf
    pixels[is_earth & (depth <= 2) & ((depth == 1) | (fine < 0.5))] = bright


def _paint_blocks(theme: Theme, level: Level, pixels: np.ndarray) -> None:
    outline = theme.earth[3]
    brick = _picture(BRICK_TILE, (*theme.brick, outline)).pixels
    crate = _picture(CRATE_TILE, ("#f0c078", "#c98a48", "#94602f", "#4a2c1c")).pixels
    is_brick = level.tiles == BRICK
    for r, c in np.argwhere(is_brick).tolist():
        pixels[r * TILE : (r + 1) * TILE, c * TILE : (c + 1) * TILE] = brick
    inside = _by_pixel(is_brick)
    solid = solid_pixels(level)
    core = np.roll(solid, 1, 1) & np.roll(solid, -1, 1) & np.roll(solid, 1, 0) & np.roll(solid, -1, 0)
    pixels[inside & ~core] = colour(outline)
    left = level.tiles == CRATE  # crates are two tiles wide and high
    for r, c in np.argwhere(left).tolist():
        if left[r, c]:
            pixels[r * TILE : (r + 2) * TILE, c * TILE : (c + 2) * TILE] = crate
            left[r : r + 2, c : c + 2] = False


def _plant(theme: Theme, rng: np.random.Generator, level: Level, pixels: np.ndarray, mask: np.ndarray) -> None:
    """Grass, flowers and bushes on the surface of the earth, where there is room."""
    surface = (level.tiles == GROUND) & (np.roll(level.tiles, 1, 0) == AIR)
    for r, c in np.argwhere(surface).tolist():
        luck = rng.random()
        shape = int(rng.integers(2))
        if luck < 0.3:
            plant = _picture(GRASS[shape], (*theme.turf, theme.earth[3]))
        elif luck < 0.42:
            petal, heart = theme.flowers[shape], theme.flowers[1 - shape]
            plant = _picture(FLOWER[shape], (petal, theme.turf[2], theme.turf[2], heart))
        elif luck < 0.5 and c + 2 < level.tiles.shape[1] and surface[r, c : c + 2].all():
            plant = _picture(BUSH, (*theme.turf, theme.earth[3]))
        else:
            continue
        h, w = plant.mask.shape
        y, x = r * TILE - h, c * TILE + 1
        np.copyto(pixels[y : y + h, x : x + w], plant.pixels, where=plant.mask)
        mask[y : y + h, x : x + w] |= plant.mask


def _picture(text: str, shades: tuple[str, str, str, str]) -> Sprite:
    """Letters l, b, d and o in these shades."""
    return Sprite.from_text(text, dict(zip("lbdo", shades, strict=True)))
