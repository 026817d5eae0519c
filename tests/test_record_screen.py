"""Recording any program on the desktop: a real window and real key presses, on a virtual X11 display."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from worldgen.data.check import check_folder
from worldgen.data.decode import read_frames
from worldgen.data.recording import read_info
from worldgen.data.sidecar import read_sidecar
from worldgen.envs.screen_input import DEFAULT_KEYS, InputLog, plain_characters, screen_actions
from worldgen.envs.screen_picture import parse_region
from worldgen.errors import InputError

# the listeners notice that they were stopped with the next key, or with the end of the X server
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

KEYS = ("left", "space", "a", "mouse left")

# A window with a title whose colour changes from red to green after it was sent a byte. Xlib only, no toolkit.
WINDOW = """
import sys
from Xlib import X, display
d = display.Display()
s = d.screen()
w = s.root.create_window(40, 30, 160, 120, 0, s.root_depth, X.InputOutput, X.CopyFromParent, background_pixel=0xC80000)
w.set_wm_name("a game of mine")
w.map()
d.sync()
print("shown", flush=True)
sys.stdin.readline()
w.change_attributes(background_pixel=0x00B400)
w.clear_area()
d.sync()
print("green", flush=True)
sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def desktop():
    """DISPLAY of an X server of its own."""
    if not os.environ.get("WORLDGEN_DESKTOP"):
        pytest.skip("a real desktop is tested with WORLDGEN_DESKTOP=1")
    if sys.platform != "linux" or shutil.which("Xvfb") is None:
        pytest.skip("needs Xvfb")
    pytest.importorskip("mss")
    pytest.importorskip("Xlib")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "400x300x24", "-noreset"]
    server = subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as lines:
        number = lines.readline().strip()
    before = os.environ.get("DISPLAY")
    os.environ["DISPLAY"] = f":{number}"
    yield os.environ["DISPLAY"]
    if before is None:
        del os.environ["DISPLAY"]
    else:
        os.environ["DISPLAY"] = before
    server.terminate()
    server.wait()


class Person:
    """Presses keys and moves the mouse as a keyboard would: through the X server."""

    def __init__(self):
        from Xlib import display

        self._display = display.Display()

    def key(self, name: str, is_down: bool) -> None:
        from Xlib import XK, X
        from Xlib.ext import xtest

        code = self._display.keysym_to_keycode(XK.string_to_keysym(name))
        xtest.fake_input(self._display, X.KeyPress if is_down else X.KeyRelease, code)
        self._display.sync()

    def move(self, x: int, y: int) -> None:
        from Xlib import X
        from Xlib.ext import xtest

        xtest.fake_input(self._display, X.MotionNotify, x=x, y=y)
        self._display.sync()


