"""Every odd file is recovered or refused with its name and the reason, by `worldgen check` and by what feeds training;
no frame ever gets the row of another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from odd_recordings import EXPECTED, ODD, coded, rows
from recordings import number_of, record, write_video

from worldgen.data import cache_build, check, ingest
from worldgen.data.cache import open_cache
from worldgen.data.check import check_folder, inspect_file
from worldgen.data.ingest import find_videos

# colour is lost or the picture is no code: only the count is compared
UNREADABLE = {"four_pixels", "gif_by_another_name", "flipped_bytes"}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_is_recovered_or_refused_with_its_reason(tmp_path, name):
    if name == "named_pipe" and not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    ODD[name](tmp_path)
    (video,) = find_videos(tmp_path)
    check = inspect_file(video)
    said = " ".join([check.report.reason, *check.report.notes, *check.findings()])
    status, words = EXPECTED[name]
    assert check.report.status == status, said
    assert all(word in said for word in words), said
    json.dumps(check.to_json(), allow_nan=False)


@pytest.mark.parametrize("name", ODD)
def test_training_reads_an_odd_file_beside_a_good_one_without_a_shift(tmp_path, name):
    ODD[name](tmp_path)
    record(tmp_path / "good.mkv", 40, sample_rate=24000)
    cache = open_cache(tmp_path, height=48, width=64, fps=30, sample_rate=24000, cache_dir=tmp_path / "cache")
    reports = {Path(r.path).stem: r for r in cache.reports}
    assert reports["good"].status == "ok" and reports["a"].status == EXPECTED[name][0]
    assert np.isfinite(cache.reward).all()
    assert cache.starts[-1] == cache.num_frames == len(cache.actions) == len(cache.sound)
    for episode, (first, last) in enumerate(zip(cache.starts[:-1], cache.starts[1:], strict=True)):
        if cache.episode_names[episode].startswith("good") or name in UNREADABLE:
            continue
        shown = np.array([number_of(frame) for frame in cache.frames[first:last]])
        assert (np.diff(shown) >= 0).all()
        known = cache.state["number"][first:last]
        if np.isfinite(known).all():
            # no decoder reports every damaged picture; a shift would make all that follow differ
            assert (shown == known).mean() > 0.9
            assert (cache.actions[first:last, 0] == known % 3).mean() > 0.9 or name == "two_kinds_of_rows"


@pytest.mark.parametrize("ms, left", [(0, 90), (2_000, 90), (3_600_000, 50)])
def test_sound_stays_with_its_frames_where_recorder_and_clock_pause(tmp_path, ms, left):
    """Picture and sound go on later on the file's clock, by nothing, by two seconds and by an hour."""
    times = [round(i * 1000 / 30) + (ms if i >= 40 else 0) for i in range(90)]
    sound = np.repeat(np.arange(90, dtype=np.int16) * 100, 1600)  # 48 kHz: every frame its own level
    pieces = [(0, sound[: 40 * 1600]), (40 * 1600 + 48 * ms, sound[40 * 1600 :])]
    write_video(tmp_path / "a.mkv", coded(90), times_ms=times, sound=pieces)
    cache = open_cache(tmp_path, height=48, width=64, fps=30, sample_rate=24000, cache_dir=tmp_path / "cache")
    shown = [number_of(frame) for frame in cache.frames]
    heard = np.median(cache.sound[:, 200:600, 0], axis=1) / 100
    assert len(shown) == left and shown[-1] == 89
    np.testing.assert_allclose(heard, shown, atol=0.2)


def test_sound_stays_with_its_frames_where_pictures_are_gone(tmp_path):
    sound = np.repeat(np.arange(90, dtype=np.int16) * 100, 1600)
    write_video(tmp_path / "b.mkv", coded(90), sound=sound, options={"bf": "0"})
    with av.open(str(tmp_path / "b.mkv")) as old, av.open(str(tmp_path / "a.mkv"), "w") as new:
        tracks = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        seen = Counter()
        for packet in old.demux():
            kind = packet.stream.type
            seen[kind] += 1
            if packet.size and not (kind == "video" and (seen[kind] <= 12 or 36 < seen[kind] <= 60)):
                packet.stream = tracks[packet.stream.index]
                new.mux(packet)
    (tmp_path / "b.mkv").unlink()
    cache = open_cache(tmp_path, height=48, width=64, fps=30, sample_rate=24000, cache_dir=tmp_path / "cache")
    shown = [number_of(frame) for frame in cache.frames]
    heard = np.median(cache.sound[:, 200:600, 0], axis=1) / 100
    assert shown[0] >= 12 and shown[-1] == 89 and cache.num_episodes == 2 and len(shown) > 40
    np.testing.assert_allclose(heard, shown, atol=0.2)


def test_copies_and_links_are_used_once(tmp_path):
    record(tmp_path / "a.mkv", 40)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "copy.mkv").write_bytes((tmp_path / "a.mkv").read_bytes())
    (tmp_path / "link.mkv").symlink_to(tmp_path / "a.mkv")
    (tmp_path / "up").symlink_to(tmp_path)
    check = check_folder(tmp_path)
    assert [f.report.status for f in check.files] == ["ok", "refused", "refused"]
    assert all("the same video as" in f.report.reason for f in check.files[1:])
    assert open_cache(tmp_path, height=24, width=32, cache_dir=tmp_path / "cache").num_frames == 40


