"""What a person can do to a game besides playing it: pause, go back, save, fork, record. No pygame here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from worldgen.config import NFE_CHOICES
from worldgen.errors import InputError
from worldgen.play.background import InBackground
from worldgen.play.clip import ClipRecorder
from worldgen.play.live import LivePlayer
from worldgen.play.recorder import EpisodeRecorder
from worldgen.play.saves import read_save, save_file, write_save
from worldgen.play.user_folder import file_name

CLIP_HEIGHT = 256  # of a clip that is begun while a game is played: larger ones take time from it
GOES_BACK = ("rewind", "load", "fork")
CANNOT = "a real game cannot do that"
LED = "not while a recording is played: its actions would not go back with the game"


class Commands:
    """run(command) from the window's thread; what it did is said. folder: of screenshots and recordings.
    problem: why the first recording that ended early did; "" where none did."""

    def __init__(self, live: LivePlayer, folder: Path, say: Callable[[str], None]):
        self._live, self._folder, self._say = live, folder, say
        self._name = file_name(live.player.world.config.name)
        self._recording: InBackground | None = None
        self._recording_to = Path()
        self.problem = ""

    def run(self, command: str) -> None:
        live = self._live
        if command == "pause":
            live.post(live.toggle_pause)
        elif command == "step":
            live.post(live.single_step)
        elif command == "restart":
            live.post(live.restart)
            self._say("restarted")
        elif command == "record":
            live.post(self._toggle_recording)
        elif not live.remembers:
            self._say(CANNOT)
        elif command in GOES_BACK and live.is_led:
            self._say(LED)
        elif command == "rewind":
            live.rewinding = True
        elif command == "save":
            live.post(self._save)
        elif command == "load":
            live.post(self._load)
        elif command == "fork":
            live.post(lambda: self._say(live.toggle_fork()))
        elif command == "auto":
            live.post(self._toggle_auto)
        elif command == "next nfe":
            live.post(lambda: self._set_nfe(NFE_CHOICES[(NFE_CHOICES.index(live.player.nfe) + 1) % len(NFE_CHOICES)]))
        elif command.startswith("nfe "):
            live.post(lambda: self._set_nfe(int(command[4:])))
        else:
            raise AssertionError(command)

    @property
    def state(self) -> str:
        """What the figures say goes on."""
        return "recording" if self._recording is not None else ""

    def screenshot(self, save: Callable[[Path], Any]) -> None:
        """The picture as it is shown, without what lies over it, under the next free name."""
        path = self._free(".png")
        try:
            save(path)
            self._say(f"saved {path.name}")
        except (OSError, RuntimeError) as error:  # pygame's own error is a RuntimeError
            self._say(f"no screenshot: {error}")

    def close(self) -> None:
        """The game is left: what is being recorded is finished."""
        if self._recording is not None:
            self._stop_recording()

    # in the game's thread

    def _set_nfe(self, nfe: int) -> None:
        self._live.set_nfe(nfe)
        self._say(f"nfe {nfe}")

    def _toggle_auto(self) -> None:
        is_on = self._live.toggle_auto()
        self._say("less effort when too slow" if is_on else f"always {self._live.governor.wanted.described()}")

    def _save(self) -> None:
        player = self._live.player
        point = self._live.quick_save()
        message = "saved this moment"
        if player.log is not None:
            try:
                write_save(save_file(player.world), point, player.log.session())
            except OSError as error:
                message = f"saved until the window is closed: {error}"
        self._say(message)

    def _load(self) -> None:
        player = self._live.player
        if self._live.quick_load():
            self._say("back at the saved moment")
            return
        try:
            self._live.show_loaded(read_save(save_file(player.world), player))
            self._say("back at the moment saved in an earlier play")
        except InputError as error:
            self._say(str(error))

    def _toggle_recording(self) -> None:
        player = self._live.player
        if self._recording is not None:
            self._stop_recording()
            return
        if player.recorder is not None:
            self._say("this play is recorded already")
            return
        folder = self._free("", ".mp4")
        try:
            scale = max(1, CLIP_HEIGHT // player.world.config.height)
            recordings = EpisodeRecorder(folder, player.world)
            # beside the folder: what is in it is trained on
            clip = ClipRecorder(folder.with_suffix(".mp4"), player.world, scale=scale)
        except (OSError, InputError) as error:
            self._say(f"no recording: {error}")
            return
        recording = InBackground(clip, recordings, on_error=lambda: self._live.post(lambda: self._give_up(recording)))
        self._recording, self._recording_to = recording, folder
        player.record(recording)
        self._say(f"recording to {folder.name}")

    def _stop_recording(self) -> None:
        recording, self._recording = self._recording, None
        assert recording is not None
        self._live.player.recorder = None
        recording.close()
        if recording.error is None:
            self._say(f"recorded {self._recording_to}")
        else:
            problem = f"the recording to {self._recording_to} ended early: {recording.error}"
            self.problem = self.problem or problem
            self._say(problem)

    def _give_up(self, recording: InBackground) -> None:
        """It can be written no further."""
        if recording is self._recording:
            self._stop_recording()

    def _free(self, *suffixes: str) -> Path:
        """The next name that none of these has, with the first."""
        number = 1
        while True:
            paths = [self._folder / f"worldgen-{self._name}-{number}{suffix}" for suffix in suffixes]
            if not any(path.exists() for path in paths):
                return paths[0]
            number += 1
