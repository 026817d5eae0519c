import io
import json
import multiprocessing.process
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from game_checks import read_recording, recordings
from recordings import WALK, coded_frame, number_of

from worldgen.cli import main
from worldgen.envs.catalogue import list_games, make_game
from worldgen.envs.game import GameFrame
from worldgen.envs.policies import MIX, MixPolicy, NoisyPolicy, RandomPolicy, StickyPolicy, make_policy
from worldgen.envs.record import record, record_episode
from worldgen.errors import InputError
from worldgen.interrupts import HANGUP


class NumberGame:
    """Shows a number that the actions count down, keep or count up; its sound is the number, held."""

    name, licence, fps, actions, sample_rate, channels = "number", "CC0-1.0", 10.0, WALK, 8000, 1

    def __init__(self, length: int = 10**9):
        self._length = length

    def reset(self, seed: int) -> GameFrame:
        self.number, self._steps = 500, 0
        return self._see(0.0)

    def step(self, action: int) -> GameFrame:
        self.number += action - 1
        self._steps += 1
        return self._see(100.0 * self._steps + action)

    def close(self) -> None:
        pass

    def _see(self, reward: float) -> GameFrame:
        return GameFrame(
            coded_frame(self.number),
            np.full((800, 1), 10 * self.number, np.int16),
            reward,
            terminated=self._steps == self._length,
            state={"number": self.number},
        )


def record_numbers(path: Path, limit: int = 60, length: int = 10**9, index: int = 0) -> int:
    game = NumberGame(length)
    return record_episode(game, RandomPolicy(game), path, seed=3, index=index, limit=limit)


def test_the_action_in_a_row_leads_to_the_next_frame(tmp_path):
    assert record_numbers(tmp_path / "a.mkv") == 60
    frames, _, rows = read_recording(tmp_path / "a.mkv")
    shown = [number_of(frame) for frame in frames]
    assert len(frames) == len(rows) == 60
    assert len(set(shown)) > 3, "nothing moved: the test would not see a shift"
    assert np.diff(shown).tolist() == [row["action"] - 1 for row in rows[:-1]]


def test_a_row_holds_the_state_of_its_frame_and_the_reward_of_its_step(tmp_path):
    record_numbers(tmp_path / "a.mkv")
    frames, _, rows = read_recording(tmp_path / "a.mkv")
    assert [row["number"] for row in rows] == [number_of(frame) for frame in frames]
    assert [row["reward"] for row in rows[:-1]] == [100 * (t + 1) + rows[t]["action"] for t in range(59)]


