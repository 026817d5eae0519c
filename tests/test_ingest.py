"""What of a folder of videos is usable, and what is said of the rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recordings import HEIGHT, WALK, WIDTH, coded_frame, game_frames, record, write_video
from waiting import until

from worldgen.actions import ActionMap
from worldgen.data import map_files
from worldgen.data.check import check_folder
from worldgen.data.check import inspect_file as inspect_whole
from worldgen.data.decode import VideoNotes
from worldgen.data.ingest import FileReport, find_videos, open_recording
from worldgen.data.recorded_actions import infer_action_map
from worldgen.data.recording import RecordingInfo
from worldgen.data.sidecar import read_sidecar
from worldgen.errors import InputError


def inspect_file(path: Path) -> FileReport:
    return inspect_whole(path).report


def drop_rows(video: Path, count: int) -> None:
    """Removes rows from the end of a recording's sidecar; a negative count adds copies of the last."""
    rows = video.with_suffix(".jsonl").read_text().splitlines()
    rows = rows[:-count] if count > 0 else rows + rows[-1:] * -count
    video.with_suffix(".jsonl").write_text("\n".join(rows) + "\n")


def test_videos_are_found_at_any_depth_but_not_in_hidden_places(tmp_path):
    names = ["b.mkv", "a/deep/er/c.MP4", "a/x.webm", "z.mov", ".hidden.mkv", ".git/d.mkv", "notes.txt", "a/x.jsonl"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    found = [str(p.relative_to(tmp_path)) for p in find_videos(tmp_path)]
    assert found == ["a/deep/er/c.MP4", "a/x.webm", "b.mkv", "z.mov"]


def test_a_folder_without_video_is_refused_by_name(tmp_path):
    (tmp_path / "readme.txt").touch()
    with pytest.raises(InputError, match=f"{tmp_path.name} holds no video"):
        find_videos(tmp_path)
    with pytest.raises(InputError, match="nowhere does not exist"):
        check_folder(tmp_path / "nowhere")
    with pytest.raises(InputError, match="readme.txt is not a folder"):
        find_videos(tmp_path / "readme.txt")


def test_a_whole_recording_is_ok_and_its_facts_are_right(tmp_path):
    record(tmp_path / "a.mkv", 40, sample_rate=24000)
    report = inspect_file(tmp_path / "a.mkv")
    assert (report.status, report.reason, report.notes) == ("ok", "", ())
    assert (report.num_frames, report.fps, report.width, report.height) == (40, 30, WIDTH, HEIGHT)
    assert report.has_sound and report.has_actions and report.num_bad_packets == 0
    assert report.seconds == pytest.approx(40 / 30, abs=1e-3)


def test_a_video_from_elsewhere_is_ok_without_actions(tmp_path):
    write_video(tmp_path / "a.mp4", game_frames(40), sound=np.zeros(64000, np.int16))
    report = inspect_file(tmp_path / "a.mp4")
    assert report.status == "ok" and report.num_frames == 40 and report.has_sound and not report.has_actions


@pytest.mark.parametrize("dropped", [1, -1])
def test_one_row_too_few_or_too_many_is_repaired_at_the_end(tmp_path, dropped):
    actions = record(tmp_path / "a.mkv", 40)
    drop_rows(tmp_path / "a.mkv", dropped)
    report = inspect_file(tmp_path / "a.mkv")
    assert report.status == "repaired" and f"{40 - dropped} rows for 40 frames" in report.reason
    recording = open_recording(tmp_path / "a.mkv")
    assert len(recording.sidecar) == recording.facts.num_frames == 40
    assert recording.sidecar.actions[:39] == actions[:39].tolist()


@pytest.mark.parametrize("dropped", [5, -5])
def test_rows_of_another_length_are_refused_with_both_lengths(tmp_path, dropped):
    record(tmp_path / "a.mkv", 40)
    drop_rows(tmp_path / "a.mkv", dropped)
    report = inspect_file(tmp_path / "a.mkv")
    assert report.status == "refused"
    assert "40 frames" in report.reason and f"a.jsonl has {40 - dropped} rows" in report.reason


def test_rows_beyond_a_truncated_video_are_left_out(tmp_path):
    record(tmp_path / "a.mkv", 200)
    os.truncate(tmp_path / "a.mkv", (tmp_path / "a.mkv").stat().st_size // 2)
    report = inspect_file(tmp_path / "a.mkv")
    assert report.status == "repaired" and 40 < report.num_frames < 160
    assert "200 rows" in report.reason and "cut off" in report.reason


KILLED = """
import sys
from pathlib import Path
from recordings import WALK, coded_frame
from worldgen.data.recording import RecordingInfo, RecordingWriter
writer = RecordingWriter(Path(sys.argv[1]), RecordingInfo(30, WALK, "test"), sample_rate=24000)
import numpy as np
for t in range(150):
    writer.write(coded_frame(t), np.full((800, 1), t, np.int16), {"number": t})
    writer.act(t % 3)
print("written", flush=True)
while True:
    pass
"""


def test_a_recording_killed_mid_write_is_usable(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", KILLED, str(tmp_path / "a.mkv")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    report = inspect_file(tmp_path / "a.mkv")
    assert report.status == "repaired" and report.num_frames >= 110 and report.has_sound and report.has_actions
    recording = open_recording(tmp_path / "a.mkv")
    assert recording.sidecar.state["number"].tolist() == list(range(len(recording.sidecar)))


def test_actions_outside_the_action_space_are_refused_with_the_row(tmp_path):
    record(tmp_path / "a.mkv", 10)
    rows = (tmp_path / "a.jsonl").read_text().splitlines()
    rows[6] = json.dumps({**json.loads(rows[6]), "action": 3})
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    report = inspect_file(tmp_path / "a.mkv")
    assert report.status == "refused" and "a.jsonl, row 6" in report.reason


@pytest.mark.parametrize("name, text", [("a.json", "{}"), ("a.json", "nonsense"), ("a.jsonl", "[1, 2]\n[3]\n")])
def test_malformed_files_beside_a_video_are_refused_by_name(tmp_path, name, text):
    record(tmp_path / "a.mkv", 10)
    (tmp_path / name).write_text(text)
    report = inspect_file(tmp_path / "a.mkv")
    assert report.status == "refused" and name in report.reason


def test_a_folder_is_checked_file_by_file_with_progress(tmp_path):
    record(tmp_path / "a.mkv", 20)
    (tmp_path / "b.mp4").write_text("no video")
    (tmp_path / "c.mkv").symlink_to(tmp_path / "gone.mkv")
    (tmp_path / "d.mp4").mkdir()
    calls = []
    check = check_folder(tmp_path, lambda *call: calls.append(call))
    reports = [file.report for file in check.files]
    names = ["a.mkv", "b.mp4", "c.mkv"]
    assert [Path(r.path).name for r in reports] == names and [r.status for r in reports] == ["ok", "refused", "refused"]
    assert calls == [(i + 1, 3, tmp_path / name) for i, name in enumerate(names)]
    files = json.loads(json.dumps(check.to_json()))["files"]
    assert all({"path", "status", "reason", "num_frames"} <= set(file) for file in files) and files[1]["reason"]


def crash_on_b(path: Path) -> str:
    if path.name == "b":
        os._exit(3)
    return path.name


def test_a_file_that_crashes_its_process_costs_only_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(map_files, "MIN_POOL_BYTES", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    paths = [tmp_path / name for name in "abc"]
    results = map_files.map_files(crash_on_b, paths, paths)
    assert results[0] == "a" and results[2] == "c" and "crashed" in str(results[1])


ORPHANS = """
import os, sys, time
from pathlib import Path
from worldgen.data import map_files
map_files.MIN_POOL_BYTES = -1
map_files.os.sched_getaffinity = lambda _: {0, 1}
def work(path):
    path.write_text(str(os.getpid()))
    time.sleep(600)
if __name__ == "__main__":
    map_files.map_files(work, [Path(name) for name in sys.argv[1:]], [Path()] * 2)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="looks for processes in /proc")
def test_a_killed_process_leaves_none_behind(tmp_path):
    script, pids = tmp_path / "script.py", [tmp_path / "a", tmp_path / "b"]
    script.write_text(ORPHANS)
    parent = subprocess.Popen([sys.executable, script, *pids])
    try:
        until(lambda: all(path.is_file() and path.read_text() for path in pids), seconds=120)
    finally:
        parent.kill()
        parent.wait()

    def is_over(pid: str) -> bool:
        stat = Path("/proc", pid, "stat")
        try:
            return stat.read_text().rpartition(")")[2].split()[0] == "Z"  # nobody buries it where init does not
        except OSError:
            return True

    until(lambda: all(is_over(path.read_text()) for path in pids), seconds=120)


def test_a_script_without_a_main_guard_is_told_so_once(tmp_path):
    """Each process imports the script, which would begin processes again."""
    (tmp_path / "script.py").write_text(
        "from pathlib import Path\nfrom worldgen.data import map_files\nmap_files.MIN_POOL_BYTES = -1\n"
        "map_files.os.sched_getaffinity = lambda _: {0, 1}\nprint(map_files.map_files(str, [1, 2], [Path()] * 2))\n"
    )
    done = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stderr.count("Traceback") == 1
    assert "RunError: no process could be started" in done.stderr and "__name__ == '__main__'" in done.stderr


@pytest.mark.parametrize(
    "actions, expected",
    [
        ([0, 2, 1, None], ActionMap("discrete", (3,))),
        ([0.0, 3.0], ActionMap("discrete", (4,))),
        ([[0, 1, 0], [1, 1, 0]], ActionMap("multi_binary", (2, 2, 2))),
        ([[0, 4], [1, 0]], ActionMap("multi_discrete", (2, 5))),
        ([[0.5, -3.0], [0.0, 1.0]], ActionMap("box", (0, 0), low=(-1.0, -3.0), high=(1.0, 1.0))),
    ],
)
def test_an_action_space_is_inferred_from_what_was_pressed(actions, expected):
    assert infer_action_map(actions, Path("a.jsonl")) == expected


@pytest.mark.parametrize("actions", [["jump", "run"], [[0, 1], [1]], [0, [1]], [-1, 2], [float("nan"), 1.0]])
def test_actions_that_make_no_space_are_refused_by_file(actions):
    with pytest.raises(InputError, match="a.jsonl"):
        infer_action_map(actions, Path("a.jsonl"))


@pytest.mark.parametrize("first_row", ["{}", '{"action": 0}'])
def test_a_column_that_the_first_row_lacks_is_read(tmp_path, first_row):
    write_video(tmp_path / "a.mkv", [coded_frame(t) for t in range(4)])
    (tmp_path / "a.jsonl").write_text(first_row + '\n{"action": 1, "health": 7}' * 3)
    health = open_recording(tmp_path / "a.mkv").sidecar.state["health"]
    np.testing.assert_array_equal(health, [np.nan, 7, 7, 7])


@pytest.mark.parametrize("left_out", ["fps", "action_space"])
def test_the_facts_of_a_recording_may_be_only_some(tmp_path, left_out):
    record(tmp_path / "a.mkv", 40)
    facts = json.loads((tmp_path / "a.json").read_text())
    del facts[left_out]
    (tmp_path / "a.json").write_text(json.dumps(facts))
    recording = open_recording(tmp_path / "a.mkv")
    assert recording.facts.fps == 30 and recording.info.source == "test"
    assert recording.action_map == (WALK if left_out == "fps" else ActionMap("discrete", (3,)))
    assert recording.report(VideoNotes()).notes == ()


def test_a_recording_without_a_rate_says_none_and_comes_back(tmp_path):
    info = RecordingInfo.from_json({"action_space": WALK.to_json()})
    assert info.fps is None and RecordingInfo.from_json(info.to_json()) == info


def test_frames_that_were_left_out_on_purpose_are_not_called_missing(tmp_path):
    """A bad packet elsewhere in the file says nothing about them."""
    times = [t for t in range(120) if t % 10 != 5]
    write_video(tmp_path / "a.mkv", [coded_frame(t) for t in times], [round(t * 1000 / 30) for t in times])
    (tmp_path / "a.jsonl").write_text('{"action": 0}\n{"action": 1}\n' * 60)
    recording = open_recording(tmp_path / "a.mkv")
    assert recording.report(VideoNotes(num_decoded=108)).status == "ok"
    reason = recording.report(VideoNotes(num_bad_packets=1, num_decoded=107)).reason
    assert reason.startswith("1 of 120 frames are damaged or missing")


def test_a_log_of_events_with_a_column_for_each_keeps_the_first(tmp_path):
    rows = [{"action": 0, "health": 7, **({f"event{t}": 1, "x" * 300: 1} if t else {})} for t in range(300)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sidecar = read_sidecar(tmp_path / "a.jsonl")
    assert [*sidecar.state] == ["health", *(f"event{t}" for t in range(1, 256))]
    assert sidecar.state["health"].tolist() == [7] * 300
    assert sidecar.repairs[0].startswith("45 state columns of a.jsonl are left out")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_may_be_csv_or_parquet(tmp_path, suffix):
    write_video(tmp_path / "a.mkv", [coded_frame(t) for t in range(12)])
    if suffix == ".csv":
        (tmp_path / "a.csv").write_text("action,reward\n" + "".join(f"{t % 4},{t}.5\n" for t in range(12)))
    else:
        arrow = pytest.importorskip("pyarrow")
        import pyarrow.parquet

        table = arrow.table({"action": [t % 4 for t in range(12)], "reward": [t + 0.5 for t in range(12)]})
        pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    recording = open_recording(tmp_path / "a.mkv")
    assert recording.action_map == ActionMap("discrete", (4,)) and recording.is_inferred
    assert recording.sidecar.actions == [t % 4 for t in range(12)] and recording.sidecar.reward[3] == 3.5
