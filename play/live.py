"""A game in real time: a thread of its own steps the world at its rate, so that no window ever waits for a frame.

Everything that touches the world runs in that thread: the window posts commands and reads the newest view.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from worldgen.errors import RunError
from worldgen.play.loop import Player, SavePoint
from worldgen.play.pacing import Pacer
from worldgen.play.rewind import Rewind

if TYPE_CHECKING:
    from worldgen.play.action_source import ActionSource
    from worldgen.world import Frame

IDLE_SECONDS = 0.01  # how soon a paused game notices a command


class NoDisplayError(RunError):
    """There is no display to open a window on. (Here, because window.py needs pygame to be imported.)"""


@dataclass(frozen=True)
class View:
    """A frame to show, the action that led to it (None: a reset, a loaded or rewound moment) and whether the game
    moved on to it, so that its sound is to be heard."""

    frame: Frame
    action: Any
    is_step: bool


class LivePlayer:
    """Plays in real time.

    choose: the next action, called as a frame becomes due; None pauses the game (a replay is over).
    on_view: called in the game's thread with every view, right after it exists.
    max_frames: the game ends after so many.
    """

    def __init__(
        self,
        player: Player,
        choose: ActionSource,
        *,
        on_view: Callable[[View], None] = lambda view: None,
        max_frames: int | None = None,
        rewind: Rewind | None = None,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.player = player
        self.paused = False
        self.rewinding = False
        self.is_over = False
        self.error: BaseException | None = None
        fps = player.world.config.fps
        self._choose, self._on_view, self._max_frames = choose, on_view, max_frames
        self._rewind = rewind if rewind is not None else Rewind(fps)
        self._frames_to_go_back = 0
        self._pacer = Pacer(fps)
        self._clock, self._sleep = clock, sleep
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._steps_wanted = 0
        self._saved: SavePoint | None = None
        self._seconds = 0.0
        self._playing_since: float | None = None
        self._lock = threading.Lock()
        self._view = View(player.frame, None, False)
        self._view_is_new = True
        self._thread = threading.Thread(target=self._run, name="worldgen game", daemon=True)

    # for the window's thread

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the game and waits for its thread; raises what went wrong in it."""
        self.is_over = True
        if self._thread.ident is not None:
            self._thread.join()
        if self.error is not None:
            raise self.error

    def take_view(self) -> View | None:
        """The newest view, once; None when it was already taken."""
        with self._lock:
            if not self._view_is_new:
                return None
            self._view_is_new = False
            return self._view

    def post(self, command: Callable[[], None]) -> None:
        """Runs a command in the game's thread, before its next frame."""
        self._commands.put(command)

    @property
    def seconds(self) -> float:
        """Time played, without pauses."""
        since = self._playing_since
        return self._seconds + (self._clock() - since if since is not None else 0.0)

    # commands: run in the game's thread, by way of post()

    def toggle_pause(self) -> None:
        self.paused = not self.paused

    def single_step(self) -> None:
        self.paused = True
        self._steps_wanted += 1

    def restart(self) -> None:
        self._show(self.player.restart())

    def set_nfe(self, nfe: int) -> None:
        self.player.set_nfe(nfe)

    def quick_save(self) -> None:
        self._saved = self.player.save()

    def quick_load(self) -> bool:
        """False when nothing was saved yet."""
        if self._saved is None:
            return False
        self._show(self.player.load(self._saved))
        return True

    # the game's thread

    def _run(self) -> None:
        try:
            while not self.is_over:
                self._sleep(min(self.tick(), 0.05))
        except BaseException as error:
            self.error = error
        finally:
            self._rest()
            self.is_over = True

    def tick(self) -> float:
        """Does what is due now -> seconds to sleep before the next tick."""
        self._run_commands()
        is_moving = not self.paused and not self.rewinding
        if not is_moving and not self._steps_wanted:
            self._rest()
            if self.rewinding:
                self._go_back()
                return self._pacer.period
            return IDLE_SECONDS
        now = self._clock()
        if is_moving:
            if wait := self._pacer.wait(now):
                return wait
            self._playing_since = now if self._playing_since is None else self._playing_since
            self.player.stats.dropped += self._pacer.tick(now)
        self._steps_wanted = max(0, self._steps_wanted - 1)
        self._step()
        return self._pacer.wait(self._clock()) if is_moving else 0.0

    def _step(self) -> None:
        action = self._choose(self.player)
        if action is None:
            self.paused = True
            self._steps_wanted = 0
            return
        frame = self.player.step(action)
        with self._lock:
            # shown frames are taken; one that was not is replaced unseen
            self.player.stats.dropped += self._view_is_new and self._view.is_step
            self._view, self._view_is_new = View(frame, action, True), True
        self._on_view(self._view)
        self._rewind.note(self.player)
        if self._max_frames is not None and self.player.stats.frames >= self._max_frames:
            self.is_over = True

    def _show(self, frame: Frame) -> None:
        self._pacer.rest()
        with self._lock:
            self._view, self._view_is_new = View(frame, None, False), True
        self._on_view(self._view)

    def _go_back(self) -> None:
        """Back at twice the speed of play, however far apart the kept moments are."""
        self._frames_to_go_back += 2
        while self._frames_to_go_back >= self._rewind.stride:
            self._frames_to_go_back -= self._rewind.stride
            if self._rewind.back(self.player):
                self._show(self.player.frame)

    def _run_commands(self) -> None:
        while True:
            try:
                command = self._commands.get_nowait()
            except Empty:
                return
            command()

    def _rest(self) -> None:
        self._pacer.rest()
        if self._playing_since is not None:
            self._seconds += self._clock() - self._playing_since
            self._playing_since = None
