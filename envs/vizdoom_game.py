"""Doom through ViZDoom: `vizdoom:NAME` for every single-player scenario that ships in its wheel.

One frame is a whole number of tics (35 a second): 2 at the default 17.5 fps, so that a frame of 22,050 Hz sound holds
exactly 1,260 samples. Frames are the native 320x240 with HUD, weapon and crosshair as the scenario sets them; sound is
the engine's own stereo. Sound needs OpenAL (Debian: libopenal1); without it ViZDoom gives zeros, which is noticed by
firing a shot, warned about and recorded as a silent game.

A seed gives a bit-exact episode, picture and sound, whatever was played before. ViZDoom gives no frame after an
episode's end, so the last frame is repeated there with silence.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.envs.catalogue import did_you_mean
from worldgen.envs.doom_actions import discrete_actions
from worldgen.envs.game import GameFrame
from worldgen.envs.history import History
from worldgen.errors import InputError, MissingExtraError

try:
    import vizdoom
except ImportError:
    raise MissingExtraError("recording Doom", "games") from None

TICS_PER_SECOND = 35
SAMPLE_RATE = 22_050
LICENCE = "ViZDoom: MIT; Freedoom assets: BSD-3-Clause"
# what a state column is called, and where it comes from
VARIABLES = {
    "health": "HEALTH",
    "armor": "ARMOR",
    "ammo": "SELECTED_WEAPON_AMMO",
    "weapon": "SELECTED_WEAPON",
    "kills": "KILLCOUNT",
    "hits": "HITCOUNT",
    "damage_taken": "DAMAGE_TAKEN",
    "x": "POSITION_X",
    "y": "POSITION_Y",
    "z": "POSITION_Z",
    "angle": "ANGLE",
}
# shipped configurations that cannot run alone, and why
UNUSABLE = {
    "cig": "it is a multiplayer match",
    "multi": "it is a multiplayer match",
    "multi_duel": "it is a multiplayer match",
    "doom": "it needs the commercial doom.wad; vizdoom:freedoom1 is its free twin",
    "doom2": "it needs the commercial doom2.wad; vizdoom:freedoom2 is its free twin",
    "oblige": "it needs a generated wad that is not shipped",
    "learning": "it is vizdoom:basic in grey",
}


class SilentGameWarning(UserWarning):
    """A game that has sound is recorded without it."""


def scenarios() -> list[str]:
    return sorted(p.stem for p in Path(vizdoom.scenarios_path).glob("*.cfg") if p.stem not in UNUSABLE)


class VizdoomGame:
    """A Doom scenario as a Game that can be saved and loaded."""

    licence = LICENCE
    channels = 2

    def __init__(self, scenario: str, fps: float | None = None):
        if scenario in UNUSABLE:
            raise InputError(f"vizdoom:{scenario} cannot be recorded: {UNUSABLE[scenario]}")
        if scenario not in scenarios():
            raise InputError(f"unknown game vizdoom:{scenario}: {did_you_mean(scenario, scenarios())}")
        self.scenario = scenario
        self.name = f"vizdoom:{scenario}"
        self.tics = tics_per_frame(17.5 if fps is None else fps)
        self.fps = TICS_PER_SECOND / self.tics
        self.sample_rate: int | None = SAMPLE_RATE if has_sound() else None
        if self.sample_rate is None:
            warnings.warn(
                f"{self.name} is recorded without sound: ViZDoom found no OpenAL (Debian: apt install libopenal1)",
                SilentGameWarning,
                stacklevel=2,
            )
        self._folder = tempfile.TemporaryDirectory(prefix="worldgen-vizdoom-")
        self._has_labels = False
        self._game = self._start()
        self.buttons = [b.name for b in self._game.get_available_buttons()]
        self.actions, self._presses = discrete_actions(self.buttons)
        self._history = History(self.name, self.fps)
        self._frame: GameFrame | None = None

    def reset(self, seed: int) -> GameFrame:
        self._history.begin(seed)
        self._game.set_seed(seed)
        self._game.new_episode()
        self._frame = self._see(reward=0.0)
        return self._frame

    def step(self, action: Any) -> GameFrame:
        if self._frame is None or self._game.is_episode_finished():
            raise InputError(f"{self.name}: the episode is over: call reset(seed)")
        self._history.add(int(action))
        reward = self._game.make_action(self._presses[int(action)], self.tics)
        self._frame = self._see(reward)
        return self._frame

    def close(self) -> None:
        self._game.close()
        self._folder.cleanup()

    def action_for(self, *buttons: str) -> int:
        """The action that presses these buttons and no other; where there is none, the one nearest to them."""
        held = set(buttons)
        pressed = [{n for n, p in zip(self.buttons, presses, strict=True) if p} for presses in self._presses]
        return max(range(len(pressed)), key=lambda i: 2 * len(pressed[i] & held) - 3 * len(pressed[i] - held))

    def watch_labels(self) -> None:
        """Makes `labels` available (about half the speed). Restarts the engine; call reset() after it."""
        if not self._has_labels:
            self._has_labels = True
            self._game.close()
            self._game, self._frame = self._start(), None

    @property
    def labels(self) -> Sequence[Any]:
        """The things in view, each with object_name, object_category and its box x, y, width, height in pixels."""
        state = self._game.get_state()
        return [] if state is None else state.labels

    def masks(self) -> dict[str, np.ndarray]:
        """Which pixels of the frame show monsters, and which show things to pick up, shots and other objects:
        (h, w) bool each; none after the end, where ViZDoom says nothing. The first call starts the engine anew and
        plays the episode again, up to here."""
        if not self._has_labels:
            episode = self.save()
            self.watch_labels()
            self.load(episode)
        state = self._game.get_state()
        if state is None:
            assert self._frame is not None
            return {name: np.zeros(self._frame.image.shape[:2], bool) for name in ("monster", "object")}
        seen = [x for x in state.labels if x.object_category != "Self"]
        values = {
            "monster": [x.value for x in seen if x.object_category == "Monster"],
            "object": [x.value for x in seen if x.object_category != "Monster"],
        }
        return {name: np.isin(state.labels_buffer, known) for name, known in values.items()}

    def save(self) -> bytes:
        return self._history.save()

    def load(self, state: bytes) -> None:
        """Plays the saved episode again, which takes some 0.2 ms a frame."""
        seed, actions = self._history.read(state)
        self.reset(seed)
        for i, action in enumerate(actions):
            self._history.add(action)
            self._game.set_action(self._presses[action])
            self._game.advance_action(self.tics, i == len(actions) - 1)
        self._frame = self._see(reward=0.0)

    def _see(self, reward: float) -> GameFrame:
        state = self._game.get_state()
        values = {k: self._game.get_game_variable(getattr(vizdoom.GameVariable, v)) for k, v in VARIABLES.items()}
        is_over = self._game.is_episode_finished()
        # a timeout cuts an episode short; death, an exit or a goal ends it
        is_timeout = is_over and self._game.is_episode_timeout_reached() and not self._game.is_player_dead()
        if state is not None:
            image = state.screen_buffer.copy()
            sound = None if self.sample_rate is None else state.audio_buffer.copy()
        else:
            assert self._frame is not None
            image = self._frame.image.copy()
            sound = None if self._frame.sound is None else np.zeros_like(self._frame.sound)
        return GameFrame(
            image, sound, float(reward), terminated=is_over and not is_timeout, truncated=is_timeout, state=values
        )

    def _start(self) -> Any:
        game = _configure(self.scenario, self.tics, has_sound=self.sample_rate is not None)
        game.set_labels_buffer_enabled(self._has_labels)
        _launch(game, Path(self._folder.name))
        return game


def tics_per_frame(fps: float) -> int:
    tics = round(TICS_PER_SECOND / fps) if fps > 0 else 0
    if tics < 1 or abs(TICS_PER_SECOND / tics - fps) > 0.01:
        raise InputError(f"--fps {fps:g}: Doom runs at 35 tics a second; choose 35, 17.5, 11.667, 8.75, 7 or 5")
    return tics


@cache
def has_sound() -> bool:
    """Whether a pistol shot can be heard here: ViZDoom gives zeros, without a word, where OpenAL is missing."""
    with tempfile.TemporaryDirectory(prefix="worldgen-vizdoom-") as folder:
        game = _configure("defend_the_center", 10, has_sound=True)
        game.set_seed(0)
        _launch(game, Path(folder))
        game.new_episode()
        game.make_action([float(b.name == "ATTACK") for b in game.get_available_buttons()], 10)
        is_heard = bool(game.get_state().audio_buffer.any())
        game.close()
    return is_heard


def _configure(scenario: str, tics: int, has_sound: bool) -> Any:
    game = vizdoom.DoomGame()
    game.load_config(str(Path(vizdoom.scenarios_path, f"{scenario}.cfg")))
    if scenario == "freedoom1":
        game.set_doom_map("E1M1")  # the default, map01, is not in it, and the engine waits for it for ever
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_window_visible(False)
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_screen_resolution(vizdoom.ScreenResolution.RES_320X240)
    game.set_automap_buffer_enabled(False)
    game.set_notifications_buffer_enabled(False)
    game.set_audio_buffer_enabled(has_sound)
    if has_sound:
        game.set_audio_sampling_rate(vizdoom.SamplingRate.SR_22050)
        game.set_audio_buffer_size(tics)
        game.add_game_args("+snd_efx 0")  # the engine aborts in OpenAL's effects otherwise
    return game


def _launch(game: Any, folder: Path) -> None:
    game.set_doom_config_path(str(folder / "vizdoom.ini"))
    with _working_in(folder), _deaf_to_interrupts():  # the engine leaves a _vizdoom folder where it starts
        game.init()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What is started inside never sees a Ctrl-C: it is for the recorder, which then ends the engine."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
