"""Pyxel's own example games: `pyxel:NAME` (jump, platformer, shooter, snake, cursed_caverns, mega_wing, ...).

Frames are the game's own small picture at its own rate, or every second or third of them (games that run at 60 are
recorded at 30 unless asked). Every episode is a process of its own, seeded, so it is bit-exact. Sound is rebuilt from
what the game plays (see pyxel_sound): mono, 22,050 Hz at 30, 15 or 10 fps; elsewhere the nearest rate whose frames are
whole (22,040 Hz at Snake's 20).
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from typing import IO, Any

import numpy as np

from worldgen.actions import ActionMap
from worldgen.envs.catalogue import did_you_mean
from worldgen.envs.game import GameFrame
from worldgen.envs.history import History
from worldgen.envs.pyxel_games import GAMES
from worldgen.errors import InputError, MissingExtraError, RunError

SAMPLE_RATE = 22_050
MAX_DEFAULT_FPS = 30


def game_names() -> list[str]:
    if importlib.util.find_spec("pyxel") is None:
        raise MissingExtraError("recording Pyxel games", "games")
    return sorted(GAMES)


class PyxelGame:
    """A Pyxel game as a Game; saved and loaded as the history that led there."""

    channels = 1

    def __init__(self, game: str, fps: float | None = None):
        if game not in game_names():
            raise InputError(f"unknown game pyxel:{game}: {did_you_mean(game, game_names())}")
        spec = GAMES[game]
        self.game = game
        self.name = f"pyxel:{game}"
        self.licence = f"Pyxel: MIT; {game}: {spec.licence}"
        self._game_frames = round(spec.fps / fps) if fps else -(-spec.fps // MAX_DEFAULT_FPS)
        self.fps = spec.fps / max(1, self._game_frames)
        if fps is not None and abs(self.fps - fps) > 0.01:
            raise InputError(f"--fps {fps:g}: {self.name} runs at {spec.fps}; choose it, or it over 2, 3, ...")
        self._samples = int(SAMPLE_RATE / self.fps)
        self.sample_rate: int | None = round(self._samples * self.fps)
        self.actions = ActionMap.discrete(list(spec.actions), list(spec.actions.values()))
        self._keys = list(spec.actions.values())
        self._history = History(self.name, self.fps)
        self._folder = tempfile.TemporaryDirectory(prefix="worldgen-pyxel-", ignore_cleanup_errors=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._state: dict[str, float] = {}
        self._score, self._is_over = 0.0, True

    def reset(self, seed: int) -> GameFrame:
        self._end_process()
        self._history.begin(seed)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        numbers = (seed, self._game_frames, self.sample_rate, self._samples)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "worldgen.envs.pyxel_worker", self.game, self._folder.name, *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ | {"SDL_AUDIODRIVER": "dummy"},
            start_new_session=True,  # Ctrl-C is for the recorder, which then ends this
        )
        self._score, self._state = 0.0, {}
        return self._read(is_first=True)

    def step(self, action: Any) -> GameFrame:
        if self._process is None or self._is_over:
            raise InputError(f"{self.name}: the episode is over: call reset(seed)")
        self._history.add(int(action))
        assert self._process.stdin is not None
        self._process.stdin.write(",".join(self._keys[int(action)]).encode() + b"\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        self._end_process()
        self._folder.cleanup()

    def _end_process(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None
        if self._errors is not None:
            self._errors.close()
            self._errors = None

    def save(self) -> bytes:
        return self._history.save()

    def load(self, state: bytes) -> None:
        self._history.replay(state, self)

    def _read(self, is_first: bool = False) -> GameFrame:
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RunError(f"{self.name} stopped: {self._last_words()}")
        head = json.loads(line)
        height, width, _ = head["shape"]
        image = np.frombuffer(self._process.stdout.read(height * width * 3), np.uint8).reshape(height, width, 3)
        sound = np.frombuffer(self._process.stdout.read(head["samples"] * 2), np.int16).reshape(-1, 1)
        facts = head["facts"]
        self._is_over, score = bool(facts.pop("over")), facts.pop("score")
        # a score that starts over is no loss
        reward = 0.0 if is_first else max(0.0, score - self._score)
        self._score = score
        facts = {"score": score} | facts
        self._state = facts if is_first else {k: facts.get(k, v) for k, v in self._state.items()}
        return GameFrame(image.copy(), sound.copy(), reward, self._is_over, False, dict(self._state))

    def _last_words(self) -> str:
        assert self._errors is not None
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no reason given"
