"""What latent actions are not learned from: cuts, menus, standstills, two games, clips that are too short."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import TOY_ACTIONS

from worldgen.data.cache import open_cache
from worldgen.data.dataset import Segments
from worldgen.data.recording import RecordingInfo, RecordingWriter
from worldgen.errors import InputError
from worldgen.training.latent_data import check_one_game, playable

FPS = 10


def play(t: int, seed: int) -> np.ndarray:
    """(t, 24, 32, 3) uint8: a patterned floor that scrolls"""
    floor = np.random.default_rng(seed).integers(0, 256, (24, 64, 3), dtype=np.uint8)
    return np.stack([np.roll(floor, i, axis=1)[:, :32] for i in range(t)])


def still(t: int, seed: int) -> np.ndarray:
    return np.repeat(play(1, seed), t, axis=0)


def cache_of(*videos: np.ndarray) -> SimpleNamespace:
    starts = np.concatenate([[0], np.cumsum([len(v) for v in videos])])
    names = tuple(f"{'abcdef'[i]}.mp4" for i in range(len(videos)))
    return SimpleNamespace(frames=np.concatenate(videos), starts=starts, fps=float(FPS), episode_names=names)


def stretches(*videos: np.ndarray, min_length: int = 8) -> tuple[list[tuple[int, int]], str]:
    cache, said = cache_of(*videos), []
    segments = Segments(cache.starts[:-1], cache.starts[1:])
    return list(playable(cache, segments, min_length, said.append)), " ".join(said)


def test_a_recording_of_play_is_used_whole_and_nothing_is_said():
    assert stretches(play(60, 0), play(40, 1)) == ([(0, 60), (60, 100)], "")


def test_a_cut_is_no_action():
    pieces, said = stretches(np.concatenate([play(50, 0) // 4, play(50, 1) // 4 + 180]))
    assert pieces == [(0, 50), (50, 100)]
    assert "cuts are no actions: a.mp4: 1 cut, the first at 5.0 s" in said


def test_a_menu_is_left_out_with_its_file_and_place():
    pieces, said = stretches(play(40, 0), np.concatenate([play(40, 1), still(50, 1), play(30, 1)]))
    assert pieces[0] == (0, 40) and len(pieces) == 3
    assert all(b <= 82 or a >= 128 for a, b in pieces)
    assert "menus and standstills are left out: b.mp4: nothing moves for 5 s, from 4.0 s on" in said


def test_places_count_from_the_beginning_of_the_recording():
    cache, said = cache_of(np.concatenate([play(90, 0) // 4, play(50, 1) // 4 + 180, still(50, 2), play(40, 2)])), []
    playable(cache, Segments(np.array([50]), np.array([230])), 8, said.append)  # as of one that is split
    assert "the first at 9.0 s" in " ".join(said) and "from 14.0 s on" in " ".join(said)


def test_a_short_pause_is_play():
    assert stretches(np.concatenate([play(40, 1), still(20, 1), play(30, 1)]))[0] == [(0, 90)]


def test_a_small_ball_is_play():
    floor = np.full((60, 64, 64, 3), 90, np.uint8)
    for i, frame in enumerate(floor):
        frame[30:32, i : i + 2] = 250
    assert stretches(floor)[0] == [(0, 60)]


def test_a_video_in_which_nothing_happens_is_refused_by_name():
    with pytest.raises(InputError, match=r"learned from what changes: a\.mp4: no 8 frames in a row"):
        stretches(still(100, 0))
    pieces, said = stretches(play(50, 0), still(100, 0))
    assert pieces == [(0, 50)] and "not used: b.mp4" in said


def test_clips_shorter_than_what_is_needed_are_refused_by_name():
    with pytest.raises(InputError, match=r"a\.mp4: no 17 frames in a row.*; b\.mp4.*record longer"):
        stretches(play(10, 0), play(16, 1), min_length=17)
    pieces, said = stretches(play(10, 0), play(20, 1), min_length=17)
    assert pieces == [(10, 30)] and "not used: a.mp4" in said


def record(path: Path, source: str, size: tuple[int, int]) -> None:
    with RecordingWriter(path, RecordingInfo(FPS, TOY_ACTIONS, source)) as writer:
        for frame in play(20, 0):
            writer.write(np.resize(frame, (*size, 3)))
            writer.act(0)


@pytest.mark.parametrize(
    "second, said",
    [
        (("pong", (24, 32)), "one.mkv is of mario and two.mkv of pong"),
        (("mario", (32, 24)), "one.mkv is 32x24 and two.mkv 24x32: they look like two games"),
    ],
)
def test_two_games_in_one_folder_are_refused_by_name(tmp_path: Path, second: tuple, said: str):
    record(tmp_path / "one.mkv", "mario", (24, 32))
    record(tmp_path / "two.mkv", *second)
    with pytest.raises(InputError, match=said):
        check_one_game(tmp_path, open_cache(tmp_path, height=16, width=16))


def test_a_recording_that_is_not_used_is_of_no_game(tmp_path: Path):
    record(tmp_path / "one.mkv", "mario", (24, 32))
    for name, facts in (("two", "{"), ("three", None)):
        record(tmp_path / f"{name}.mkv", "pong", (24, 32))
        if facts is None:
            (tmp_path / f"{name}.mkv").write_bytes(b"damaged")
        else:
            (tmp_path / f"{name}.json").write_text(facts)
    cache = open_cache(tmp_path, height=16, width=16)
    assert cache.episode_names == ("one.mkv",)
    check_one_game(tmp_path, cache)


def test_recordings_of_one_game_pass(toy_recordings: Path, tmp_path: Path):
    cache = open_cache(toy_recordings, height=16, width=16)
    check_one_game(toy_recordings, cache)
    shutil.copytree(toy_recordings, tmp_path / "videos", ignore=shutil.ignore_patterns("*.json*", "*.parquet", "*.csv"))
    check_one_game(tmp_path / "videos", open_cache(tmp_path / "videos", height=16, width=16))
