"""The window of render_mode="human": the only file of the environments that imports pygame."""

from __future__ import annotations

import weakref
from typing import ClassVar

import numpy as np
import pygame

from worldgen.envs.env_errors import EnvError

LARGEST = (960, 720)  # the picture is the largest whole multiple that fits


class EnvWindow:
    """Shows frames, at most fps of them a second. There is one at a time: pygame has one display."""

    _shown: ClassVar[weakref.ref[EnvWindow] | None] = None

    def __init__(self, title: str, height: int, width: int, fps: float):
        if EnvWindow._shown is not None and EnvWindow._shown() is not None:
            raise EnvError("another environment has the window: close() it first, or use render_mode='rgb_array'")
        scale = max(1, min(LARGEST[0] // width, LARGEST[1] // height))
        try:
            pygame.display.init()
            self._screen = pygame.display.set_mode((width * scale, height * scale))
        except pygame.error as error:
            raise EnvError(f"no window can be opened here ({error}): use render_mode='rgb_array'") from None
        pygame.display.set_caption(title)
        self._clock = pygame.time.Clock()
        self._fps = fps
        EnvWindow._shown = weakref.ref(self)

    def show(self, image: np.ndarray) -> None:
        """image (h, w, 3) uint8"""
        picture = pygame.image.frombuffer(image.tobytes(), image.shape[1::-1], "RGB")
        self._screen.blit(pygame.transform.scale(picture, self._screen.get_size()), (0, 0))
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(self._fps)

    def close(self) -> None:
        EnvWindow._shown = None
        pygame.display.quit()
