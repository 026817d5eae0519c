"""The start screen: the worlds there are, each a moving picture; the chosen one plays by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pygame

from worldgen.play.preview import Preview
from worldgen.play.shelf import Found
from worldgen.play.start_image import load_start
from worldgen.play.window_display import AROUND, Display, enlarged, fit, panel_surface
from worldgen.play.window_gamepad import Gamepads

if TYPE_CHECKING:
    from worldgen.world import World

PREVIEW_FPS = 4  # of the worlds that are not chosen
CHOSEN, OTHER = (255, 200, 60), (60, 60, 70)
PAD_KEYS = {"pad left": "left", "pad right": "right", "pad up": "up", "pad down": "down", "pad 0": "return"}
HELP = [
    "left right: choose a world    up down: where it starts    enter: play",
    "drop a picture or a clip to start from it    esc: leave",
]


@dataclass(frozen=True)
class Choice:
    """What to play. start: as World.reset takes it."""

    found: Found
    world: World
    start: int | np.ndarray | None


class Menu:
    """run() -> what was chosen, None when the window was closed. load: a world by its name."""

    def __init__(self, display: Display, worlds: Sequence[Found], load: Callable[[str], World], chosen: int = 0):
        self.display = display
        self._worlds, self._load = worlds, load
        self.chosen = chosen
        self.start: int | None = None
        self._loaded: tuple[int, World] | None = None
        self._preview: Preview | None = None
        self._choice: Choice | None = None
        self._is_over = False
        self._gamepads = Gamepads(self._pad, lambda pad: None, display.say)

    def run(self, loaded: World | None = None, said: str = "") -> Choice | None:
        """loaded: the chosen world, where it was played before. said: of that game, at first."""
        self.display.name("worldgen")
        self._loaded = None if loaded is None else (self.chosen, loaded)
        self._choice, self._is_over = None, False
        self.display.say(said)
        self._open_preview()
        due = 0.0
        try:
            while not self._is_over:
                for event in (pygame.event.wait(100), *pygame.event.get()):
                    self._handle(event)
                    is_frame = event.type == self.display.frame_event
                    due = 0.0 if is_frame or event.type != pygame.NOEVENT else due
                now = time.perf_counter()
                if now >= due:
                    due = now + 1 / PREVIEW_FPS
                    self.display.message_ended(now)
                    self.draw(now)
        except KeyboardInterrupt:
            return None
        finally:
            self._close_preview()
        return self._choice

    # the chosen world

    def _open_preview(self) -> None:
        found = self._worlds[self.chosen]
        if found.problem:
            self._preview = None
            return
        world = self._loaded[1] if self._loaded is not None and self._loaded[0] == self.chosen else None
        self._preview = Preview(lambda: self._load(found.name), self._on_frame, world)
        self._preview.choose_start(self.start)

    def _on_frame(self) -> None:
        pygame.event.post(pygame.event.Event(self.display.frame_event))

    def _close_preview(self) -> None:
        if self._preview is not None:
            self._preview.close()
            if self._preview.image is not None and self._preview.world is not None:
                self._loaded = (self.chosen, self._preview.world)

    def _choose(self, index: int) -> None:
        self._close_preview()
        self.chosen, self.start = index % len(self._worlds), None
        self._open_preview()

    def _play(self, start: int | np.ndarray | None) -> None:
        found = self._worlds[self.chosen]
        if self._preview is None:
            self.display.say(found.problem)
            return
        if self._preview.image is None and not self._preview.error:
            self.display.say("loading")
            self.draw(time.perf_counter())
        world = self._preview.finish()
        if world is None:
            self.display.say(self._preview.error)
            return
        if start is None and not world.num_starts:
            self.display.say("no starts of its own: drop a picture or a clip here, or play it with --start FILE")
            return
        self._choice, self._is_over = Choice(found, world, start), True

    # events

    def _handle(self, event: pygame.event.Event) -> None:
        if event.type == pygame.QUIT:
            self._is_over = True
        elif event.type == pygame.KEYDOWN:
            self._key(pygame.key.name(event.key))
        elif event.type == pygame.MOUSEBUTTONDOWN and event.button == 1:
            for i, tile in enumerate(self._tiles()):
                if tile.collidepoint(event.pos):
                    if i == self.chosen:
                        self._play(self.start)
                    else:
                        self._choose(i)
        elif event.type == pygame.DROPFILE:
            self._drop(Path(event.file))
        elif event.type == pygame.VIDEORESIZE:
            self.display.resized(event.size)
        else:
            self._gamepads.handle(event)

    def _pad(self, control: str, is_down: bool, pad: str) -> None:
        if is_down and control in PAD_KEYS:
            self._key(PAD_KEYS[control])

    def _key(self, key: str) -> None:
        if key in ("escape", "f10"):
            self._is_over = True
        elif key in ("return", "space", "enter"):
            self._play(self.start)
        elif key in ("left", "right"):
            self._choose(self.chosen + (1 if key == "right" else -1))
        elif key in ("up", "down"):
            self._next_start(1 if key == "down" else -1)
        elif key == "f11":
            self.display.toggle_fullscreen()

    def _next_start(self, step: int) -> None:
        starts = self._worlds[self.chosen].starts
        if starts is None or self._preview is None:
            return
        choices: list[int | None] = [None, *range(len(starts.frames))]
        self.start = choices[(choices.index(self.start) + step) % len(choices)]
        self._preview.choose_start(self.start)

    def _drop(self, path: Path) -> None:
        config = self._worlds[self.chosen].config
        if config is None:
            return
        try:
            self._play(load_start(path, config.height, config.width, config.fps))
        except ValueError as error:
            self.display.say(str(error))

    # drawing

    def _tiles(self) -> list[pygame.Rect]:
        """A row of tiles with the chosen one in sight, as large as fit."""
        width, height = self.display.screen.get_size()
        margin, foot = 16, 24 * self.display.text_scale
        columns = min(len(self._worlds), max(1, width // 320))
        side = max(8, (width - margin) // columns - margin)
        tall = max(8, min(side * 3 // 4 + foot, height - 2 * margin - 2 * foot))
        first = max(0, min(self.chosen - columns // 2, len(self._worlds) - columns))
        left = (width - columns * (side + margin) + margin) // 2
        return [
            pygame.Rect(left + (i - first) * (side + margin), (height - tall) // 2, side, tall)
            for i in range(len(self._worlds))
        ]

    def draw(self, now: float) -> None:
        screen, scale = self.display.screen, self.display.text_scale
        screen.fill(AROUND)
        width, height = screen.get_size()
        for i, (found, tile) in enumerate(zip(self._worlds, self._tiles(), strict=True)):
            self._draw_tile(found, tile, i == self.chosen, int(now * PREVIEW_FPS))
        title = panel_surface(["worldgen"], 2 * scale, 255)
        screen.blit(title, title.get_rect(center=(width // 2, 14 * scale)))
        lines = [self.display.message] if self.display.message else HELP
        self.display.panel(lines, (width // 2, height - 16 * scale))
        pygame.display.flip()

    def _draw_tile(self, found: Found, tile: pygame.Rect, is_chosen: bool, tick: int) -> None:
        screen, scale = self.display.screen, self.display.text_scale
        pygame.draw.rect(screen, CHOSEN if is_chosen else OTHER, tile.inflate(6, 6), border_radius=4)
        pygame.draw.rect(screen, AROUND, tile)
        room = tile.copy()
        room.height -= 24 * scale
        image = found.preview(tick)
        problem = found.problem
        if is_chosen and self._preview is not None:
            image = self._preview.image if self._preview.image is not None else image
            problem = self._preview.error
        if image is not None:
            rect = fit(image, room)
            screen.blit(enlarged(image, rect.size), rect)
        lines = [found.title, problem or (self._start_name(found) if is_chosen else found.where)]
        text = panel_surface(lines, scale, 255)
        clip = screen.get_clip()
        screen.set_clip(tile)
        screen.blit(text, (tile.x, room.bottom + 2))
        screen.set_clip(clip)

    def _start_name(self, found: Found) -> str:
        if found.starts is None:
            return "starts from your picture"
        return f"start {'any' if self.start is None else self.start + 1} of {len(found.starts.frames)}"