def test_of_two_copies_the_one_with_rows_is_used(tmp_path):
    record(tmp_path / "b.mkv", 40)
    (tmp_path / "a.mkv").write_bytes((tmp_path / "b.mkv").read_bytes())
    assert [f.report.status for f in check_folder(tmp_path).files] == ["refused", "ok"]
    cache = open_cache(tmp_path, height=24, width=32, cache_dir=tmp_path / "cache")
    assert cache.episode_names == ("b.mkv",) and cache.actions is not None


def test_a_copy_of_a_video_that_is_refused_is_used(tmp_path):
    record(tmp_path / "a.mkv", 40)
    (tmp_path / "b.mkv").write_bytes((tmp_path / "a.mkv").read_bytes())
    (tmp_path / "a.jsonl").write_text("[1]\n" * 40)
    first, second = (f.report for f in check_folder(tmp_path).files)
    assert first.status == "refused" and "a.jsonl" in first.reason and second.status == "ok"
    cache = open_cache(tmp_path, height=24, width=32, cache_dir=tmp_path / "cache")
    assert cache.episode_names == ("b.mkv",)


def test_a_copy_is_not_decoded_to_be_refused(tmp_path, monkeypatch):
    record(tmp_path / "b.mkv", 40)
    for copy in ("a.mkv", "c.mkv"):
        (tmp_path / copy).write_bytes((tmp_path / "b.mkv").read_bytes())
    opened = []

    def count(path: Path):
        opened.append(path.name)
        return ingest.open_recording(path)

    for module in (check, cache_build):
        monkeypatch.setattr(module, "open_recording", count)
    assert [f.report.status for f in check_folder(tmp_path).files] == ["refused", "ok", "refused"]
    open_cache(tmp_path, height=24, width=32, cache_dir=tmp_path / "cache")
    assert opened == ["b.mkv"] * 2


def test_a_file_that_goes_or_breaks_while_copies_are_looked_for_is_refused(tmp_path, monkeypatch):
    for name in ("a.mkv", "b.mkv"):
        (tmp_path / name).write_bytes(bytes(1000))
    record(tmp_path / "c.mkv", 40)

    def broken(path: Path) -> str:
        path.unlink()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(ingest, "file_hash", broken)
    assert [f.report.status for f in check_folder(tmp_path).files] == ["refused", "refused", "ok"]
    (tmp_path / "gone.mkv").symlink_to(tmp_path / "a.mkv")
    assert open_cache(tmp_path, height=24, width=32, cache_dir=tmp_path / "cache").num_frames == 40


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to become someone else")
def test_what_may_not_be_read_is_refused_and_the_rest_is_used(tmp_path):
    record(tmp_path / "a.mkv", 20)
    record(tmp_path / "b.mkv", 20, first=30)
    record(tmp_path / "locked" / "c.mkv", 20, first=60)
    (tmp_path / "b.mkv").chmod(0)
    (tmp_path / "locked").chmod(0)
    os.chmod(tmp_path, 0o755)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
            os.chmod(parent, parent.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        reports = {Path(f.report.path).name: f.report for f in check_folder(tmp_path).files}
        cache = open_cache(tmp_path, height=24, width=32, cache_dir=tmp_path / "cache")
    finally:
        os.seteuid(0)
    assert reports["a.mkv"].status == "ok"
    assert reports["b.mkv"].status == "refused" and "Permission denied" in reports["b.mkv"].reason
    assert reports["locked"].status == "refused" and "cannot be read" in reports["locked"].reason
    assert [Path(r.path).name for r in cache.reports if r.status == "ok"] == ["a.mkv"] and cache.num_frames == 20


def test_a_name_that_no_terminal_shows_is_checked(tmp_path):
    record(tmp_path / "a.mkv", 20)
    try:
        os.rename(tmp_path / "a.mkv", os.fsencode(tmp_path) + b"/caf\xe9 \xff.mkv")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    command = [sys.executable, "-m", "worldgen.cli", "check", str(tmp_path), "--json", str(tmp_path / "out.json")]
    done = subprocess.run([*command, "--sheet", str(tmp_path / "s.png")], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"1 of 1 files usable" in done.stdout


def test_a_file_still_being_written_is_read_as_far_as_it_was_at_the_start(tmp_path):
    """Grown between the count and the decoding: what came later is not taken for the last frame."""
    write_video(tmp_path / "whole.mkv", coded(200))
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "whole.mkv").rename(tmp_path / "whole.bin")
    path = tmp_path / "a.mkv"
    path.write_bytes(data[: len(data) // 2])
    rows(path, 200)
    from worldgen.data.decode import VideoNotes, decode
    from worldgen.data.ingest import open_recording

    recording = open_recording(path)
    path.write_bytes(data)
    positions = [position for position, _ in decode(path, recording.facts, VideoNotes())]
    # the last one may stand behind pictures that were not written yet: a hole, after which a keyframe is awaited
    assert positions == list(range(len(positions))) and 0 <= recording.facts.num_frames - len(positions) <= 2
    assert len(positions) < 150


def test_a_folder_of_which_all_is_refused_ends_with_one_and_no_traceback(tmp_path):
    for name in ("empty", "text", "hdr"):
        (tmp_path / name).mkdir()
        ODD[name](tmp_path / name)
    command = [sys.executable, "-m", "worldgen.cli", "check", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "0 of 3 files usable" in done.stdout and "Traceback" not in done.stderr
