"""The README's commands and code are run as they stand, with smaller numbers."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from worldgen import cli
from worldgen.data.recording import RecordingInfo

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    """Every `worldgen ...` of the shell blocks, in words"""
    lines = [part.strip() for block in blocks("bash") for line in block.splitlines() for part in line.split("&&")]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("worldgen ")]


def test_the_two_setup_commands_are_there():
    assert 'pip install -e ".[cpu]" && worldgen play' in README
    assert 'pip install -e ".[dev]" && pytest' in README


def test_every_extra_that_the_readme_names_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for group in re.findall(r'"\.\[([\w,]+)\]"', README) for name in group.split(",")}
    assert named and named <= set(extras)


def test_every_command_of_the_project_is_in_the_readme():
    for name in cli.COMMANDS:
        assert f"`worldgen {name} " in README, name


def test_the_facts_of_a_recording_are_understood():
    (example,) = blocks("json")
    actions = RecordingInfo.from_json(json.loads(example)).actions
    assert actions is not None and actions.from_keys(["left", "space"]) == 2 and actions.from_keys([]) == 0


def test_every_play_and_record_command_is_understood():
    from worldgen.command import parse
    from worldgen.envs.record_command import RecordOptions, check_record_options
    from worldgen.play.options import PlayOptions

    understood = [parse(PlayOptions, "play", words[2:], None) for words in commands() if words[1] == "play"]
    for words in (words for words in commands() if words[1] == "record"):
        options = parse(RecordOptions, "record", words[2:], None)
        check_record_options(options)
        understood.append(options)
    assert len(understood) >= 8


def test_every_folder_that_the_readme_names_exists():
    for name in re.findall(r"^\| `(\w+)/`", README, re.MULTILINE):
        assert (ROOT / name).is_dir(), name


def test_the_first_command_plays(tmp_path, monkeypatch, capsys):
    """With no display it plays by itself and writes a clip and figures."""
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    assert ["worldgen", "play"] in commands()
    assert cli.main(["play", "--frames", "20"]) == 0
    assert "no display" in capsys.readouterr().out
    assert next(tmp_path.glob("*.mp4")).stat().st_size > 1000


def test_the_python_examples_run():
    scope: dict = {}
    for code in blocks("python"):
        exec(code, scope)
    assert scope["frame"].image.shape == (4, 192, 256, 3)
    assert scope["observations"].shape == (8, 48, 64, 3)


@pytest.mark.slow
def test_training_your_own_world_works_as_written(tmp_path, monkeypatch):
    pytest.importorskip("vizdoom")
    monkeypatch.chdir(tmp_path)
    smaller = {"--frames": "240", "--workers": "1", "--minutes": "0.05"}
    lines = [line for line in commands() if line[1] in ("record", "train", "play") and len(line) > 2]
    lines = lines[[line[1] for line in lines].index("record") :]
    assert [line[1] for line in lines][:3] == ["record", "train", "play"]
    for words in lines[:3]:
        words = [smaller.get(before, word) for before, word in zip(["", *words], words, strict=False)]
        if words[1] == "play":
            words += ["--headless", "--frames", "5", "--out", "clip.mp4"]
        assert cli.main(words[1:]) == 0, words
    assert Path("clip.mp4").stat().st_size > 500