def test_the_sound_of_a_frame_is_heard_while_it_is_shown(tmp_path):
    record_numbers(tmp_path / "a.mkv")
    frames, sound, _ = read_recording(tmp_path / "a.mkv")
    assert sound.shape == (60 * 800, 1)
    assert [block[0, 0] // 10 for block in np.split(sound, 60)] == [number_of(frame) for frame in frames]


def test_the_end_of_an_episode_is_flagged_in_the_row_before_its_last_frame(tmp_path):
    assert record_numbers(tmp_path / "a.mkv", length=20) == 21
    _, _, rows = read_recording(tmp_path / "a.mkv")
    assert [row["terminated"] for row in rows] == [False] * 19 + [True, False]
    assert not any(row["truncated"] for row in rows)


def test_an_episode_that_is_cut_is_flagged_truncated(tmp_path):
    record_numbers(tmp_path / "a.mkv", limit=30)
    _, _, rows = read_recording(tmp_path / "a.mkv")
    assert [row["truncated"] for row in rows] == [False] * 28 + [True, False]
    assert not any(row["terminated"] for row in rows)


def test_the_facts_of_a_recording_stand_beside_it(tmp_path):
    record("toy", tmp_path, 20, policy="random", seed=4)
    facts = json.loads(recordings(tmp_path)[0].with_suffix(".json").read_text())
    game = make_game("toy")
    assert facts["fps"] == game.fps
    assert facts["source"] == "toy"
    assert facts["action_space"] == game.actions.to_json()
    assert facts["licence"]


def test_the_same_seed_records_the_same_whatever_the_number_of_workers(tmp_path):
    taken = {}
    for workers in (1, 2):
        out = tmp_path / str(workers)
        assert record("gym:CartPole-v1", out, 90, policy="mix", seed=1, workers=workers)["frames"] == 90
        taken[workers] = {path.name: read_recording(path) for path in recordings(out)}
        assert not [path for path in out.iterdir() if path.suffix not in (".mkv", ".jsonl", ".json")]
    assert list(taken[1]) == list(taken[2])
    assert len(taken[1]) > 2, "one or two episodes say little about the order of several"
    for (frames, _, rows), (other_frames, _, other_rows) in zip(*(t.values() for t in taken.values()), strict=True):
        assert rows == other_rows
        assert np.array_equal(frames, other_frames)
    assert [rows[-2]["truncated"] for _, _, rows in taken[2].values()][-1]


def test_another_seed_records_something_else(tmp_path):
    for seed in (0, 1):
        record("toy", tmp_path / str(seed), 40, policy="sticky", seed=seed)
    first, second = (read_recording(recordings(tmp_path / str(seed))[0])[2] for seed in (0, 1))
    assert [row["action"] for row in first] != [row["action"] for row in second]


def test_recording_again_adds_new_episodes_and_touches_no_old_one(tmp_path):
    record("toy", tmp_path, 30, policy="random")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    record("toy", tmp_path, 30, policy="random")
    assert all(path.read_bytes() == content for path, content in before.items())
    first, second = recordings(tmp_path)
    assert first.stem.endswith("00000")
    assert second.stem.endswith("00001")
    assert read_recording(first)[2] != read_recording(second)[2]


def test_an_interrupted_recording_keeps_what_was_played(tmp_path):
    def interrupt(progress):
        raise KeyboardInterrupt

    result = record("toy", tmp_path, 10_000, policy="random", on_progress=interrupt)
    frames, _, rows = read_recording(recordings(tmp_path)[0])
    assert result["interrupted"]
    assert len(frames) == len(rows) == result["frames"] > 40


@pytest.mark.skipif(HANGUP is None, reason="no SIGHUP here")
def test_a_terminal_that_is_closed_says_so_twice_and_the_episode_still_ends_with_a_frame(tmp_path, hangups_again):
    def hear_two(progress):
        for _ in range(2):
            signal.raise_signal(HANGUP)

    result = record("toy", tmp_path, 10_000, policy="random", on_progress=hear_two)
    frames, _, rows = read_recording(recordings(tmp_path)[0])
    assert result["interrupted"] and len(frames) == len(rows) == result["frames"]
    assert rows[-2]["truncated"]  # cut, not torn
    assert signal.getsignal(HANGUP) == signal.SIG_IGN  # while what is left is closed


@pytest.mark.skipif(HANGUP is None, reason="no SIGHUP here")
def test_a_hangup_after_ctrl_c_does_not_tear_the_episode(tmp_path, hangups_again):
    def hear_both(progress):
        for number in (signal.SIGINT, HANGUP):
            signal.raise_signal(number)

    assert record("toy", tmp_path, 10_000, policy="random", on_progress=hear_both)["interrupted"]
    assert read_recording(recordings(tmp_path)[0])[2][-2]["truncated"]


@pytest.mark.skipif(HANGUP is None, reason="no SIGHUP here")
def test_a_hangup_does_not_end_a_worker_that_is_still_starting(tmp_path, monkeypatch, hangups_again):
    start = multiprocessing.process.BaseProcess.start

    def start_and_hang_up(process):
        start(process)
        os.kill(process.pid, HANGUP)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", start_and_hang_up)
    assert record("toy", tmp_path, 100, policy="random", workers=2)["frames"] == 100
    assert HANGUP not in signal.pthread_sigmask(signal.SIG_BLOCK, [])  # the one that started them hears it


def test_a_terminal_that_was_closed_costs_no_figures(tmp_path, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text=""):
            raise OSError(5, "Input/output error")

        flush = write

        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Gone())
    monkeypatch.setenv("TERM", "xterm")
    words = ["record", "toy", "--out", str(tmp_path), "--frames", "120", "--json", str(tmp_path / "f.json")]
    assert main(words) == 0
    assert json.loads((tmp_path / "f.json").read_text())["frames"] == 120


