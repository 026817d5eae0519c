"""A game as it is drawn: the newest picture, the one beside it, the legend under them and the panels over them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import pygame

from worldgen.legend import draw_legend, legend_height
from worldgen.play.bindings import Bindings
from worldgen.play.live import View
from worldgen.play.loop import Player
from worldgen.play.panel import Figures, hud_lines
from worldgen.play.ui_keys import help_lines
from worldgen.play.window_display import AROUND, FIRST_SIZE, Display, enlarged, fit, panel_surface, surface_of
from worldgen.text import text_width

if TYPE_CHECKING:
    from worldgen.world import World

HUD_SECONDS = 0.25  # between two updates of the figures
DOUBLE_WIDTH = 1280  # of two pictures in a new window


class GameView:
    """draw() shows `view`. figures: what the panel of figures says, asked for when it is due."""

    def __init__(self, player: Player, display: Display, bindings: Bindings, figures: Callable[[], Figures]):
        self.view = View(player.frame, None, False)
        self.shows_hud, self.shows_help = False, False
        self._player, self._display, self._bindings, self._figures = player, display, bindings, figures
        self._actions = player.world.config.actions
        self._hud: pygame.Surface | None = None
        self._hud_due = 0.0
        self._shown_at: deque[float] = deque(maxlen=60)

    def show(self, view: View, now: float) -> None:
        """From now on; draw() draws it."""
        self.view = view
        self._shown_at.append(now)

    @property
    def fps(self) -> float:
        """Of the last frames that were shown."""
        shown = self._shown_at
        return (len(shown) - 1) / (shown[-1] - shown[0]) if len(shown) > 1 and shown[-1] > shown[0] else 0.0

    def toggle_hud(self) -> None:
        self.shows_hud, self._hud_due = not self.shows_hud, 0.0

    def is_due(self, now: float) -> bool:
        """Whether the figures want to be drawn anew."""
        return self.shows_hud and now >= self._hud_due

    def draw(self, now: float, is_paused: bool = False) -> None:
        screen, view = self._display.screen, self.view
        screen.fill(AROUND)
        rects = self.rects()
        screen.blit(enlarged(view.frame.image, rects[0].size), rects[0])
        if view.beside is not None:
            screen.blit(enlarged(view.beside.image, rects[1].size), rects[1])
            for rect, label in zip(rects, (view.beside.game_label, view.beside.label), strict=True):
                place = (rect.centerx, rect.top + 8 * self._display.text_scale)
                self._display.panel([self._cut(label, screen.get_width() // 2)], place)
        width, height = screen.get_size()
        strip = draw_legend(width, self._actions, view.action)
        screen.blit(surface_of(strip), (0, height - strip.shape[0]))
        whole = rects[0].unionall(rects[1:])
        if self.shows_hud:
            panel, corner = self._hud_panel(now), (whole.x + 4, whole.y + 4)
            if view.beside is not None:  # not over the second picture, nor over what the first is called
                is_room = whole.y > 4 + panel.get_height()
                corner = (4, 4 if is_room else whole.y + 20 * self._display.text_scale)
            screen.blit(panel, corner)
        foot = (whole.centerx, whole.bottom - 16 * self._display.text_scale)
        if self.shows_help:
            self._draw_help(whole.center)
        elif self._display.message:
            self._display.panel([self._display.message], foot)
        elif is_paused:
            self._display.panel(["paused"], foot)
        pygame.display.flip()

    def picture(self) -> pygame.Surface:
        """The game's picture as large as it is shown, without what lies over it."""
        return enlarged(self.view.frame.image, self.rects()[0].size)

    def rects(self) -> list[pygame.Rect]:
        """Where the game's picture goes, and the one beside it, above the legend."""
        width, height = self._display.screen.get_size()
        room = pygame.Rect(0, 0, width, max(1, height - legend_height(width)))
        beside = self.view.beside
        if beside is None:
            return [fit(self.view.frame.image, room)]
        halves = [
            pygame.Rect(0, 0, max(1, width // 2), room.height),
            pygame.Rect(width // 2, 0, width // 2, room.height),
        ]
        if beside.is_left:
            halves.reverse()
        pictures = (self.view.frame.image, beside.image)
        return [fit(image, half) for image, half in zip(pictures, halves, strict=True)]

    def _cut(self, text: str, width: int) -> str:
        """What of the text a panel of this width has room for."""
        room = width // self._display.text_scale - 16
        while len(text) > 1 and text_width(text) > room:
            text = text[:-1]
        return text

    def _draw_help(self, centre: tuple[int, int]) -> None:
        lines = help_lines(self._actions, self._bindings)
        scale = self._display.text_scale
        while scale > 1 and panel_surface(lines, scale, 255).get_height() > self._display.screen.get_height():
            scale -= 1
        self._display.panel(lines, centre, scale)

    def _hud_panel(self, now: float) -> pygame.Surface:
        if self._hud is None or now >= self._hud_due:
            self._hud_due = now + HUD_SECONDS
            self._hud = panel_surface(hud_lines(self._player, self._figures()), self._display.text_scale, 200)
        return self._hud


def first_size(world: World, is_double: bool) -> tuple[int, int]:
    """Of a new window: the picture, or two side by side, enlarged by a whole number, and the legend."""
    height, width = world.image_size
    width, room = (2 * width, DOUBLE_WIDTH) if is_double else (width, FIRST_SIZE[0])
    scale = max(1, min(room // width, FIRST_SIZE[1] // height))
    return width * scale, height * scale + legend_height(width * scale)