def test_a_real_window_is_recorded_with_the_keys_that_were_pressed(desktop, tmp_path):
    from worldgen.envs.record_screen import record_screen

    window = subprocess.Popen([sys.executable, "-c", WINDOW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert window.stdout.readline() == "shown\n"
    person, problems = Person(), []

    def act(num_frames: int) -> None:
        """Called after each frame was recorded."""
        try:
            if num_frames == 10:
                person.key("Left", True)
            elif num_frames == 15:
                person.key("space", True)
                person.key("space", False)  # shorter than a frame
            elif num_frames == 20:
                person.key("Left", False)
                window.stdin.write("\n")
                window.stdin.flush()
                assert window.stdout.readline() == "green\n"
            elif num_frames == 35:
                window.kill()
        except Exception as error:
            problems.append(error)

    done = record_screen(tmp_path, frames=400, fps=20, window="game of", keys=KEYS, on_progress=act)
    window.wait()
    assert not problems
    assert done["ended"] == "the window was closed" and 30 <= done["frames"] < 60
    (report,) = (f.report for f in check_folder(tmp_path).files)
    assert report.status == "ok" and (report.width, report.height) == (160, 120)
    path = Path(done["path"])
    assert read_info(path).actions.names == KEYS
    rows = np.array(read_sidecar(path.with_suffix(".jsonl")).actions)
    held = np.flatnonzero(rows[:, 0])
    assert 9 <= held[0] <= 11 and 18 <= held[-1] <= 21 and len(held) == held[-1] - held[0] + 1
    assert rows[:, 1].sum() == 1 and rows[14:17, 1].any()
    assert not rows[:, 2:].any()
    frames = [frame for _, frame in read_frames(path, 20, 160, 120)]
    assert (frames[5][60, 80, :2] == (200, 0)).all() or np.abs(frames[5][60, 80].astype(int) - (200, 0, 0)).max() < 12
    assert np.abs(frames[28][60, 80].astype(int) - (0, 180, 0)).max() < 12


def test_the_mouse_is_recorded_as_its_way_across_the_picture(desktop, tmp_path):
    from worldgen.envs.record_screen import record_screen

    person = Person()
    person.move(100, 100)

    def act(num_frames: int) -> None:
        if 5 <= num_frames < 10:
            person.move(100 + 20 * (num_frames - 4), 100)

    done = record_screen(
        tmp_path, frames=20, fps=20, region="0,0,200,100", keys=("a",), with_motion=True, on_progress=act
    )
    rows = np.array(read_sidecar(Path(done["path"]).with_suffix(".jsonl")).actions)
    assert rows[:, 1].sum() == pytest.approx(0.5, abs=0.01) and not rows[:, 2].any()  # 100 of 200 pixels
    assert (done["width"], done["height"]) == (200, 100) and done["frames"] == 20
    info = read_info(Path(done["path"]))
    assert info.actions.kind == "box" and info.actions.names == ("a", "mouse x", "mouse y")


def test_a_recording_of_the_screen_is_ended_by_sigterm_and_is_whole(desktop, tmp_path):
    command = [sys.executable, "-m", "worldgen.cli", "record", "--screen", "--out", str(tmp_path), "--fps", "10"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not any(p.stat().st_size > 500 for p in tmp_path.glob("*.jsonl")) and time.monotonic() < end:
        time.sleep(0.05)
    process.terminate()
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said
    (report,) = (f.report for f in check_folder(tmp_path).files)
    assert report.status == "ok" and report.num_frames >= 3


@pytest.fixture
def speakers(tmp_path):
    """Environment of programs that play into a sound server of its own, which nobody hears."""
    if shutil.which("pulseaudio") is None or shutil.which("pacat") is None:
        pytest.skip("needs pulseaudio and pacat")
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    environ.pop("SDL_AUDIODRIVER", None)
    tmp_path.chmod(0o700)
    modules = ["--load=module-null-sink sink_name=nobody rate=48000", "--load=module-native-protocol-unix"]
    command = ["pulseaudio", "-n", "--exit-idle-time=-1", "--daemonize=no", *modules]
    server = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while subprocess.run(["pactl", "info"], env=environ, capture_output=True).returncode and time.monotonic() < end:
        time.sleep(0.1)
    yield environ
    server.terminate()
    server.wait()


def test_the_sound_of_the_desktop_is_recorded_in_step_with_its_picture(desktop, speakers, tmp_path):
    from worldgen.data.sound import read_sound

    window = subprocess.Popen([sys.executable, "-c", WINDOW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert window.stdout.readline() == "shown\n"
    words = ["record", "--screen", "--window", "game of", "--frames", "75", "--fps", "15", "--keys", "a"]
    command = [sys.executable, "-m", "worldgen.cli", *words, "--out", str(tmp_path / "r")]
    recorder = subprocess.Popen(command, env=speakers, stderr=subprocess.PIPE, text=True)
    rows = tmp_path / "r" / "screen-0-00000.jsonl"
    end = time.monotonic() + 60
    while (not rows.exists() or rows.read_text().count("\n") < 25) and time.monotonic() < end:
        time.sleep(0.01)
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)).astype("<i2")
    pacat = ["pacat", "--rate=48000", "--channels=1", "--format=s16le", "--latency-msec=500"]
    player = subprocess.Popen(pacat, stdin=subprocess.PIPE, env=speakers)
    window.stdin.write("\n")
    window.stdin.flush()
    player.communicate(tone.tobytes())
    _, said = recorder.communicate(timeout=60)
    window.kill()
    assert recorder.returncode == 0 and "with sound" in said, said
    path = rows.with_suffix(".mkv")
    samples = read_sound(path)[:, 0].astype(np.float64)
    assert len(samples) == 75 * 1600
    loud = np.flatnonzero(np.abs(samples) > 1000)
    assert (loud[-1] - loud[0]) / 24000 == pytest.approx(1.0, abs=0.1)
    middle = samples[loud[0] + 4000 : loud[0] + 16000]
    assert np.abs(np.fft.rfft(middle)).argmax() * 24000 / len(middle) == pytest.approx(440, abs=3)
    frames = [frame for _, frame in read_frames(path, 15, 160, 120)]
    green = next(i for i, frame in enumerate(frames) if frame[60, 80, 1] > 100)
    assert abs(loud[0] / 1600 - green) <= 3, (loud[0] / 1600, green)  # the sink has its own delay


@pytest.mark.parametrize("how", [{"window": "no such game"}, {"region": "1,2,3"}, {"region": "0,0,5000,10"}])
def test_a_window_or_region_that_is_not_there_is_said(desktop, tmp_path, how):
    from worldgen.envs.record_screen import record_screen

    with pytest.raises(InputError, match="--window no such game|--region"):
        record_screen(tmp_path / "o", frames=5, **how)


def test_without_a_display_it_says_so(tmp_path, monkeypatch):
    if sys.platform != "linux":
        pytest.skip("X11 only")
    pytest.importorskip("mss")
    from worldgen.envs.record_screen import record_screen

    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(InputError, match="no DISPLAY"):
        record_screen(tmp_path / "o", frames=5)


def test_keys_held_or_tapped_during_a_frame_count_once():
    log = InputLog(("left", "a"), with_motion=False)
    log.key("left", True)
    log.key("a", True)
    log.key("a", False)
    assert log.take(10, 10) == [1, 1]
    assert log.take(10, 10) == [1, 0]
    log.key("left", False)
    assert log.take(10, 10) == [0, 0]
    assert screen_actions(DEFAULT_KEYS, False).from_keys({"left"}) == [1] + [0] * (len(DEFAULT_KEYS) - 1)


def test_a_key_that_types_something_else_with_shift_is_the_same_key():
    mapping = [[ord(c) for c in keys] for keys in ("1!", "aA", ",<", "<>")]  # many keyboards have a key of "<" too
    log = InputLog(("1", "a", ",", "<", "left shift"), with_motion=False, plain=plain_characters(mapping))

    def held(down: str = "", up: str = "") -> list[int]:
        """After these were typed, S for Shift."""
        for char in down + up:
            key = SimpleNamespace(name="shift") if char == "S" else SimpleNamespace(char=char, vk=ord(char))
            log.typed(key, is_down=char in down)
        log.take(10, 10)
        return log.take(10, 10)

    assert held(down="1S") == [1, 0, 0, 0, 1]
    assert held(up="!") == [0, 0, 0, 0, 1]
    assert held(down="!A<") == [1, 1, 1, 0, 1]
    assert held(up="S") == [1, 1, 1, 0, 0]
    assert held(up="1a,") == [0, 0, 0, 0, 0]
    assert held(down="<") == [0, 0, 0, 1, 0]


def test_a_region_is_four_numbers_inside_the_desktop():
    assert parse_region("10, 20,300,200", (400, 300)) == (10, 20, 300, 200)
    for text in ("", "a,b,c,d", "1,2,3", "-1,0,100,100", "0,0,500,100", "0,0,8,8"):
        with pytest.raises(InputError, match="--region"):
            parse_region(text, (400, 300))


def test_listening_is_thread_safe():
    log = InputLog(("a",), with_motion=True)

    def press():
        for i in range(2000):
            log.key("a", i % 2 == 0)
            log.moved(i, 0)

    threads = [threading.Thread(target=press) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        pressed, x, y = log.take(1000, 1000)
        assert pressed in (0.0, 1.0) and -1 <= x <= 1 and y == 0
    for thread in threads:
        thread.join()