@pytest.mark.skipif(sys.platform == "win32", reason="kills with a signal")
def test_a_killed_recording_is_usable(tmp_path):
    command = [sys.executable, "-m", "worldgen.cli", "record", "toy", "--out", str(tmp_path), "--frames", "100000"]
    process = subprocess.Popen([*command, "--policy", "sticky"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    rows = tmp_path / "toy-0-00000.jsonl"
    while time.monotonic() < deadline and (not rows.exists() or rows.read_text().count("\n") < 100):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    frames, sound, rows = read_recording(recordings(tmp_path)[0])
    assert len(frames) > 40
    assert len(rows) >= len(frames)


def test_the_command_says_in_one_line_what_is_wrong(tmp_path, capsys):
    assert main(["record", "vizdoom:defend_the_centre", "--out", str(tmp_path), "--frames", "50"]) == 2
    output = capsys.readouterr().err
    assert len(output.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_command_writes_its_figures(tmp_path):
    figures = tmp_path / "figures.json"
    arguments = [
        "record",
        "toy",
        "--out",
        str(tmp_path),
        "--frames",
        "40",
        "--policy",
        "random",
        "--json",
        str(figures),
    ]
    assert main(arguments) == 0
    result = json.loads(figures.read_text())
    assert result["frames"] == 40
    assert result["sound_seconds"] == pytest.approx(40 / result["game_fps"], abs=1e-3)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ("nonsense", "source:name"),
        ("toy:level1", "such as toy"),
        ("gym:NoSuchThing-v3", "NoSuchThing"),
        ("", "source:name"),
    ],
)
def test_an_unknown_game_is_named_with_a_way_out(env, said):
    with pytest.raises(InputError, match=said) as error:
        make_game(env)
    assert env in str(error.value)


@pytest.mark.parametrize("arguments", [{"frames": 1}, {"workers": 0}, {"seed": -1}, {"policy": "best"}])
def test_a_senseless_argument_is_refused_before_anything_is_written(tmp_path, arguments):
    with pytest.raises(InputError, match=str(next(iter(arguments.values())))):
        record("toy", tmp_path / "out", **{"frames": 20} | arguments)
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder_of_recordings(tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "deeper"):
        with pytest.raises(InputError, match="--out .* is a file"):
            record("toy", out, 20)


def test_every_listed_game_has_a_source():
    games = list_games()
    assert games["toy"] == ["toy"]
    assert all(name.startswith(f"{source}:") for source, names in games.items() for name in names if source != "toy")


def test_a_sticky_player_holds_its_actions():
    game, rng = make_game("toy"), np.random.default_rng(0)
    policy = StickyPolicy(game, hold_seconds=0.4)
    policy.reset(rng)
    frame = game.reset(0)
    actions = np.array([policy.act(frame, rng) for _ in range(3000)])
    num_draws = 1 + np.count_nonzero(np.diff(actions))
    assert set(actions) == set(range(6))
    # draws that repeat the same action are not seen as changes: 5 of 6 are
    assert 3000 / num_draws * 5 / 6 / game.fps == pytest.approx(0.4, rel=0.2)


def test_the_mix_draws_each_of_its_players_per_episode():
    game, rng = make_game("toy"), np.random.default_rng(0)
    policy = make_policy("mix", game)
    assert isinstance(policy, MixPolicy)
    names = []
    for _ in range(200):
        policy.reset(rng)
        names.append(policy.name)
    assert {name: names.count(name) / 200 for name in MIX} == pytest.approx(MIX, abs=0.1)


def test_a_noisy_player_differs_from_the_player_about_as_often_as_it_should():
    game, rng = NumberGame(), np.random.default_rng(0)

    class Up:
        def reset(self, rng):
            pass

        def act(self, frame, rng):
            return 2

    def share_of_others(epsilon: float) -> float:
        policy = NoisyPolicy(Up(), game, epsilons=(epsilon,))
        policy.reset(rng)
        frame = game.reset(0)
        return float(np.mean([policy.act(frame, rng) != 2 for _ in range(4000)]))

    assert share_of_others(0.0) == 0
    assert 0.02 < share_of_others(0.05) < 0.4
