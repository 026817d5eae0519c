"""A person at a real desktop plays the bundled world in its window: every frame of it replays bit for bit.

WORLDGEN_DESKTOP=1 WORLDGEN_SHOTS=shots pytest tests/test_play_desktop.py     # screenshots to look at
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from desktop import Person, x_server

from worldgen.play.session import Session

pytestmark = pytest.mark.skipif(not os.environ.get("WORLDGEN_DESKTOP"), reason="a real desktop: WORLDGEN_DESKTOP=1")

RIGHT, LEFT_AND_SHOOT = 2, 4


def hold(person: Person, seconds: float, *keys: str) -> None:
    for is_down in (True, False):
        for key in keys:
            person.key(key, is_down)
        time.sleep(seconds if is_down else 0.3)


def test_hold_combine_rewind_save_load_fork_and_quit(tmp_path):
    shots = Path(os.environ.get("WORLDGEN_SHOTS", tmp_path / "shots"))
    shots.mkdir(parents=True, exist_ok=True)
    session = tmp_path / "s.json"
    with x_server() as display:
        environ = {
            **os.environ,
            "DISPLAY": display,
            "WORLDGEN_HOME": str(tmp_path / "home"),
            "SDL_AUDIODRIVER": "dummy",
        }
        environ.pop("SDL_VIDEODRIVER", None)
        words = ["play", "doom", "--record", str(session), "--captures", str(tmp_path)]
        game = subprocess.Popen([sys.executable, "-m", "worldgen.cli", *words], env=environ, stdout=subprocess.DEVNULL)
        person = Person(display)
        person.window("worldgen - doom")
        time.sleep(2)
        began = person.look().copy()

        def held(name: str, *keys: str) -> np.ndarray:
            """What is on screen while keys are held"""
            for key in keys:
                person.key(key, True)
            time.sleep(1.5)
            person.screenshot(shots / f"{name}.png")
            seen = person.look().copy()
            for key in reversed(keys):
                person.key(key, False)
            time.sleep(0.3)
            return seen

        assert (held("1-hold-right", "Right") != began).mean() > 0.02
        hold(person, 0.1, "F1")
        held("2-left-and-shoot", "Left", "space")
        held("3-rewind", "BackSpace")
        hold(person, 0.1, "F5")
        hold(person, 1.0, "Right")
        hold(person, 0.1, "F9")
        person.screenshot(shots / "4-loaded.png")
        assert list((tmp_path / "home" / "saves").glob("doom-*.npz"))
        hold(person, 0.1, "g")
        hold(person, 1.0, "space")
        hold(person, 0.1, "g")
        held("5-fork", "Right")
        hold(person, 0.1, "g")
        hold(person, 0.1, "F2")
        person.screenshot(shots / "6-help.png")
        hold(person, 0.1, "F2")
        hold(person, 0.1, "F12")
        hold(person, 0.7, "Left", "space")
        hold(person, 0.1, "Escape")
        assert game.wait(30) == 0
    assert (tmp_path / "worldgen-doom-1.png").stat().st_size > 1000
    actions = Session.load(session).actions
    assert RIGHT in actions and LEFT_AND_SHOOT in actions
    command = [sys.executable, "-m", "worldgen.cli", "play", "--replay", str(session), "--headless"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path).stdout
    assert f"replayed {len(actions)} frames: identical to the session, bit for bit" in said
