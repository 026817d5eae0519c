"""A person plays a real game: it is shown by the player and recorded, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from worldgen.cli import main
from worldgen.data.check import check_folder
from worldgen.data.sidecar import read_sidecar
from worldgen.envs.played_game import PlayedGame
from worldgen.envs.toy_game import ToyGame
from worldgen.errors import InputError
from worldgen.play.loop import Player

RIGHT = 2


def test_what_a_person_plays_is_recorded_one_episode_a_file(tmp_path):
    game = PlayedGame(ToyGame(), tmp_path)
    player = Player(game)
    shown = [player.frame.image] + [player.step(RIGHT).image for _ in range(10)]
    player.restart()
    player.step(0)
    game.close()
    first, second = sorted(tmp_path.glob("*.jsonl"))
    rows = read_sidecar(first)
    assert rows.actions[:10] == [RIGHT] * 10 and len(rows) == 11
    assert rows.truncated.tolist() == [False] * 9 + [True, False]  # the person began anew; the last row is padding
    assert rows.state["x"][0] < rows.state["x"][9]
    assert len(read_sidecar(second)) == 2
    assert [f.report.status for f in check_folder(tmp_path).files] == ["ok", "ok"]
    from worldgen.data.decode import read_frames

    height, width, _ = shown[0].shape
    stored = [frame for _, frame in read_frames(first.with_suffix(".mkv"), game.config.fps, width, height)]
    assert len(stored) == 11
    for a, b in zip(stored, shown, strict=True):
        assert np.abs(a.astype(int) - b).mean() < 4


def test_a_game_that_ends_is_flagged_and_goes_on_with_the_next_episode(tmp_path):
    game = PlayedGame(ToyGame(), tmp_path)
    player = Player(game, seed=3)
    for _ in range(1500):
        if game.num_episodes > 1:
            break
        player.step(RIGHT)  # into the first pit or enemy
    game.close()
    rows = read_sidecar(sorted(tmp_path.glob("*.jsonl"))[0])
    assert rows.terminated[-2] or rows.truncated[-2]
    assert not rows.terminated[:-2].any()


def test_an_episode_without_a_step_leaves_no_file(tmp_path):
    game = PlayedGame(ToyGame(), tmp_path)
    player = Player(game)
    player.restart()
    player.step(RIGHT)
    player.restart()
    game.close()
    assert [f.report.status for f in check_folder(tmp_path).files] == ["ok"]
    assert (game.num_episodes, game.num_frames) == (1, 2)


def test_a_game_that_no_keyboard_plays_is_refused(tmp_path):
    class Continuous(ToyGame):
        def __init__(self):
            from worldgen.actions import ActionMap

            super().__init__()
            self.actions = ActionMap("box", (0,), ("steer",), (), (-1.0,), (1.0,))

    with pytest.raises(InputError, match="no keyboard"):
        PlayedGame(Continuous(), tmp_path)


@pytest.mark.parametrize(
    "words, said",
    [
        (["record", "--out", "o", "--frames", "10"], "which game"),
        (["record", "toy", "--out", "o"], "--frames"),
        (["record", "toy", "--screen", "--out", "o"], "leave out the game"),
        (["record", "toy", "--window", "x", "--frames", "5", "--out", "o"], "belongs to --screen"),
        (["record", "toy", "--height", "240", "--frames", "5", "--out", "o"], "--height belongs to --screen"),
        (["record", "toy", "--mouse", "--frames", "5", "--out", "o"], "--mouse belongs to --screen"),
        (["record", "toy", "--no-sound", "--play", "--out", "o"], "--no-sound belongs to --screen"),
        (["record", "--screen", "--window", "x", "--region", "1,2,3,4", "--out", "o"], "choose one"),
        (["record", "--screen", "--fps", "500", "--out", "o"], "--fps 500"),
        (["record", "--screen", "--keys", "a,a", "--out", "o"], "each key once"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_line(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_person_without_a_display_is_told_how_to_record_without_one(capsys, tmp_path, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["record", "toy", "--play", "--out", str(tmp_path / "o")]) == 1
    assert "no display" in capsys.readouterr().err
    assert not list((tmp_path / "o").glob("*.mkv")) if (tmp_path / "o").exists() else True


def test_a_person_plays_in_the_window(capsys, tmp_path, monkeypatch):
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    monkeypatch.setenv("WORLDGEN_HOME", str(tmp_path / "home"))
    assert main(["record", "toy", "--play", "--out", str(tmp_path / "o"), "--frames", "30"]) == 0
    (report,) = (f.report for f in check_folder(tmp_path / "o").files)
    assert report.status == "ok" and report.num_frames == 31 and report.has_sound
