"""The window: shows a live game, hears the keyboard, plays the sound. The only file that imports pygame.

The game steps in its own thread (live.py) and posts an event for each new frame, so this thread sleeps until there is
something to draw or a key to take.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pygame

from worldgen.config import NFE_CHOICES
from worldgen.legend import draw_legend, legend_height, legend_keys
from worldgen.play.live import LivePlayer, NoDisplayError, View
from worldgen.play.loop import Player
from worldgen.play.panel import draw_panel, hud_lines
from worldgen.play.sound_out import SoundOut
from worldgen.play.ui_keys import HeldKeys, bind_commands, help_lines

if TYPE_CHECKING:
    from worldgen.play.action_source import ActionSource

FIRST_SIZE = (960, 720)  # the picture of a new window is the largest whole multiple that fits
SHOWN_SECONDS = 2.5  # of a message
HUD_SECONDS = 0.25  # between two updates of the figures
WAIT_MS = 8  # without events: how late the sound is fed or a message taken away at most
AROUND = (8, 8, 10)


class Window:
    """run() shows the game until it is quit or over. choose: plays instead of the keys until it returns None."""

    def __init__(
        self,
        player: Player,
        *,
        choose: ActionSource | None = None,
        max_frames: int | None = None,
        fullscreen: bool = False,
        screenshots: Path = Path("."),
    ):
        self._player = player
        self._config = player.world.config
        self._autopilot = choose
        self._held = HeldKeys()
        self._game_keys = set(legend_keys(self._config.actions))
        self._commands = bind_commands(self._config.actions)
        self._screenshots = screenshots
        self._show_hud, self._show_help = False, False
        self._message, self._message_until = "", 0.0
        self._hud: pygame.Surface | None = None
        self._hud_due = 0.0
        self._shown_at: deque[float] = deque(maxlen=60)
        self._view = View(player.frame, None, False)
        self._quit = False
        self._is_stale, self._was_paused = True, False
        self._open(fullscreen)
        self.sound = self._open_sound()
        self.live = LivePlayer(player, self._choose, on_view=self._on_view, max_frames=max_frames)

    def run(self) -> None:
        keys = ", ".join(key for key, command in self._commands.items() if command == "help")
        self._say(f"{keys}: help" if keys else "")
        self.live.start()
        try:
            while not self._quit and not self.live.is_over:
                self._wait()
                if self.sound is not None:
                    self.sound.pump()
                self._draw_if_new()
            self._draw_if_new()  # the last frame of a game that is over
        except KeyboardInterrupt:
            pass  # Ctrl-C in the terminal closes the window like any other way
        finally:
            try:
                self.live.stop()
            finally:
                pygame.quit()

    # opening

    def _open(self, fullscreen: bool) -> None:
        try:
            pygame.display.init()
            self._frame_event = pygame.event.custom_type()
            height, width = self._player.world.image_size
            scale = max(1, min(FIRST_SIZE[0] // width, FIRST_SIZE[1] // height))
            self._windowed_size = (width * scale, height * scale + legend_height(width * scale))
            self._is_fullscreen = fullscreen
            self._set_mode()
        except pygame.error as error:
            pygame.quit()
            raise NoDisplayError(f"no window can be opened here ({error})") from None
        pygame.display.set_caption(f"worldgen - {self._config.name}")
        pygame.event.set_blocked(pygame.MOUSEMOTION)

    def _set_mode(self) -> None:
        if self._is_fullscreen:
            self._screen = pygame.display.set_mode((0, 0), pygame.FULLSCREEN)
        else:
            self._screen = pygame.display.set_mode(self._windowed_size, pygame.RESIZABLE)

    def _open_sound(self) -> SoundOut | None:
        rate = self._player.world.sample_rate
        if rate is None:
            return None
        try:
            pygame.mixer.init(rate, -16, self._player.world.channels, 512, allowedchanges=0)
        except pygame.error as error:
            print(f"no sound device ({error}): playing silently", file=sys.stderr)
            return None
        return SoundOut(pygame.mixer, self._player.world.channels)

    # the game's thread calls these two

    def _choose(self, player: Player) -> Any:
        if self._autopilot is None:
            return self._config.actions.from_keys(self._held.take())
        action = self._autopilot(player)
        if action is None:
            self._autopilot = None
            self._say("the replay is over: unpause to play on")
        return action

    def _on_view(self, view: View) -> None:
        if view.is_step and self.sound is not None and view.frame.sound is not None:
            self.sound.push(view.frame.sound)
        pygame.event.post(pygame.event.Event(self._frame_event))

    # events

    def _wait(self) -> None:
        for event in (pygame.event.wait(WAIT_MS), *pygame.event.get()):
            if event.type == pygame.QUIT:
                self._quit = True
            elif event.type == pygame.KEYDOWN:
                self._key_down(pygame.key.name(event.key))
            elif event.type == pygame.KEYUP:
                self._key_up(pygame.key.name(event.key))
            elif event.type == pygame.WINDOWFOCUSLOST:
                self._held.release_all()
                self.live.rewinding = False
            elif event.type == pygame.VIDEORESIZE and not self._is_fullscreen:
                self._windowed_size = event.size
                self._is_stale = True
            elif event.type in (pygame.WINDOWEXPOSED, pygame.WINDOWSIZECHANGED):
                self._is_stale = True

    def _key_down(self, key: str) -> None:
        if key in self._game_keys:
            self._held.press(key)
        elif key in self._commands:
            self._run(self._commands[key])

    def _key_up(self, key: str) -> None:
        if key in self._game_keys:
            self._held.release(key)
        elif self._commands.get(key) == "rewind":
            self.live.rewinding = False

    def _run(self, command: str) -> None:
        live = self.live
        self._is_stale = True
        if command == "quit":
            self._quit = True
        elif command == "hud":
            self._show_hud, self._hud_due = not self._show_hud, 0.0
        elif command == "help":
            self._show_help = not self._show_help
        elif command == "pause":
            self._quieten()
            live.post(live.toggle_pause)
        elif command == "step":
            live.post(live.single_step)
        elif command == "restart":
            live.post(live.restart)
            self._say("restarted")
        elif command == "save":
            live.post(live.quick_save)
            self._say("saved this moment")
        elif command == "load":
            live.post(lambda: self._say("back at the saved moment" if live.quick_load() else "nothing saved yet"))
        elif command == "rewind":
            self._quieten()
            live.rewinding = True
        elif command.startswith("nfe "):
            self._set_nfe(int(command[4:]))
        elif command == "next nfe":
            index = NFE_CHOICES.index(self._player.nfe)
            self._set_nfe(NFE_CHOICES[(index + 1) % len(NFE_CHOICES)])
        elif command == "mute" and self.sound is not None:
            self.sound.toggle_mute()
            self._say("muted" if self.sound.is_muted else "sound on")
        elif command == "fullscreen":
            self._is_fullscreen = not self._is_fullscreen
            self._set_mode()
        elif command == "screenshot":
            self._save_screenshot()

    def _set_nfe(self, nfe: int) -> None:
        self.live.post(lambda: self.live.set_nfe(nfe))
        self._say(f"nfe {nfe}")

    def _quieten(self) -> None:
        if self.sound is not None:
            self.sound.quiet()

    def _say(self, message: str) -> None:
        self._message, self._message_until = message, time.perf_counter() + SHOWN_SECONDS
        self._is_stale = True

    def _save_screenshot(self) -> None:
        """The picture as it is shown, without what lies over it, under the next free name."""
        name = "".join(c if c.isalnum() else "-" for c in self._config.name)
        number = 1
        while (path := self._screenshots / f"worldgen-{name}-{number}.png").exists():
            number += 1
        try:
            pygame.image.save(self._picture(self._view.frame.image, self._picture_rect()), str(path))
            self._say(f"saved {path.name}")
        except (OSError, pygame.error) as error:
            self._say(f"no screenshot: {error}")

    # drawing

    def _draw_if_new(self) -> None:
        now = time.perf_counter()
        view = self.live.take_view()
        if view is not None:
            self._view = view
            self._shown_at.append(now)
        if self._message and now > self._message_until:
            self._message, self._is_stale = "", True
        if self.live.paused != self._was_paused:
            self._was_paused, self._is_stale = self.live.paused, True
        if view is not None or self._is_stale or (self._show_hud and now >= self._hud_due):
            self._is_stale = False
            self.draw(now)

    def draw(self, now: float) -> None:
        """The newest frame, the legend under it, and the panels over it."""
        self._screen.fill(AROUND)
        rect = self._picture_rect()
        self._screen.blit(self._picture(self._view.frame.image, rect), rect)
        width, height = self._screen.get_size()
        strip = draw_legend(width, self._config.actions, self._view.action)
        self._screen.blit(_surface(strip), (0, height - strip.shape[0]))
        scale = max(1, round(min(width, height) / 400))
        if self._show_hud:
            self._screen.blit(self._hud_panel(now, scale), (rect.x + 4, rect.y + 4))
        if self._show_help:
            self._blit_centred(help_lines(self._config.actions), rect.center, scale)
        elif self._message:
            self._blit_centred([self._message], (rect.centerx, rect.bottom - 16 * scale), scale)
        elif self.live.paused:
            self._blit_centred(["paused"], (rect.centerx, rect.bottom - 16 * scale), scale)
        pygame.display.flip()

    def _picture_rect(self) -> pygame.Rect:
        """Where the picture goes: a whole multiple of its size, centred above the legend; a fraction where even one
        does not fit."""
        height, width = self._view.frame.image.shape[:2]
        room_w, room_h = self._screen.get_size()
        room_h = max(1, room_h - legend_height(room_w))
        scale = min(room_w / width, room_h / height)
        scale = int(scale) if scale >= 1 else scale
        rect = pygame.Rect(0, 0, max(1, int(width * scale)), max(1, int(height * scale)))
        rect.center = (room_w // 2, room_h // 2)
        return rect

    def _picture(self, image: np.ndarray, rect: pygame.Rect) -> pygame.Surface:
        return pygame.transform.scale(_surface(image), rect.size)

    def _hud_panel(self, now: float, scale: int) -> pygame.Surface:
        if self._hud is None or now >= self._hud_due:
            self._hud_due = now + HUD_SECONDS
            shown = self._shown_at
            fps = (len(shown) - 1) / (shown[-1] - shown[0]) if len(shown) > 1 and shown[-1] > shown[0] else 0.0
            name = "" if self._view.action is None else self._config.actions.name(self._view.action)
            state = "paused" if self.live.paused else "rewinding" if self.live.rewinding else ""
            underruns = self.sound.underruns if self.sound is not None else None
            self._hud = _surface(draw_panel(hud_lines(self._player, fps, name, underruns, state), scale))
            self._hud.set_alpha(200)
        return self._hud

    def _blit_centred(self, lines: list[str], centre: tuple[int, int], scale: int) -> None:
        panel = _surface(draw_panel(lines, scale))
        panel.set_alpha(225)
        self._screen.blit(panel, panel.get_rect(center=centre))


def _surface(picture: np.ndarray) -> pygame.Surface:
    """picture (h, w, 3) uint8"""
    height, width, _ = picture.shape
    return pygame.image.frombytes(np.ascontiguousarray(picture).tobytes(), (width, height), "RGB")
