"""The still pictures of ToyGame: sky, clouds, mountains and hills that move slower than the ground, and the ground."""

from __future__ import annotations

import numpy as np

from worldgen.envs.toy_art import PIXEL, colour
from worldgen.envs.toy_ground import LEVEL_HEIGHT, paint_ground, solid_pixels
from worldgen.envs.toy_level import Level
from worldgen.envs.toy_themes import THEMES, Theme

BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) / 16  # dithers one shade into the next


class Scenery:
    """The painted layers of one level for one picture size; `draw` puts the part a camera sees onto a canvas."""

    def __init__(self, level: Level, height: int, width: int):
        self.height, self.width = height, width
        self.top = max(height - LEVEL_HEIGHT, 0)  # extra sky above the level in tall pictures
        theme = THEMES[level.theme]
        rng = np.random.default_rng([level.seed, 1])
        tall = self.top + LEVEL_HEIGHT
        travel = max(level.width - width, 0)
        self.sky = _paint_sky(theme, rng, tall, width)
        self.layers = [
            (8, *_paint_clouds(theme, rng, tall, width + travel // 8)),
            (4, *_paint_mountains(theme, rng, tall, width + travel // 4)),
            (2, *_paint_hills(theme, rng, tall, width + travel // 2)),
            (1, *paint_ground(theme, rng, level, tall, width + travel)),
        ]
        self.is_ground = np.zeros((tall, width + travel), bool)
        self.is_ground[self.top :, : level.width] = solid_pixels(level)[:, : width + travel]

    def draw(self, canvas: np.ndarray, camera_x: int, camera_y: int) -> None:
        """canvas (h, w) PIXEL; the camera's left and top edge in pixels of the level (negative: above it)"""
        rows = slice(self.top + camera_y, self.top + camera_y + self.height)
        canvas[:] = self.sky[rows]
        for slowness, pixels, mask in self.layers:
            columns = slice(camera_x // slowness, camera_x // slowness + self.width)
            np.copyto(canvas, pixels[rows, columns], where=mask[rows, columns])

    def ground_mask(self, camera_x: int, camera_y: int) -> np.ndarray:
        """(h, w) bool: solid ground, bricks and crates"""
        top = self.top + camera_y
        return self.is_ground[top : top + self.height, camera_x : camera_x + self.width].copy()


def _blank(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((height, width), PIXEL), np.zeros((height, width), bool)


def _shades(codes: tuple[str, ...]) -> np.ndarray:
    return np.array([colour(c) for c in codes], PIXEL)


def _paint_sky(theme: Theme, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Bands of colour, dithered into each other, with a sun or a moon and stars."""
    bands = _shades(theme.sky)
    y, x = np.mgrid[:height, :width]
    depth = y / (height * 0.8) * (len(bands) - 1) + (BAYER[y % 4, x % 4] - 0.5) * 0.5
    sky = bands[np.clip(np.round(depth).astype(int), 0, len(bands) - 1)]
    if theme.has_stars:
        for _ in range(34):
            sy, sx = int(rng.integers(height * 3 // 5)), int(rng.integers(width))
            sky[sy, sx] = colour("#ffffff" if rng.random() < 0.4 else "#8f9fe0")
    cy, cx = int(height * rng.uniform(0.14, 0.24)), int(width * rng.uniform(0.6, 0.82))
    distance = (y - cy) ** 2 + (x - cx) ** 2
    sky[distance < 11**2] = colour(theme.sun[1])
    sky[distance < 9**2] = colour(theme.sun[0])
    if theme.has_stars:  # craters
        for dy, dx, r in ((-3, 2, 2), (3, -3, 3), (2, 5, 1)):
            sky[(y - cy - dy) ** 2 + (x - cx - dx) ** 2 < r**2 + 1] = colour(theme.sun[1])
    return sky


def _paint_clouds(theme: Theme, rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    pixels, mask = _blank(height, width)
    y, x = np.mgrid[:height, :width]
    left = int(rng.integers(10, 40))
    while left < width:
        base = int(height * rng.uniform(0.14, 0.4))
        length = int(rng.integers(18, 34))
        puffs = np.zeros_like(mask)
        for i in range(3):
            cx, r = left + length * (i + 1) // 4, (5, 8, 6)[i] * rng.uniform(0.8, 1.1)
            puffs |= ((x - cx) / 1.5) ** 2 + (y - base) ** 2 < r**2
        puffs &= y < base + 2
        pixels[puffs] = colour(theme.cloud[0])
        pixels[puffs & (y > base - 2)] = colour(theme.cloud[1])
        mask |= puffs
        left += length + int(rng.integers(14, 46))
    return pixels, mask


def _paint_mountains(theme: Theme, rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping peaks, lit from the left, with snow or a light rim on top."""
    pixels, mask = _blank(height, width)
    y, x = np.mgrid[:height, :width]
    snow, lit, dark = _shades(theme.mountain)
    foot = height - 26
    centre = int(rng.integers(-10, 20))
    while centre < width + 40:
        peak = foot - int(rng.integers(26, 48))
        slope = rng.uniform(0.85, 1.25)
        ragged = np.abs((x * 7 + y * 3) % 13 - 6) // 3
        inside = (y - peak > np.abs(x - centre) * slope) & (y < foot + 26)
        ridge = centre + ((y - peak) // 5 % 3 - 1) + (y - peak) // 6
        pixels[inside] = lit
        pixels[inside & (x > ridge)] = dark
        pixels[inside & (y - peak < 9 + ragged) & (x <= ridge)] = snow
        pixels[inside & (y - peak < 6 + ragged) & (x > ridge)] = snow if theme.mountain[0] == "#ffffff" else lit
        mask |= inside
        centre += int(rng.integers(26, 52))
    return pixels, mask


def _paint_hills(theme: Theme, rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """One rolling line with a light rim and small trees on it."""
    pixels, mask = _blank(height, width)
    y, x = np.mgrid[:height, :width]
    rim, body, tree = _shades(theme.hill)
    columns = np.arange(width)
    line = np.full(width, height - 44.0)
    for length, size in ((131, 7.0), (67, 4.0), (29, 1.5)):
        line = line + size * np.sin(2 * np.pi * (columns / length + rng.random()))
    line = np.round(line).astype(int)
    at = int(rng.integers(4, 16))
    while at < width - 6:
        tall, top = int(rng.integers(9, 16)), line[at]
        for k in range(tall):  # a fir: three flounces
            half = min(1 + k % 5 * 0.6 + k / 5, 4)
            inside = (np.abs(x[0] - at) <= half).nonzero()[0]
            pixels[top - tall + k + 1, inside] = tree
            mask[top - tall + k + 1, inside] = True
        at += int(rng.integers(7, 30))
    inside = y >= line
    pixels[inside] = body
    pixels[inside & (y < line + 2)] = rim
    stripes = inside & ((y - line + x // 9) % 11 == 7) & ((x // 3 + y) % 4 < 2)
    pixels[stripes] = rim
    gloom = (y - (height - 34)) / 34 * 2 + (BAYER[y % 4, x % 4] - 0.5) * 0.8  # pits end in the dark
    pixels[inside & (gloom > 0.5)] = tree
    pixels[inside & (gloom > 1.4)] = colour(theme.earth[3])
    return pixels, mask | inside
