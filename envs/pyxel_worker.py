"""One episode of one Pyxel game, in a process of its own (Pyxel holds one game per process, and cannot start over).

Run by PyxelGame: `python -m worldgen.envs.pyxel_worker NAME FOLDER SEED GAME_FRAMES SAMPLE_RATE SAMPLES`. Reads a line
of keys per step, held together and separated by commas; answers each with a JSON line, the picture and the sound.
FOLDER is for unpacked games and rendered sounds, which the next episode finds there.
"""

from __future__ import annotations

import json
import os
import random
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyxel

from worldgen.envs.pyxel_games import GAMES, PyxelSpec
from worldgen.envs.pyxel_sound import Mixer

KEYS = {"left": "LEFT", "right": "RIGHT", "up": "UP", "down": "DOWN", "space": "SPACE", "return": "RETURN"}
TITLE_FRAMES = 400  # at most, until Enter has started the game


class _Started(Exception):
    """Carries update and draw out of a game's script, where pyxel.run would have kept them."""


def main(argv: list[str]) -> None:
    name, folder = argv[0], Path(argv[1])
    seed, game_frames, sample_rate, samples = map(int, argv[2:])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the game prints
    spec = GAMES[name]
    mixer = Mixer(pyxel, folder, sample_rate)
    game = Running(spec, seed, folder)
    game.start(seed)
    _answer(answers, game, np.zeros((samples, 1), np.int16))
    for line in sys.stdin:
        game.hold(set(filter(None, line.strip().split(","))))
        game.tick(game_frames)
        _answer(answers, game, mixer.listen(samples))


class Running:
    """A game that is driven a frame at a time."""

    def __init__(self, spec: PyxelSpec, seed: int, folder: Path):
        self._spec = spec
        self._held: set[str] = set()
        self._update, self._draw = _load(spec, seed, folder)
        self._app = getattr(self._update, "__self__", None)
        self._module = getattr(self._update, "__func__", self._update).__globals__
        self._is_over = False
        if "game_over" in self._module:  # a game that starts over at once says so nowhere else
            restart = self._module["game_over"]

            def game_over() -> None:
                self._is_over = True
                restart()

            self._module["game_over"] = game_over

    def start(self, seed: int) -> None:
        """The first picture that is played: past the title, after a short wait of the seed's own."""
        self.tick(1)
        if not self._spec.has_title:
            return
        self.tick(seed % 16)
        title = self._look()
        for _ in range(TITLE_FRAMES):
            self.hold({"return"})
            self.tick(1)
            self.hold(set())
            self.tick(1)
            if self._has_left(title):
                return
        raise RuntimeError("the title screen did not go away")

    def hold(self, keys: set[str]) -> None:
        # a key reports itself as pressed again each time it is set
        for key in self._held - keys:
            pyxel.set_btn(_code(key), False)
        for key in keys - self._held:
            pyxel.set_btn(_code(key), True)
        self._held = set(keys)

    def tick(self, frames: int) -> None:
        """Stops where the game ends, so that its last picture is the one of the end."""
        for _ in range(frames):
            if not self.facts()["over"]:
                self._update()
                self._draw()
                self._screen = _screen()
                pyxel.flip()

    def facts(self) -> dict[str, float]:
        facts = self._spec.facts(self._app, self._module)
        return {"over": 0.0, "score": 0.0} | facts | ({"over": 1.0} if self._is_over else {})

    @property
    def screen(self) -> np.ndarray:
        return self._screen

    def _look(self) -> Any:
        """What changes when the title is left."""
        app = self._app
        return [getattr(app, n, None) for n in ("scene", "scene_name", "is_title", "state")]

    def _has_left(self, title: Any) -> bool:
        return self._look() != title


def _load(spec: PyxelSpec, seed: int, folder: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    """Runs the game's script up to pyxel.run; -> its update and draw."""
    examples = Path(pyxel.__file__).parent / "examples"
    script = examples / spec.script
    if spec.app:
        if not (folder / "app").is_dir():
            with zipfile.ZipFile(examples / "apps" / f"{spec.app}.pyxapp") as file:
                file.extractall(folder / "app")
        script = next(iter(sorted(folder.rglob(spec.script))))
    init = pyxel.init

    def seeded_init(*args: Any, **kwargs: Any) -> None:
        init(*args, **kwargs | {"headless": True, "fps": 10_000})  # else flip() waits for the clock
        os.chdir(script.parent)  # init goes elsewhere
        pyxel.rseed(seed)
        pyxel.nseed(seed)

    def run(update: Callable[[], None], draw: Callable[[], None]) -> None:
        raise _Started(update, draw)

    pyxel.init, pyxel.run = seeded_init, run
    random.seed(seed)
    sys.path.insert(0, str(script.parent))
    os.chdir(script.parent)
    source = compile(script.read_text(encoding="utf-8"), str(script), "exec")
    try:
        exec(source, {"__name__": "__main__", "__file__": str(script)})
    except _Started as started:
        update, draw = started.args
        return update, draw
    raise RuntimeError(f"{script.name} ended before it called pyxel.run")


def _code(key: str) -> int:
    code: int = getattr(pyxel, f"KEY_{KEYS.get(key, key.upper())}")
    return code


def _screen() -> np.ndarray:
    """(h, w, 3) uint8"""
    indices = np.frombuffer(pyxel.screen.data_ptr(), np.uint8).reshape(pyxel.height, pyxel.width)
    colours = np.array(list(pyxel.colors), np.uint32)
    palette = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=-1).astype(np.uint8)
    return palette[indices]


def _answer(out: IO[bytes], game: Running, sound: np.ndarray) -> None:
    head = {"shape": game.screen.shape, "samples": len(sound), "facts": game.facts()}
    out.write(json.dumps(head).encode() + b"\n" + game.screen.tobytes() + sound.tobytes())
    out.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
