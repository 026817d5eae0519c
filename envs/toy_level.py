"""Levels of ToyGame: a strip of tiles, coins, walkers and a flag, all from one seed.

A level is 16 rows of 8-pixel tiles. It is laid out from left to right as a chain of pieces (a gap, a staircase, a
brick ledge, islands over a pit, ...), none of which asks for more than the player can jump: 36 pixels up, 58 across.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TILE = 8  # pixels
ROWS, COLUMNS = 16, 212
SUB = 256  # positions are whole numbers of 1/256 pixel
AIR, GROUND, BRICK, CRATE = range(4)
WALKER_WIDTH, WALKER_HEIGHT = 10, 9  # pixels
WALKER_SPEED = 104  # 1/256 pixel a tick
NUM_THEMES = 5


@dataclass(frozen=True)
class Walker:
    """An enemy that walks to and fro: where it is follows from the tick alone."""

    low: int  # leftmost and rightmost left edge, 1/256 pixel
    high: int
    y: int  # top edge, pixels
    phase: int

    def position(self, tick: int) -> tuple[int, int]:
        """The left edge in 1/256 pixel, and the direction -1 or 1."""
        span = self.high - self.low
        way = (self.phase + tick * WALKER_SPEED) % (2 * span)
        return (self.low + way, 1) if way < span else (self.low + 2 * span - way, -1)


@dataclass(frozen=True)
class Level:
    """tiles (16, columns) uint8; coins: centres in pixels, by x; flag: where its pole meets the ground, in pixels."""

    seed: int
    theme: int
    tiles: np.ndarray
    coins: tuple[tuple[int, int], ...]
    walkers: tuple[Walker, ...]
    flag: tuple[int, int]
    start: tuple[int, int]  # where the player's feet stand, pixels
    # Look-ups that keep a tick cheap: what may be touched in a column of tiles.
    solid: tuple[bytes, ...]
    coins_in_column: tuple[tuple[int, ...], ...]
    walkers_in_column: tuple[tuple[int, ...], ...]

    @property
    def width(self) -> int:
        """Pixels."""
        return self.tiles.shape[1] * TILE


def generate_level(seed: int) -> Level:
    rng = np.random.default_rng(seed)
    build = _Builder(rng)
    build.ground(9)
    pieces = (build.meadow, build.gap, build.step, build.stairs, build.ledge, build.islands, build.crates)
    previous = -1
    while build.column < COLUMNS - 38:  # the longest piece is 23 columns, the finish 13
        choice = int(rng.integers(len(pieces)))
        if choice != previous:
            pieces[choice]()
            previous = choice
    build.ground(COLUMNS - build.column)
    flag = ((COLUMNS - 7) * TILE, build.row * TILE)
    return build.finish(seed, flag)


class _Builder:
    """Lays pieces one after the other: `column` is the next free one, `row` the top row of the ground there."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.tiles = np.zeros((ROWS, COLUMNS), np.uint8)
        self.column, self.row = 0, 12
        self.coins: list[tuple[int, int]] = []
        self.walkers: list[Walker] = []

    def between(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def ground(self, count: int) -> int:
        """Fill the next columns; returns the first of them."""
        first = self.column
        self.tiles[self.row :, first : first + count] = GROUND
        self.column += count
        return first

    def change_row(self, by: int) -> None:
        self.row = min(max(self.row + by, 10), 13)

    def coin(self, column: int, row: int) -> None:
        self.coins.append((column * TILE + TILE // 2, row * TILE + TILE // 2))

    def walker(self, first: int, last: int, row: int) -> None:
        """A walker that patrols the columns first..last, standing on the top of `row`."""
        low, high = first * TILE * SUB, ((last + 1) * TILE - WALKER_WIDTH) * SUB
        self.walkers.append(Walker(low, high, row * TILE - WALKER_HEIGHT, self.between(0, 2 * (high - low) - 1)))

    # The pieces

    def meadow(self) -> None:
        count = self.between(7, 11)
        first = self.ground(count)
        if self.rng.random() < 0.7:
            self.walker(first + 1, first + count - 2, self.row)
        if self.rng.random() < 0.6:
            for i in range(self.between(3, 4)):
                self.coin(first + 2 + i, self.row - 2)

    def gap(self) -> None:
        self.ground(3)
        first, count = self.column, self.between(2, 4)
        for i in range(count):
            edge = min(i, count - 1 - i)
            self.coin(first + i, self.row - 4 - min(edge, 1))
        self.column += count
        self.change_row(self.between(-1, 1))
        self.ground(4)

    def step(self) -> None:
        self.change_row(int(self.rng.choice([-2, -1, 1, 2])))
        first, count = self.column, self.between(4, 7)
        self.ground(count)
        if count >= 6 and self.rng.random() < 0.5:
            self.walker(first + 1, first + count - 1, self.row)
        elif self.rng.random() < 0.5:
            self.coin(first + 2, self.row - 2)
            self.coin(first + 3, self.row - 2)

    def stairs(self) -> None:
        height = self.between(2, 3)
        heights = [*range(1, height + 1), height]
        if self.rng.random() < 0.6:
            heights += range(height - 1, 0, -1)
        self.ground(2)
        first = self.ground(len(heights) * 2)
        for i, h in enumerate(heights):
            self.tiles[self.row - h : self.row, first + 2 * i : first + 2 * i + 2] = BRICK
        top = first + 2 * height
        self.coin(top - 1, self.row - height - 2)
        self.coin(top, self.row - height - 2)
        self.ground(3)

    def ledge(self) -> None:
        count = self.between(9, 12)
        first = self.ground(count)
        length = self.between(4, 6)
        left = first + (count - length) // 2
        self.tiles[self.row - 4, left : left + length] = BRICK
        for i in range(1, length - 1):
            self.coin(left + i, self.row - 6)
        if self.rng.random() < 0.6:
            self.walker(first + 2, first + count - 2, self.row)

    def islands(self) -> None:
        self.ground(3)
        for _ in range(self.between(1, 2)):
            self.column += self.between(2, 3)
            row = min(max(self.row + self.between(-2, 1), 9), 13)
            length = self.between(3, 5)
            self.tiles[row : row + 2, self.column : self.column + length] = GROUND
            for i in range(1, length - 1):
                self.coin(self.column + i, row - 2)
            self.column += length
        self.column += self.between(2, 3)
        self.ground(4)

    def crates(self) -> None:
        count = self.between(8, 10)
        first = self.ground(count)
        left = first + 2
        self.tiles[self.row - 2 : self.row, left : left + 2] = CRATE
        if self.rng.random() < 0.5:
            self.tiles[self.row - 4 : self.row - 2, left : left + 2] = CRATE
            self.coin(left, self.row - 6)
            self.coin(left + 1, self.row - 6)
        else:
            self.coin(left, self.row - 4)
            self.coin(left + 1, self.row - 4)
        if self.rng.random() < 0.5:
            self.walker(left + 2, first + count - 1, self.row)

    def finish(self, seed: int, flag: tuple[int, int]) -> Level:
        coins = tuple(sorted(self.coins))
        near_coins: list[list[int]] = [[] for _ in range(COLUMNS)]
        for i, (x, _) in enumerate(coins):
            for column in range((x - 6) // TILE, (x + 6) // TILE + 1):
                near_coins[column].append(i)
        near_walkers: list[list[int]] = [[] for _ in range(COLUMNS)]
        for i, w in enumerate(self.walkers):
            for column in range(w.low // SUB // TILE, (w.high // SUB + WALKER_WIDTH) // TILE + 1):
                near_walkers[column].append(i)
        self.tiles.flags.writeable = False
        return Level(
            seed=seed,
            theme=int(self.rng.integers(NUM_THEMES)),
            tiles=self.tiles,
            coins=coins,
            walkers=tuple(self.walkers),
            flag=flag,
            start=(3 * TILE, 12 * TILE),
            solid=tuple(bytes(row) for row in self.tiles),
            coins_in_column=tuple(map(tuple, near_coins)),
            walkers_in_column=tuple(map(tuple, near_walkers)),
        )
