"""The window of a game: shows a live game, hears the keyboard and gamepads, plays the sound. (pygame: window*.py only.)

The game steps in its own thread (live.py) and posts an event for each new frame, so this thread sleeps until there is
something to draw or a key to take.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pygame

from worldgen.play.bindings import PAD_COMMANDS, Bindings
from worldgen.play.commands import LED, Commands
from worldgen.play.familiarity import note_on
from worldgen.play.latency import Latency
from worldgen.play.live import LivePlayer, View
from worldgen.play.loop import Player
from worldgen.play.panel import Figures
from worldgen.play.rebinding import Rebinding
from worldgen.play.start_image import load_start
from worldgen.play.ui_keys import HeldKeys, bind_commands
from worldgen.play.window_display import Display
from worldgen.play.window_gamepad import Gamepads
from worldgen.play.window_sound import NoSoundError, SoundOut
from worldgen.play.window_view import GameView, first_size

if TYPE_CHECKING:
    from worldgen.play.action_source import ActionSource
    from worldgen.play.fork import Beside

WAIT_MS = 50  # without events: how late a message is taken away at most


class Window:
    """run() shows the game until it is left or over -> whether only the game was left ("back"), not the window closed.

    choose: plays instead of the keys until it returns None. display: to draw on; one of its own is opened, and closed
    after the game, when None is given. folder: of screenshots and recordings. companion: a picture beside each frame.
    hold_rate: fewer denoising steps where frames take too long. remembers: False for a real game, which cannot go back.
    is_led: a recording chooses, so that nothing goes back until it is over.
    """

    def __init__(
        self,
        player: Player,
        *,
        choose: ActionSource | None = None,
        max_frames: int | None = None,
        folder: Path = Path("."),
        display: Display | None = None,
        companion: Callable[[Player], Beside | None] | None = None,
        hold_rate: bool = True,
        remembers: bool = True,
        is_led: bool = False,
        greeting: str = "",
    ):
        self._player = player
        self._config = player.world.config
        self._autopilot = choose
        self._held = HeldKeys()
        self.latency = Latency()
        self._quit, self.is_closed = False, False
        self._is_stale, self._was_paused = True, False
        self._owns_display = display is None
        self.display = Display(first_size(player.world, companion is not None)) if display is None else display
        self.display.name(f"worldgen - {self._config.name}")
        self.sound = self._open_sound()
        self.live = LivePlayer(
            player,
            self._choose,
            on_view=self._on_view,
            on_notice=self._say,
            max_frames=max_frames,
            companion=companion,
            remembers=remembers,
        )
        self.live.governor.is_on, self.live.governor.may_change_game = hold_rate, choose is None
        self.live.is_led = is_led
        self._commands = Commands(self.live, folder, self._say)
        self._gamepads = Gamepads(self._pad, self._held.release_all, self._say)
        self._bindings, problem = Bindings.load(self._config.name, self._config.actions)
        self._bound = bind_commands(self._config.actions, self._bindings.keys)
        self._rebinding = Rebinding(self._config, self._bindings, self._say)
        self._greeting = problem or greeting
        self.view = GameView(player, self.display, self._bindings, self._figures)
        self.view.view = self.live.take_view() or self.view.view

    def run(self) -> None:
        keys = ", ".join(key for key, command in self._bound.items() if command == "help")
        self._say(self._greeting or (f"{keys}: help" if keys else ""))
        self.live.start()
        try:
            while not self._quit and not self.live.is_over:
                self._wait()
                self._draw_if_new()
            self._draw_if_new()  # the last frame of a game that is over
        except KeyboardInterrupt:
            self.is_closed = True  # Ctrl-C in the terminal, SIGTERM and SIGHUP close the window like any other way
        finally:
            try:
                self.live.stop()
            finally:
                if self.sound is not None:
                    self.sound.close()
                if self._owns_display:
                    self.display.close()
                self._commands.close()

    @property
    def problem(self) -> str:
        """As Commands.problem."""
        return self._commands.problem

    def _open_sound(self) -> SoundOut | None:
        rate = self._player.world.sample_rate
        if rate is None:
            return None
        try:
            return SoundOut(rate, self._player.world.channels, round(rate / self._config.fps))
        except NoSoundError as error:
            print(f"no sound device ({error}): playing silently", file=sys.stderr)
            return None

    # the game's thread calls these two

    def _choose(self, player: Player) -> Any:
        if self._autopilot is None:
            keys, self.live.pressed_at = self._held.take()
            return self._config.actions.from_keys(keys)
        action = self._autopilot(player)
        if action is None:
            self._autopilot = None  # the keys play on
        return action

    def _on_view(self, view: View) -> None:
        if view.is_step and self.sound is not None and view.frame.sound is not None:
            self.sound.push(view.frame.sound)
        pygame.event.post(pygame.event.Event(self.display.frame_event))

    # events

    def _wait(self) -> None:
        for event in (pygame.event.wait(WAIT_MS), *pygame.event.get()):
            if event.type == pygame.QUIT:
                self._quit, self.is_closed = True, True
            elif event.type == pygame.KEYDOWN:
                self._key_down(pygame.key.name(event.key))
            elif event.type == pygame.KEYUP:
                self._key_up(pygame.key.name(event.key))
            elif event.type == pygame.WINDOWFOCUSLOST:
                self._held.release_all("keyboard")
                self.live.rewinding = False
            elif event.type == pygame.DROPFILE:
                threading.Thread(target=self._drop, args=(Path(event.file),), daemon=True).start()
            elif event.type == pygame.VIDEORESIZE:
                self.display.resized(event.size)
                self._is_stale = True
            elif event.type in (pygame.WINDOWEXPOSED, pygame.WINDOWSIZECHANGED):
                self._is_stale = True
            else:
                self._gamepads.handle(event)

    def _key_down(self, key: str) -> None:
        if self._rebinding.is_on:
            self._rebind(key)
        elif key in self._bindings.keys:
            self._held.press(self._bindings.keys[key])
        elif key in self._bound:
            self._run(self._bound[key])

    def _key_up(self, key: str) -> None:
        if key in self._bindings.keys:
            self._held.release(self._bindings.keys[key])
        elif self._bound.get(key) == "rewind":
            self.live.rewinding = False

    def _pad(self, control: str, is_down: bool, pad: str) -> None:
        if self._rebinding.is_on and is_down:
            self._rebind(control)
        elif control in self._bindings.pad:
            (self._held.press if is_down else self._held.release)(self._bindings.pad[control], pad)
        elif PAD_COMMANDS.get(control) == "rewind" and not is_down:
            self.live.rewinding = False
        elif control in PAD_COMMANDS and is_down:
            self._run(PAD_COMMANDS[control])

    def _run(self, command: str) -> None:
        """Those about the window; the others are about the game."""
        self._is_stale = True
        if command == "quit":
            self._quit = True
        elif command == "hud":
            self.view.toggle_hud()
        elif command == "help":
            self.view.shows_help = not self.view.shows_help
        elif command == "rebind":
            self._held.release_all()
            self._rebinding.begin()
        elif command == "mute":
            if self.sound is not None:
                self.sound.toggle_mute()
            self._say("this world is silent" if self.sound is None else "muted" if self.sound.is_muted else "sound on")
        elif command == "fullscreen":
            self.display.toggle_fullscreen()
        elif command == "screenshot":
            picture = self.view.picture()
            self._commands.screenshot(lambda path: pygame.image.save(picture, str(path)))
        else:
            if command in ("pause", "rewind") and self.sound is not None:
                self.sound.quiet()
            self._commands.run(command)

    def _rebind(self, control: str) -> None:
        """Takes the key that was asked for."""
        self._rebinding.take(control)
        if not self._rebinding.is_on:
            self._bound = bind_commands(self._config.actions, self._bindings.keys)

    def _drop(self, path: Path) -> None:
        """A picture or clip was dropped on the window: the game goes on from it. In a thread: clips may be long."""
        try:
            frames = load_start(path, self._config.height, self._config.width, self._config.fps)
        except ValueError as error:
            self._say(str(error))
            return
        if not self.live.remembers:
            self._say("a real game cannot begin from a picture")
            return
        if self.live.is_led:
            self._say(LED)
            return
        self.live.post(lambda: self.live.start_from(frames))
        self._say(note_on(self._player.world.starts, frames[-1]) or f"from {path.name}")

    def _say(self, message: str) -> None:
        self.display.say(message)
        self._is_stale = True

    # drawing

    def _draw_if_new(self) -> None:
        now = time.perf_counter()
        view = self.live.take_view()
        if view is not None:
            self.view.show(view, now)
        if self.display.message_ended(now):
            self._is_stale = True
            self._rebinding.ask()
        if self.live.paused != self._was_paused:
            self._was_paused, self._is_stale = self.live.paused, True
        if view is not None or self._is_stale or self.view.is_due(now):
            self._is_stale = False
            self.view.draw(now, self.live.paused)
        if view is not None and view.pressed_at is not None:
            self.latency.note(time.perf_counter() - view.pressed_at)

    def _figures(self) -> Figures:
        key = [self.latency.percentile(p) for p in (50, 99)]
        action = self.view.view.action
        return Figures(
            fps=self.view.fps,
            key_ms=None if key[0] is None or key[1] is None else (key[0], key[1]),
            underruns=self.sound.underruns if self.sound is not None else None,
            effort=self.live.effort,
            wanted=self.live.governor.wanted if self.live.governor.is_on else None,
            state="paused" if self.live.paused else "rewinding" if self.live.rewinding else self._commands.state,
            action="" if action is None else self._config.actions.name(action),
        )
