"""A folder becomes arrays in which row t belongs to frame t; the cache is rebuilt exactly when it has to be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recordings import HEIGHT, WALK, WIDTH, coded_frame, number_of, record, write_video

from worldgen.actions import ActionMap
from worldgen.config import MAX_WORLD_FPS, WorldConfig
from worldgen.data import map_files, progress
from worldgen.data.cache import Cache, load_cache, open_cache
from worldgen.data.mapped_npz import map_npz
from worldgen.data.recording import RecordingInfo, RecordingWriter
from worldgen.errors import InputError


@pytest.fixture
def build(tmp_path):
    """Opens the cache of tmp_path / data at 24x32 unless told otherwise."""
    (tmp_path / "data").mkdir()

    def run(**settings) -> Cache:
        defaults = {"height": 24, "width": 32, "cache_dir": tmp_path / "cache"}
        return open_cache(tmp_path / "data", **(defaults | settings))

    run.data = tmp_path / "data"
    run.dir = tmp_path / "cache"
    return run


def entries(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_every_row_belongs_to_its_frame(build):
    walks = [record(build.data / f"e{e}.mkv", 30 + 5 * e, first=100 * e, sample_rate=24000) for e in range(3)]
    cache = build(sample_rate=24000)
    assert cache.frames.shape == (105, 24, 32, 3) and cache.frames.dtype == np.uint8 and cache.fps == 30
    assert cache.starts.tolist() == [0, 30, 65, 105] and cache.episode_names == ("e0.mkv", "e1.mkv", "e2.mkv")
    numbers = np.concatenate([np.arange(n) + 100 * e for e, n in enumerate((30, 35, 40))])
    assert [number_of(frame) for frame in cache.frames] == numbers.tolist()
    assert cache.state["number"].tolist() == numbers.tolist()
    assert cache.sound.shape == (105, 800, 1) and cache.sample_rate == 24000
    np.testing.assert_array_equal(cache.sound, np.broadcast_to(numbers[:, None, None], (105, 800, 1)))
    np.testing.assert_array_equal(cache.actions[:, 0], np.concatenate(walks))
    np.testing.assert_array_equal(cache.reward, np.concatenate([np.arange(30 + 5 * e) for e in range(3)]))
    assert np.flatnonzero(cache.terminated).tolist() == [28, 63, 103] and not cache.truncated.any()
    assert cache.action_map == WALK and [r.status for r in cache.reports] == ["ok"] * 3 and cache.notes == ()


def test_an_action_leads_to_the_next_frame(build):
    """A square moves as each action says: one row of shift anywhere and the walk does not add up."""
    rng, place, size = np.random.default_rng(5), 32, 8
    with RecordingWriter(build.data / "a.mkv", RecordingInfo(30, WALK, "test")) as writer:
        for _ in range(80):
            frame = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
            frame[16:32, place - size // 2 : place + size // 2] = 240
            writer.write(frame)
            action = int(rng.integers(3))
            writer.act(action)
            place = int(np.clip(place + 4 * (action - 1), 8, WIDTH - 8))
    cache = build(height=HEIGHT, width=WIDTH)
    bright = cache.frames[:, 24, :, 1].astype(float) - 30
    places = (bright * np.arange(WIDTH)).sum(1) / bright.sum(1) + 0.5
    moves = np.clip(places[:-1] + 4 * (cache.actions[:-1, 0] - 1), 8, WIDTH - 8) - places[:-1]
    np.testing.assert_allclose(places[1:] - places[:-1], moves, atol=0.5)
    shifted = np.abs((places[2:] - places[1:-1]) - 4 * (cache.actions[:-2, 0] - 1))
    assert shifted.max() > 3  # the test can see a shift


@pytest.mark.parametrize("fps, step", [(15, 2), (10, 3)])
def test_a_lower_rate_keeps_the_action_on_screen_and_adds_what_was_skipped(build, fps, step):
    actions = record(build.data / "a.mkv", 60)
    cache = build(fps=fps)
    n = 60 // step
    # the end of the episode, which only its last frame shows, is kept though it falls between two outputs
    rows = [*range(0, 60, step), 59]
    assert [number_of(f) for f in cache.frames] == rows == cache.state["number"].tolist()
    np.testing.assert_array_equal(cache.actions[:, 0], actions[rows])
    np.testing.assert_array_equal(cache.reward[: n - 1], [sum(range(r, r + step)) for r in range(0, 60 - step, step)])
    assert cache.reward.sum() == sum(range(60)) and np.flatnonzero(cache.terminated).tolist() == [n - 1]
    assert f"resampled to {fps} fps: 1 at 30 fps" in cache.notes


def test_a_higher_rate_gives_each_reward_once(build):
    record(build.data / "a.mkv", 30)
    cache = build(fps=60)
    assert [number_of(f) for f in cache.frames] == [i // 2 for i in range(60)]
    np.testing.assert_array_equal(cache.reward, [0 if i % 2 == 0 else i // 2 for i in range(60)])
    assert np.flatnonzero(cache.terminated).tolist() == [57]


def test_differing_rates_are_resampled_to_the_most_common(build):
    for name, fps in [("a", 30), ("b", 15), ("c", 15)]:
        record(build.data / f"{name}.mkv", 30, fps=fps)
    cache = build()
    assert cache.fps == 15 and cache.lengths.tolist() == [16, 30, 30] and "1 at 30 fps" in cache.notes[0]


def test_more_frames_a_second_than_a_world_has_are_resampled(build):
    write_video(build.data / "a.mkv", [coded_frame(t) for t in range(60)], times_ms=list(range(60)), fps=1000)
    cache = build()
    assert cache.fps == 240 and cache.notes == ("resampled to 240 fps: 1 at 1000 fps",)
    assert [number_of(f) for f in cache.frames] == [i * 1000 // 240 for i in range(cache.num_frames)]


def test_a_world_takes_the_highest_rate_of_a_cache_and_none_above():
    actions = ActionMap.discrete(["a", "b"], [(), ()])
    assert WorldConfig("w", 16, 16, MAX_WORLD_FPS, actions, 8).fps == MAX_WORLD_FPS
    with pytest.raises(InputError, match=f"between 0 and {MAX_WORLD_FPS}"):
        WorldConfig("w", 16, 16, MAX_WORLD_FPS + 1, actions, 8)


def test_variable_rate_rows_stay_on_their_frames(build):
    times = np.cumsum(np.append(0, np.random.default_rng(0).choice([17, 33, 50, 180], 49)))
    write_video(build.data / "a.mkv", [coded_frame(t) for t in range(50)], times_ms=times.tolist())
    rows = "".join(json.dumps({"action": t % 5, "number": t}) + "\n" for t in range(50))
    (build.data / "a.jsonl").write_text(rows)
    cache = build(fps=20)
    numbers = [number_of(f) for f in cache.frames]
    assert numbers == cache.state["number"].tolist() and len(set(numbers)) > 25
    assert cache.actions[:, 0].tolist() == [n % 5 for n in numbers]


def test_unlabelled_videos_have_no_actions_alone_and_null_ones_beside_others(build):
    write_video(build.data / "b.mp4", [coded_frame(t) for t in range(30)])
    alone = build()
    assert alone.actions is None and alone.action_map is None and not alone.reward.any() and alone.sound is None
    record(build.data / "a.mkv", 20)
    mixed = build()
    assert mixed.action_map == WALK and (mixed.actions[:20] < 3).all() and (mixed.actions[20:] == 3).all()
    assert np.isnan(mixed.state["number"][20:]).all()


def test_single_unknown_actions_are_null(build):
    write_video(build.data / "a.mkv", [coded_frame(t) for t in range(4)])
    actions = [[1, 0], None, [0, 1], [1, 1]]
    (build.data / "a.jsonl").write_text("".join(json.dumps({"action": action}) + "\n" for action in actions))
    cache = build()
    assert cache.action_map == ActionMap("multi_binary", (2, 2))
    assert cache.actions.tolist() == [[1, 0], [2, 2], [0, 1], [1, 1]]


def test_inferred_actions_cover_all_files(build):
    for name, largest in [("a", 2), ("b", 6)]:
        write_video(build.data / f"{name}.mkv", [coded_frame(t) for t in range(10)])
        (build.data / f"{name}.csv").write_text("action\n" + "".join(f"{t % (largest + 1)}\n" for t in range(10)))
    assert build().action_map == ActionMap("discrete", (7,))


def test_different_action_spaces_are_refused_naming_two_files(build):
    record(build.data / "a.mkv", 10)
    write_video(build.data / "b.mkv", [coded_frame(t) for t in range(10)])
    (build.data / "b.jsonl").write_text('{"action": [0.5, 0.1]}\n' * 10)
    with pytest.raises(InputError, match=r"a\.mkv and .*b\.mkv have different action spaces"):
        build()


def test_sound_is_given_a_whole_number_of_samples_a_frame_and_silence_where_there_is_none(build):
    record(build.data / "a.mkv", 30, sample_rate=24000)
    record(build.data / "b.mkv", 30, first=30)
    cache = build(sample_rate=22051, channels=2)
    assert cache.sound.shape == (60, 735, 2) and cache.sample_rate == 22050
    assert cache.has_sound.tolist() == [True, False] and not cache.sound[30:].any()
    np.testing.assert_allclose(cache.sound[5:25, 300].mean(axis=-1), np.arange(5, 25), atol=2)
    assert any("22050" in note for note in cache.notes) and any("no sound" in note for note in cache.notes)


def test_damage_cuts_an_episode_and_the_rows_after_it_keep_their_frames(build):
    n = 400
    rng, path = np.random.default_rng(0), build.data / "a.mkv"
    with RecordingWriter(path, RecordingInfo(30, WALK, "test")) as writer:
        for t in range(n):
            frame = coded_frame(t)
            frame[:12] = rng.integers(0, 256, (12, WIDTH, 3))
            writer.write(frame, state={"number": t})
            writer.act(t % 3, reward=1.0)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20000] = bytes(20000)
    path.write_bytes(data)
    cache = build()
    assert cache.num_episodes == 2 and cache.episode_names == ("a.mkv#0", "a.mkv#1")
    assert cache.reports[0].status == "repaired" and n - 60 < cache.num_frames < n
    assert [number_of(f) for f in cache.frames] == cache.state["number"].tolist()
    assert (cache.actions[:, 0] == cache.state["number"] % 3).all() and (cache.reward == 1).all()


def test_unusable_files_are_reported_and_the_rest_is_used(build):
    record(build.data / "a.mkv", 20)
    (build.data / "b.mp4").write_text("no video")
    cache = build()
    assert cache.num_frames == 20 and [r.status for r in cache.reports] == ["ok", "refused"]
    (build.data / "a.mkv").write_text("no video")
    with pytest.raises(InputError, match="none of its 2 videos is usable"):
        build()


def test_a_cache_is_used_again_until_a_file_or_a_setting_changes(build):
    record(build.data / "a.mkv", 20)
    first, second = build(), build()
    assert first.path == second.path and entries(build.dir) == [first.path.name]
    assert build(height=12).path != first.path
    rows = build.data / "a.jsonl"
    before = rows.stat()
    rows.write_text(rows.read_text().replace('"reward": 3.0', '"reward": 7.0'))
    os.utime(rows, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size, same time, other content
    changed = build()
    assert changed.path != first.path and changed.reward[3] == 7


@pytest.mark.parametrize("name", ["frames.bin", "rows.npz", "meta.json", "sound.bin"])
@pytest.mark.parametrize("damage", ["cut", "zeros", "gone"])
def test_a_damaged_cache_is_rebuilt(build, name, damage):
    record(build.data / "a.mkv", 20, sample_rate=24000)
    path = build(sample_rate=24000).path / name
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else bytes(len(whole)))
    assert load_cache(path.parent) is None
    again = build(sample_rate=24000)
    assert [number_of(f) for f in again.frames] == list(range(20)) and again.sound[7, 0, 0] == 7
    assert entries(build.dir) == [again.path.name]


def test_a_killed_build_leaves_nothing_that_is_taken_for_a_cache(build, monkeypatch):
    record(build.data / "a.mkv", 20)
    path = build().path
    shutil.rmtree(path)
    stale = build.dir / ".build-old"
    stale.mkdir()
    os.utime(stale, (0, 0))
    assert build().path == path and entries(build.dir) == [path.name]


BUILD = "import sys; from worldgen.data.cache import open_cache; "
BUILD += "print(open_cache(sys.argv[1], height=24, width=32, cache_dir=sys.argv[2]).num_frames)"


def test_two_builders_at_once_agree(build):
    for e in range(3):
        record(build.data / f"e{e}.mkv", 60, first=60 * e)
    command = [sys.executable, "-c", BUILD, str(build.data), str(build.dir)]
    builders = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(3)]
    assert [b.communicate()[0] for b in builders] == [b"180\n"] * 3
    assert len(entries(build.dir)) == 1 and [number_of(f) for f in build().frames] == list(range(180))


def test_a_pool_of_processes_builds_the_same(build, monkeypatch):
    for e in range(3):
        record(build.data / f"e{e}.mkv", 20, first=20 * e)
    monkeypatch.setattr(map_files, "MIN_POOL_BYTES", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    calls = []
    cache = build(on_progress=lambda done, total, path: calls.append((done, total)))
    assert [number_of(f) for f in cache.frames] == list(range(60)) and calls == [(1, 3), (2, 3), (3, 3)]


def test_rows_need_not_fit_into_memory(build, tmp_path):
    """They are mapped, as np.load() would read them; what cannot be mapped is refused."""
    record(tmp_path / "data" / "a.mkv", 30)
    record(tmp_path / "data" / "b.mkv", 20, first=30)
    cache = build()
    with np.load(cache.path / "rows.npz") as rows:
        for name in ("actions", "reward", "terminated", "truncated"):
            mapped = getattr(cache, name)
            assert isinstance(mapped, np.memmap) and mapped.dtype == rows[name].dtype
            np.testing.assert_array_equal(mapped, rows[name])
    np.savez_compressed(tmp_path / "packed.npz", a=np.ones(3))
    np.savez(tmp_path / "objects.npz", a=np.array([{}], object))
    for name in ("packed", "objects"):
        with pytest.raises(ValueError, match="compressed|objects"):
            map_npz(tmp_path / f"{name}.npz")


def test_the_cache_folder_comes_from_the_environment(build, monkeypatch, tmp_path):
    record(build.data / "a.mkv", 20)
    monkeypatch.setenv("WORLDGEN_CACHE", str(tmp_path / "elsewhere"))
    assert build(cache_dir=None).path.parent == tmp_path / "elsewhere"


def test_time_left_does_not_count_the_start_of_the_processes_that_read(monkeypatch):
    clock, said = iter([26.0, 26.0, 35.0, 46.0, 225.0]), []
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    on_progress = progress.say_progress(said.append)
    for done in (1, 2, 10, 21, 200):  # two at once after 26 s, then one a second
        on_progress(done, 200, Path("a.mkv"))
    assert said == ["  21/200 files read, 1.0/s, 2:59 left"]
