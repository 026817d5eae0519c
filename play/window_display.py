"""The window itself: opened once, shared by the start screen and the games; and drawing arrays and text on it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pygame

from worldgen.legend import legend_height
from worldgen.play.live import NoDisplayError
from worldgen.play.panel import draw_panel

FIRST_SIZE = (960, 720)  # of a picture: that of a new window is the largest whole multiple that fits
AROUND = (8, 8, 10)
SHOWN_SECONDS = 2.5  # of a message


class Display:
    """size: of the window while it is not fullscreen. screen: what is drawn on. NoDisplayError where there is none."""

    def __init__(
        self,
        size: tuple[int, int] = (FIRST_SIZE[0], FIRST_SIZE[1] + legend_height(FIRST_SIZE[0])),
        fullscreen: bool = False,
    ):
        self.is_fullscreen = fullscreen
        self._size = size
        self._message, self._message_until = "", 0.0
        try:
            pygame.display.init()
            self.frame_event = pygame.event.custom_type()
            self._set_mode()
        except pygame.error as error:
            pygame.quit()
            raise NoDisplayError(f"no window can be opened here ({error})") from None
        pygame.event.set_blocked(pygame.MOUSEMOTION)

    def close(self) -> None:
        pygame.quit()

    def name(self, title: str) -> None:
        pygame.display.set_caption(title)

    def toggle_fullscreen(self) -> None:
        self.is_fullscreen = not self.is_fullscreen
        self._set_mode()

    def resized(self, size: tuple[int, int]) -> None:
        if not self.is_fullscreen:
            self._size = size

    def _set_mode(self) -> None:
        if self.is_fullscreen:
            self.screen = pygame.display.set_mode((0, 0), pygame.FULLSCREEN)
        else:
            self.screen = pygame.display.set_mode(self._size, pygame.RESIZABLE)

    @property
    def text_scale(self) -> int:
        return max(1, round(min(self.screen.get_size()) / 400))

    def say(self, message: str) -> None:
        self._message, self._message_until = message, time.perf_counter() + SHOWN_SECONDS + len(message) / 25

    @property
    def message(self) -> str:
        """What is being said."""
        return self._message

    def message_ended(self, now: float) -> bool:
        """Once, when what was said has been there long enough."""
        if not self._message or now <= self._message_until:
            return False
        self._message = ""
        return True

    def panel(self, lines: Sequence[str], centre: tuple[int, int], scale: int | None = None) -> None:
        """Draws text on a dark ground, inside the window where it fits."""
        surface = panel_surface(lines, self.text_scale if scale is None else scale, 225)
        self.screen.blit(surface, surface.get_rect(center=centre).clamp(self.screen.get_rect()))


def fit(image: np.ndarray, room: pygame.Rect) -> pygame.Rect:
    """Where a picture (h, w, 3) goes: a whole multiple of its size in the middle of the room, a fraction where even one
    does not fit."""
    height, width = image.shape[:2]
    scale = min(room.width / width, room.height / height)
    scale = int(scale) if scale >= 1 else scale
    rect = pygame.Rect(0, 0, max(1, int(width * scale)), max(1, int(height * scale)))
    rect.center = room.center
    return rect


def enlarged(image: np.ndarray, size: tuple[int, int]) -> pygame.Surface:
    """image (h, w, 3) uint8"""
    return pygame.transform.scale(surface_of(image), size)


def panel_surface(lines: Sequence[str], scale: int, alpha: int) -> pygame.Surface:
    panel = surface_of(draw_panel(lines, scale))
    panel.set_alpha(alpha)
    return panel


def surface_of(picture: np.ndarray) -> pygame.Surface:
    """picture (h, w, 3) uint8"""
    height, width, _ = picture.shape
    return pygame.image.frombytes(np.ascontiguousarray(picture).tobytes(), (width, height), "RGB")
