"""A game in real time: a thread of its own steps the world at its rate, so that no window ever waits for a frame.

Everything that touches the world runs in that thread: the window posts commands and reads the newest view.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from worldgen.errors import RunError
from worldgen.play.fork import Beside, Fork
from worldgen.play.governor import Effort, Governor
from worldgen.play.loop import Player, SavePoint
from worldgen.play.pacing import Pacer
from worldgen.play.rewind import Rewind

if TYPE_CHECKING:
    import numpy as np

    from worldgen.play.action_source import ActionSource
    from worldgen.world import Frame

IDLE_SECONDS = 0.01  # how soon a paused game notices a command


class NoDisplayError(RunError):
    """There is no display to open a window on. (Here, because window.py needs pygame to be imported.)"""


@dataclass(frozen=True)
class View:
    """A frame to show, the action that led to it (None: a reset, a loaded or rewound moment) and whether the game
    moved on to it, so that its sound is to be heard. pressed_at: when the first new key it obeys was pressed.
    beside: a second picture. An in-between picture comes before its frame as a view of its own, without sound."""

    frame: Frame
    action: Any
    is_step: bool
    pressed_at: float | None = None
    beside: Beside | None = None


class LivePlayer:
    """Plays in real time.

    choose: the next action, called as a frame becomes due; None pauses the game, as a replay is over. Where keys chose
        it, it says when they were pressed: live.pressed_at.
    on_view: called in the game's thread with every view, right after it exists.
    on_notice: called in the game's thread with what a person should be told.
    companion: gives the picture to show beside each frame.
    max_frames: the game ends after so many.
    remembers: whether its moments can be kept: not a real game's.
    """

    def __init__(
        self,
        player: Player,
        choose: ActionSource,
        *,
        on_view: Callable[[View], None] = lambda view: None,
        on_notice: Callable[[str], None] = lambda message: None,
        companion: Callable[[Player], Beside | None] | None = None,
        max_frames: int | None = None,
        rewind: Rewind | None = None,
        remembers: bool = True,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.player = player
        self.paused = False
        self.rewinding = False
        self.is_over = False
        self.is_led = False  # whether a recording chooses the actions: it would not go back with the game
        self.error: BaseException | None = None
        fps = player.world.config.fps
        self.remembers = remembers
        self.governor = Governor(fps, self.effort)
        self.pressed_at: float | None = None
        self.fork: Fork | None = None
        self._choose, self._on_view, self._max_frames = choose, on_view, max_frames
        self._on_notice, self._companion = on_notice, companion
        self._rewind = rewind if rewind is not None else Rewind(fps)
        self._pacer = Pacer(fps)
        self._clock, self._sleep = clock, sleep
        self._commands: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._steps_wanted = 0
        self._saved: SavePoint | None = None
        self._seconds = 0.0
        self._back_due = 0.0  # when rewinding takes its next step
        self._playing_since: float | None = None
        self._later: tuple[float, View] | None = None  # a frame whose in-between one is on screen, and when it is due
        self._lock = threading.Lock()
        self._view = View(player.frame, None, False, beside=self._beside())
        self._view_is_new = True
        self._thread = threading.Thread(target=self._run, name="worldgen game", daemon=True)

    # for the window's thread

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the game and waits for its thread; raises what went wrong in it. The world is left with the effort that
        was asked for: another game may begin on it."""
        self.is_over = True
        self.wait()
        if self.governor.is_on:
            world, wanted = self.player.world, self.governor.wanted
            world.shows_between = wanted.between
            if self.governor.may_change_game:
                world.nfe, world.upscaling = wanted.nfe, wanted.upscaling

    def wait(self) -> None:
        """Until the game is over; raises what went wrong in it."""
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
    def effort(self) -> Effort:
        """What goes into a frame now."""
        world = self.player.world
        return Effort(self.player.nfe, world.upscaling, world.shows_between)

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
        self._note(jumps=True)
        self._show(self.player.restart())

    def start_from(self, start: int | np.ndarray | None) -> None:
        """Begins a game from a prompt (t, h, w, 3) uint8 or one of the world's starts."""
        self._note(jumps=True)
        self._show(self.player.restart(start=start))

    def set_nfe(self, nfe: int) -> None:
        self._want(replace(self.governor.wanted, nfe=nfe))

    def toggle_auto(self) -> bool:
        """Whether the effort is lowered where frames take too long -> the new state."""
        self.governor.is_on = not self.governor.is_on
        self._want(self.governor.wanted)
        return self.governor.is_on

    def quick_save(self) -> SavePoint:
        self._saved = self.player.save()
        return self._saved

    def quick_load(self) -> bool:
        """False when nothing was saved yet."""
        if self._saved is None:
            return False
        self._note(jumps=True)
        self._show(self.player.load(self._saved))
        return True

    def show_loaded(self, point: SavePoint) -> None:
        """Goes on from a moment of another play, which the player is at now: there is no way back into this one."""
        self._rewind.clear()
        self.fork = None
        self._saved = point
        self._show(self.player.frame)

    def toggle_fork(self) -> str:
        """Forks here; then plays the second future beside the first; then goes on with it alone -> what it did."""
        if self.fork is None:
            self.fork = Fork(self.player)
            message = "future 1: fork again to go back and play another"
        elif not self.fork.is_second:
            self._note(jumps=True)
            self.fork.play_second(self.player)
            message = "future 2, beside future 1"
        else:
            self.fork = None
            message = "on with this future"
        self._show(self.player.frame)
        return message

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
        if self._later is not None and (wait := self._later[0] - self._clock()) > 0:
            return wait
        self._show_later()
        is_moving = not self.paused and not self.rewinding
        if not is_moving and not self._steps_wanted:
            self._rest()
            return self._go_back() if self.rewinding else IDLE_SECONDS
        now = self._clock()
        if is_moving:
            if wait := self._pacer.wait(now):
                return wait
            self._playing_since = now if self._playing_since is None else self._playing_since
            self.player.stats.dropped += self._pacer.tick(now)
        self._steps_wanted = max(0, self._steps_wanted - 1)
        self._step()
        due = self._pacer.wait(self._clock()) if is_moving else 0.0
        return due if self._later is None else max(0.0, self._later[0] - self._clock())

    def _step(self) -> None:
        self.pressed_at = None
        action = self._choose(self.player)
        if action is None:
            self.paused, self.is_led = True, False
            self._on_notice("the replay is over: unpause to play on")
            self._steps_wanted = 0
            return
        self._note()
        frame = self.player.step(action)
        view = View(frame, action, True, self.pressed_at, self._beside())
        if frame.between is None:
            self._publish(view)
        else:
            self._publish(View(replace(frame, image=frame.between), action, False, beside=self._view.beside))
            now, half = self._clock(), self._pacer.period / 2
            # half a frame later, but before the next step is due
            self._later = now + (half if self.paused else min(half, self._pacer.wait(now))), view
        self._hold_the_rate()
        if self._max_frames is not None and self.player.stats.frames >= self._max_frames:
            self._show_later()
            self.is_over = True

    def _show_later(self) -> None:
        """The frame whose in-between one is on screen, if there is one."""
        if self._later is not None:
            (_, view), self._later = self._later, None
            self._publish(view)

    def _publish(self, view: View) -> None:
        with self._lock:
            # shown frames are taken; one that was not is replaced unseen
            is_unseen = self._view_is_new and self._view.is_step
            self.player.stats.dropped += is_unseen
            if is_unseen and self._view.pressed_at is not None:
                view = replace(view, pressed_at=self._view.pressed_at)
            self._view, self._view_is_new = view, True
        self._on_view(view)

    def _hold_the_rate(self) -> None:
        before = self.effort
        effort = self.governor.note(self.player.stats.recent_ms[-1], before) if self.player.stats.recent_ms else None
        if effort is not None:
            self._set(effort)
            self._on_notice(("too slow: " if effort == before.lower() else "time to spare: ") + effort.described())

    def _want(self, effort: Effort) -> None:
        self.governor.wanted = effort
        self.governor.forget()
        self._set(effort)

    def _set(self, effort: Effort) -> None:
        if effort.nfe != self.player.nfe:
            self.player.set_nfe(effort.nfe)
        if effort.upscaling != self.player.world.upscaling:
            self.player.set_upscaling(effort.upscaling)
        if effort.between != self.player.world.shows_between:
            self.player.world.shows_between = effort.between

    def _note(self, jumps: bool = False) -> None:
        if self.remembers:
            self._rewind.note(self.player, jumps)

    def _beside(self) -> Beside | None:
        if self.fork is None:
            return None if self._companion is None else self._companion(self.player)
        beside = self.fork.beside(self.player)
        if beside is None:  # restarted, or rewound beyond the fork
            self.fork = None
        return beside

    def _show(self, frame: Frame) -> None:
        self._pacer.rest()
        with self._lock:
            self._view, self._view_is_new = View(frame, None, False, beside=self._beside()), True
        self._on_view(self._view)

    def _go_back(self) -> float:
        """Back at twice the speed of play -> seconds until the next step of it"""
        now = self._clock()
        if now >= self._back_due:
            self._back_due = now + self._pacer.period
            if any([self._rewind.back(self.player) for _ in range(2)]):
                self._show(self.player.frame)
        return self._back_due - now

    def _run_commands(self) -> None:
        while True:
            try:
                command = self._commands.get_nowait()
            except Empty:
                return
            self._show_later()  # whatever it does, it does it after the frame
            command()

    def _rest(self) -> None:
        self._pacer.rest()
        if self._playing_since is not None:
            self._seconds += self._clock() - self._playing_since
            self._playing_since = None
