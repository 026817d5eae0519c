"""`worldgen check` tells what a person would have to look for: shifted actions, menus, cuts, bars, copies, silence."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from recordings import HEIGHT, WALK, WIDTH, game_frames, number_of, record, write_video

from worldgen import cli
from worldgen.actions import ActionMap
from worldgen.data import contact_sheet
from worldgen.data.cache import open_cache
from worldgen.data.cache_build import checksum
from worldgen.data.check import check_folder, inspect_file
from worldgen.data.container import cleaned_from
from worldgen.data.decode import read_frames
from worldgen.data.recording import RecordingInfo, RecordingWriter, read_info
from worldgen.data.sidecar import read_sidecar
from worldgen.data.sound import read_sound
from worldgen.errors import InputError


def record_walk(path: Path, n: int = 400, late: int = 0, seed: int = 0) -> None:
    """A room that a sticky random walk pans over; the row of frame t holds the action of frame t - late."""
    rng = np.random.default_rng(seed)
    room = np.random.default_rng(99).integers(0, 256, (HEIGHT // 8, 400, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    place, action, actions, frames = 1600, 1, [], []
    for _ in range(n):
        frames.append(room[:, place : place + WIDTH])
        action = action if rng.random() < 0.7 else int(rng.integers(3))
        actions.append(action)
        place = int(np.clip(place + 3 * (action - 1), 0, room.shape[1] - WIDTH))
    with RecordingWriter(path, RecordingInfo(20, WALK, "test")) as writer:
        for t in range(n):
            writer.write(frames[t])
            writer.act(actions[t - late] if 0 <= t - late < n else 1)


@pytest.mark.parametrize("late", [-2, 0, 1, 3])
def test_actions_that_are_written_late_or_early_are_found_out(tmp_path, late):
    for seed in range(3):
        record_walk(tmp_path / f"{seed}.mkv", 600, late, seed)
    check = check_folder(tmp_path)
    assert check.lag == -late and [f.shift for f in check.files] == [0, 0, 0]
    assert any(f"{late} frames late" in words for words in check.findings()) == (late > 0)


def test_one_recording_whose_actions_are_shifted_is_named_and_mended(tmp_path):
    for seed in range(5):
        record_walk(tmp_path / "data" / f"{seed}.mkv", 400, late=2 if seed == 3 else 0, seed=seed)
    check = check_folder(tmp_path / "data")
    assert check.lag == 0 and [f.shift for f in check.files] == [0, 0, 0, -2, 0]
    assert "written 2 frames late" in " ".join(check.files[3].findings())
    assert cli.main(["check", str(tmp_path / "data"), "--fix", str(tmp_path / "fixed")]) == 0
    again = check_folder(tmp_path / "fixed")
    assert again.lag == 0 and [f.shift for f in again.files] == [0] * 5
    record_walk(tmp_path / "true.mkv", 400, seed=3)
    true, mended = (read_sidecar(tmp_path / name).actions for name in ("true.jsonl", "fixed/3.jsonl"))
    assert mended[:-2] == true[:-2] and mended[-2:] == [None, None]


def test_actions_that_do_nothing_have_no_lag(tmp_path):
    for seed in range(3):
        record(tmp_path / f"{seed}.mkv", 300, first=300 * seed)
    check = check_folder(tmp_path)
    assert check.lag is None and all(f.shift is None for f in check.files)


def test_still_stretches_are_found_and_do_not_count_as_usable(tmp_path):
    moving = game_frames(90)
    menu = [moving[40].copy() for _ in range(150)]
    for t, frame in enumerate(menu):  # a cursor wanders over it
        frame[t % 40 : t % 40 + 2, 30:32] = 255
    write_video(tmp_path / "a.mkv", [*moving[:45], *menu, *moving[45:]])
    file = inspect_file(tmp_path / "a.mkv")
    ((first, last),) = file.still
    assert first == pytest.approx(1.5, abs=0.1) and last == pytest.approx(6.5, abs=0.1)
    assert file.usable_seconds == pytest.approx(3.0, abs=0.2)


def test_a_recording_that_is_looked_at_in_part_says_so(tmp_path, monkeypatch):
    for module in ("signals", "check"):
        monkeypatch.setattr(f"worldgen.data.{module}.MAX_THUMBS", 60)
    for n in (60, 61):
        write_video(tmp_path / f"{n}.mkv", game_frames(n))
    assert inspect_file(tmp_path / "60.mkv").findings() == []
    (said,) = inspect_file(tmp_path / "61.mkv").findings()
    assert "in its first 60 frames only: split it" in said


def test_cuts_are_found_and_flashes_are_not(tmp_path):
    one, other = game_frames(60, seed=1), game_frames(60, seed=2)
    one[30] = 255  # a flash
    write_video(tmp_path / "a.mkv", [*one, *other])
    file = inspect_file(tmp_path / "a.mkv")
    assert file.cuts == (2.0,)


@pytest.mark.parametrize("top, left", [(8, 0), (0, 10)])
def test_black_bars_are_measured(tmp_path, top, left):
    frames = np.pad(game_frames(60), ((0, 0), (top, top), (left, left), (0, 0)))
    write_video(tmp_path / "a.mkv", frames, options={"crf": "18"})
    crop = inspect_file(tmp_path / "a.mkv").crop
    # compression spills a pixel or two of the picture into the bars
    assert crop is not None and np.abs(np.array(crop) - (left, top, WIDTH, HEIGHT)).max() <= 4
    assert crop[0] <= left and crop[1] <= top


def test_a_dark_game_has_no_bars(tmp_path):
    write_video(tmp_path / "a.mkv", game_frames(60) // 8)
    assert inspect_file(tmp_path / "a.mkv").crop is None


def test_loudness_and_silence_are_measured(tmp_path):
    tone = (8000 * np.sin(np.arange(48000) * 0.05)).astype(np.int16)
    write_video(tmp_path / "loud.mkv", game_frames(30), sound=tone)
    write_video(
        tmp_path / "half.mkv", game_frames(30, seed=1), sound=np.append(tone[:24000], np.zeros(24000, np.int16))
    )
    write_video(tmp_path / "silent.mkv", game_frames(30, seed=2), sound=np.zeros(48000, np.int16))
    loud, half, silent = (inspect_file(tmp_path / f"{n}.mkv") for n in ("loud", "half", "silent"))
    assert loud.loudness_db == pytest.approx(-15.3, abs=0.2) and loud.peak_db == pytest.approx(-12.2, abs=0.2)
    assert loud.silent == 0 and half.silent == pytest.approx(0.5, abs=0.06) and silent.silent == 1
    assert "silent throughout" in " ".join(silent.findings())


def test_a_second_encoding_and_a_piece_of_a_recording_are_found_and_others_are_not(tmp_path):
    whole = np.concatenate([game_frames(200, seed=1), game_frames(100, seed=2)])
    write_video(tmp_path / "a.mkv", whole)
    write_video(tmp_path / "b.mp4", whole, options={"crf": "28"})
    write_video(tmp_path / "c.mkv", whole[90:250], options={"crf": "20"})
    write_video(tmp_path / "d.mkv", game_frames(300, seed=3))
    files = check_folder(tmp_path).files
    same = {Path(f.report.path).name: [Path(name).name for name, _ in f.same_as] for f in files}
    assert same == {"a.mkv": [], "b.mp4": ["a.mkv"], "c.mkv": ["a.mkv", "b.mp4"], "d.mkv": []}


def test_actions_are_counted(tmp_path):
    actions = record(tmp_path / "a.mkv", 60)
    counts = np.bincount(actions, minlength=3).tolist()
    assert inspect_file(tmp_path / "a.mkv").actions == dict(zip(WALK.names, counts, strict=True))


# --fix


def test_fixing_crops_cuts_and_keeps_every_row_and_sound_on_its_frame(tmp_path):
    """Black bars around, a menu inside, a scene cut: what is written is two recordings that need no repair."""
    n, path = 260, tmp_path / "data" / "deep" / "a.mkv"
    scenes = np.concatenate([game_frames(150, seed=1), game_frames(110, seed=2)])
    scenes[60:130] = scenes[60]
    with RecordingWriter(path, RecordingInfo(20, WALK, "test"), sample_rate=24000) as writer:
        for t in range(n):
            frame = np.pad(scenes[t], ((8, 8), (0, 0), (0, 0)))
            writer.write(frame, np.full((1200, 1), t, np.int16), {"number": t})
            writer.act(t % 3, reward=float(t), terminated=t == n - 2)
    assert cli.main(["check", str(tmp_path / "data"), "--fix", str(tmp_path / "out")]) == 0
    pieces = sorted((tmp_path / "out" / "deep").glob("*.mkv"))
    assert [p.name for p in pieces] == ["a-0.mkv", "a-1.mkv", "a-2.mkv"]
    seen = []
    for piece in pieces:
        file = inspect_file(piece)
        assert file.report.status == "ok" and not file.still and not file.cuts and file.crop is None
        rows = read_sidecar(piece.with_suffix(".jsonl"))
        numbers = rows.state["number"].astype(int)
        assert (np.diff(numbers) == 1).all()
        assert rows.actions == (numbers % 3).tolist() and rows.reward.tolist() == numbers.tolist()
        heard = read_sound(piece).reshape(len(rows), 1200)
        assert (heard == numbers[:, None]).all()
        for (_, frame), number in zip(read_frames(piece, 20, WIDTH, HEIGHT), numbers, strict=True):
            assert np.abs(frame.astype(int) - scenes[number]).mean() < 4
        seen += numbers.tolist()
    assert set(range(n)) - set(seen) <= set(range(59, 131)) and len(seen) > 185
    assert rows.terminated[-2] and not rows.terminated[:-2].any()


def test_fixing_a_damaged_variable_rate_video_gives_constant_ones_that_read_the_same(tmp_path):
    times = np.cumsum(np.append(0, np.random.default_rng(1).choice([30, 33, 36, 90], 199)))
    data = tmp_path / "data"
    data.mkdir()
    write_video(data / "a.mp4", game_frames(200), times_ms=times.tolist(), muxer={"movflags": "+faststart"})
    before = open_cache(data, height=HEIGHT, width=WIDTH, cache_dir=tmp_path / "cache")
    assert cli.main(["check", str(data), "--fix", str(tmp_path / "out")]) == 0
    after = open_cache(tmp_path / "out", height=HEIGHT, width=WIDTH, cache_dir=tmp_path / "cache")
    assert before.num_frames == after.num_frames and before.fps == pytest.approx(after.fps, rel=1e-4)
    assert np.abs(before.frames.astype(int) - after.frames.astype(int)).mean() < 3


def test_fixing_two_videos_of_one_name_keeps_both(tmp_path):
    (tmp_path / "data").mkdir()
    for seed, name in enumerate(("a.mkv", "a.mp4", "b.mp4")):
        write_video(tmp_path / "data" / name, game_frames(60, seed=seed))
    assert cli.main(["check", str(tmp_path / "data"), "--fix", str(tmp_path / "out")]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a-mkv.mkv", "a-mp4.mkv", "b.mkv"]


def test_fixing_gives_no_two_videos_one_name(tmp_path):
    (tmp_path / "data").mkdir()
    still = np.repeat(game_frames(1, seed=9), 100, 0)
    for seed, name in enumerate(("a.mkv", "a.mp4", "a-mkv.mkv", "b-1.mkv")):
        write_video(tmp_path / "data" / name, game_frames(60, seed=seed))
    pieces = [game_frames(60, seed=7), still, game_frames(60, seed=8)]
    write_video(tmp_path / "data" / "b.mkv", np.concatenate(pieces))
    assert cli.main(["check", str(tmp_path / "data"), "--fix", str(tmp_path / "out")]) == 0
    names = ["a-mkv-2.mkv", "a-mkv.mkv", "a-mp4.mkv", "b-0.mkv", "b-1.mkv", "b-2.mkv"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names


def test_fixing_keeps_rows_in_which_no_action_is_known(tmp_path):
    (tmp_path / "data").mkdir()
    write_video(tmp_path / "data" / "a.mp4", game_frames(60))
    rows = [{"action": None, "reward": t, "terminated": t == 58, "health": 100 - t} for t in range(60)]
    (tmp_path / "data" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli.main(["check", str(tmp_path / "data"), "--fix", str(tmp_path / "out")]) == 0
    fixed = read_sidecar(tmp_path / "out" / "a.jsonl")
    assert fixed.actions == [None] * 60 and fixed.reward.tolist() == list(range(60))
    assert np.flatnonzero(fixed.terminated).tolist() == [58]
    assert fixed.state["health"].tolist() == [100 - t for t in range(60)]
    assert inspect_file(tmp_path / "out" / "a.mkv").report.status == "ok"


def test_fixing_states_nothing_that_the_recordings_do_not(tmp_path):
    """Each file by itself looks like another game: the one presses two actions, the other three."""
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    for k, name in ((2, "a"), (3, "b")):
        write_video(data / f"{name}.mp4", game_frames(60, seed=k))
        (data / f"{name}.jsonl").write_text("".join(json.dumps({"action": t % k}) + "\n" for t in range(60)))
    record(tmp_path / "stated" / "c.mkv", 60)
    assert cli.main(["check", str(data), "--fix", str(out)]) == 0
    cache = open_cache(out, height=HEIGHT, width=WIDTH, cache_dir=tmp_path / "cache")
    assert cache.num_episodes == 2 and cache.action_map == ActionMap("discrete", (3,))
    for name in "ab":
        facts = json.loads((out / f"{name}.json").read_text())
        assert "action_space" not in facts and facts["source"] == "" and facts["fps"] == 30
    assert cli.main(["check", str(tmp_path / "stated"), "--fix", str(tmp_path / "c")]) == 0
    stated = read_info(tmp_path / "c" / "c.mkv")
    assert stated.actions == WALK and stated.source == "test"


def test_what_was_cleaned_says_from_what(tmp_path):
    (tmp_path / "data").mkdir()
    write_video(tmp_path / "data" / "a.mkv", game_frames(60))
    record(tmp_path / "data" / "b.mkv", 60)
    assert cli.main(["check", str(tmp_path / "data"), "--fix", str(tmp_path / "once")]) == 0
    assert cli.main(["check", str(tmp_path / "once"), "--fix", str(tmp_path / "twice")]) == 0
    for name in ("a.mkv", "b.mkv"):
        assert cleaned_from(tmp_path / "data" / name) == ""
        for folder in ("once", "twice"):
            assert cleaned_from(tmp_path / folder / name) == checksum(tmp_path / "data" / name)


def test_fixing_never_overwrites_and_never_writes_into_the_recordings(tmp_path):
    record(tmp_path / "data" / "a.mkv", 40)
    with pytest.raises(InputError, match="inside each other"):
        from worldgen.data.clean import fix_folder

        fix_folder(check_folder(tmp_path / "data"), tmp_path / "data" / "out")
    arguments = ["check", str(tmp_path / "data"), "--fix", str(tmp_path / "out")]
    assert cli.main(arguments) == 0 and cli.main(arguments) == 2
    assert [number_of(f) for _, f in read_frames(tmp_path / "out" / "a.mkv", 30, WIDTH, HEIGHT)] == list(range(40))


def test_a_contact_sheet_of_a_part_of_the_files_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(contact_sheet, "MAX_ROWS", 2)
    for seed, name in enumerate("abc"):
        write_video(tmp_path / f"{name}.mkv", game_frames(30, seed=seed))
        if name != "a":
            assert cli.main(["check", str(tmp_path), "--sheet", str(tmp_path / "sheet.png")]) == 0
            said = capsys.readouterr().out
            assert ("sheet.png, 2 of 3 files, those with findings first" in said) == (name == "c")


def test_the_command_writes_figures_and_a_contact_sheet(tmp_path, capsys):
    record(tmp_path / "data" / "a.mkv", 60, sample_rate=24000)
    (tmp_path / "data" / "b.mkv").write_text("no video")
    sheet, figures = tmp_path / "sheet.png", tmp_path / "out.json"
    assert cli.main(["check", str(tmp_path / "data"), "--sheet", str(sheet), "--json", str(figures)]) == 0
    said = capsys.readouterr().out
    assert "1 of 2 files usable" in said and "refused" in said and "actions: " in said
    known = json.loads(figures.read_text())
    assert {"minutes", "usable_minutes", "frame_rates", "actions", "lag", "files"} <= set(known)
    with av.open(str(sheet)) as container:
        picture = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert picture.shape[1] >= 800 and picture.std() > 20
    assert cli.main(["check", str(tmp_path / "data"), "--sheet", str(tmp_path / "sheet.bmp")]) == 2
