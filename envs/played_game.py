"""A person plays a real game: it has a World's API, so that the player's window can show it, and is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from worldgen.config import WorldConfig
from worldgen.data.recording import RecordingInfo, RecordingWriter
from worldgen.envs.game import Game, GameFrame
from worldgen.envs.record import Plan, episode_path, next_index
from worldgen.errors import InputError
from worldgen.world import Frame


class PlayedGame:
    """reset() and step() as World's (contract C4), one episode per file (contract C1), which is there from its first
    step on. Row t holds the action that was held while frame t was shown. A real game cannot go back, so it has no
    snapshots. close() ends the last file.
    """

    backend_name = "the real game"
    hash = ""
    nfe = 1
    upscaling = "off"
    has_between = shows_between = False
    num_starts = 0
    starts = None

    def __init__(self, game: Game, out: Path, seed: int = 0):
        if not game.actions.keys:
            raise InputError(f"{game.name}: no keyboard presses its actions ({game.actions.describe()})")
        self._game, self._plan = game, Plan(game.name, Path(out), "human", seed)
        self._writer: RecordingWriter | None = None
        self._first: tuple[int, GameFrame] | None = None  # of an episode that is not written yet, with its seed
        self._last: tuple[Any, GameFrame] | None = None  # written once it is known whether the episode goes on
        self.num_frames, self.num_episodes = 0, 0
        height, width, _ = game.reset(seed).image.shape
        self.image_size = (height, width)
        self.config = WorldConfig(game.name, height, width, game.fps, game.actions, context=1, has_terminated=True)
        self.sample_rate, self.channels = game.sample_rate, game.channels

    def reset(self, seed: int = 0, *, start: Any = None) -> Frame:
        """Begins an episode. A real game cannot begin from a picture."""
        if start is not None:
            raise InputError("a real game begins where it begins, not from a picture")
        self._end_episode()
        frame = self._game.reset(seed)
        self._first = (seed, frame)
        return _as_frame(frame)

    def step(self, action: Any) -> Frame:
        if self._writer is None:
            self._open()
        self._flush(truncated=False)
        frame = self._game.step(action)
        self._last = (action, frame)
        return _as_frame(frame)

    def close(self) -> None:
        self._end_episode()
        self._game.close()

    def _open(self) -> None:
        assert self._first is not None, "reset() comes first"
        seed, frame = self._first
        path = episode_path(self._plan, self._game.name, next_index(self._plan, self._game.name))
        info = RecordingInfo(self._game.fps, self._game.actions, self._game.name, seed, self._game.licence)
        self._writer = RecordingWriter(path, info, self._game.sample_rate, self._game.channels)
        self._write(frame)
        self.num_episodes += 1

    def _end_episode(self) -> None:
        """What is played no further is flagged truncated."""
        self._flush(truncated=True)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _flush(self, truncated: bool) -> None:
        if self._last is None or self._writer is None:
            return
        (action, frame), self._last = self._last, None
        is_cut = truncated and not frame.terminated
        self._writer.act(np.asarray(action).tolist(), frame.reward, frame.terminated, frame.truncated or is_cut)
        self._write(frame)

    def _write(self, frame: GameFrame) -> None:
        assert self._writer is not None
        self._writer.write(frame.image, frame.sound, frame.state)
        self.num_frames += 1


def _as_frame(frame: GameFrame) -> Frame:
    """The end of an episode, of either kind, is shown as one: the window then begins the next."""
    sound = None if frame.sound is None else frame.sound.astype(np.float32) / 32768
    return Frame(frame.image, sound, frame.reward, frame.terminated or frame.truncated)
