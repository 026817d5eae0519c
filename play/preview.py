"""A world that plays by itself on the start screen, loaded and stepped in threads of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from worldgen.play.action_source import sticky_random
from worldgen.play.live import LivePlayer, View
from worldgen.play.loop import Player

if TYPE_CHECKING:
    from worldgen.world import World


PREVIEW = "worldgen preview"  # name of its threads


class Preview:
    """Loads the world and plays at random until close(). image: newest (h, w, 3) uint8, None until there is one, always
    in a world without starts. world: loaded, to go on with; error: why it could not be, in one line."""

    def __init__(self, load: Callable[[], World], on_frame: Callable[[], None], world: World | None = None):
        self.world = world
        self.error = ""
        self._load, self._on_frame = load, on_frame
        self._live: LivePlayer | None = None
        self._start: int | None = None
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=PREVIEW, daemon=True)
        self._thread.start()

    @property
    def image(self) -> np.ndarray | None:
        return None if self._live is None else self._live.player.frame.image

    def choose_start(self, start: int | None) -> None:
        """Plays from this start (None: by the seed) from now on."""
        self._start = start
        live = self._live
        if live is not None:
            live.post(lambda: live.start_from(start))

    def close(self) -> None:
        """Ends it, without waiting for a world that is still being loaded: nobody will play it."""
        self._is_closed.set()
        if self._live is not None:
            self._live.is_over = True
            self._thread.join()

    def finish(self) -> World | None:
        """Ends it, and waits for the world -> None where it cannot be loaded."""
        self._is_closed.set()
        if self._live is not None:
            self._live.is_over = True
        self._thread.join()
        return None if self.error else self.world

    def _run(self) -> None:
        try:
            if self.world is None:
                self.world = self._load()
            if self._is_closed.is_set() or not self.world.num_starts:
                return
            player = Player(self.world, start=self._start)
            choose = sticky_random(self.world.config.actions, self.world.config.fps, 0)
            self._live = LivePlayer(player, choose, on_view=self._on_view, remembers=False)
            self._live.governor.is_on = False  # a game begins with the steps that were asked for
            if not self._is_closed.is_set():
                self._live.start()
                self._live.wait()
        except Exception as error:  # of any engine: the other worlds can be played
            self.error = str(error)
            self._on_frame()

    def _on_view(self, view: View) -> None:
        self._on_frame()
