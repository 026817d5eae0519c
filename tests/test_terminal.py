"""A game in a terminal: what is drawn, and which keys are held."""

from __future__ import annotations

import io
import os
import re
import select
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from waiting import until

from worldgen.errors import InputError
from worldgen.play.loop import Player
from worldgen.play.terminal import FIRST_HOLD, NEXT_HOLD, TerminalKeys, draw, play_in_terminal, read_keys


def cells(text: str) -> list[list[tuple[int, ...]]]:
    """What draw() draws: the colours of the upper and the lower pixel of every character."""
    lines, colour = [], ()
    for line in text.split("\r\n")[:-1]:
        row = []
        for match in re.finditer("\x1b\\[38;2;(\\d+);(\\d+);(\\d+)m\x1b\\[48;2;(\\d+);(\\d+);(\\d+)m|(▀)", line):
            if match[7]:
                row.append(colour)
            else:
                colour = tuple(int(x) for x in match.groups()[:6])
        lines.append(row)
    return lines


def test_every_pixel_is_drawn_two_a_character():
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    drawn = np.array(cells(draw(image, 80, 24, "status")))
    assert drawn.shape == (6, 20, 6)
    assert np.array_equal(drawn[..., :3], image[0::2]) and np.array_equal(drawn[..., 3:], image[1::2])


@pytest.mark.parametrize("columns, lines", [(80, 24), (20, 10), (3, 3), (1, 2)])
def test_a_large_picture_is_reduced_to_the_terminal(columns, lines):
    image = np.full((240, 320, 3), 100, np.uint8)
    text = draw(image, columns, lines, "x" * 200)
    drawn = cells(text)
    assert len(drawn) <= max(1, lines - 1) and max(len(row) for row in drawn) <= columns
    assert {colour for row in drawn for colour in row} == {(100,) * 6}
    assert text.count("x") == columns


def test_keys_are_read_from_the_bytes_of_a_terminal():
    read, write = os.pipe()
    os.write(write, b"\x1b[A\x1bOD q\x1b[15~\rW\x1b")
    assert list(read_keys(read, 1.0)) == ["up", "left", "space", "q", "return", "w", "escape"]
    os.close(write)
    os.close(read)


def test_a_key_is_held_until_its_next_repeat_is_overdue():
    keys = TerminalKeys()
    keys.press("left", 0.0)
    assert keys.now(FIRST_HOLD - 0.01) == {"left"}  # a keyboard takes so long to repeat at all
    keys.press("left", 0.5)
    assert keys.now(0.5 + NEXT_HOLD - 0.01) == {"left"}
    assert keys.now(0.5 + NEXT_HOLD + 0.01) == set()


def test_without_a_terminal_it_says_so():
    from fake_world import FakeWorld

    with pytest.raises(InputError, match="--terminal.*none"):
        play_in_terminal(Player(FakeWorld()))


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_after_a_replay_the_keys_play_on(monkeypatch):
    import pty

    from fake_world import FakeWorld

    left, right = 1, 2
    replay, world = iter([left] * 5), FakeWorld(fps=100)
    seen: list[bytes] = []
    failures: list[BaseException] = []
    is_over = threading.Event()
    master, slave = pty.openpty()

    def screen() -> str:
        while select.select([master], [], [], 0)[0]:
            seen.append(os.read(master, 65536))
        return b"".join(seen).decode("utf-8", "ignore")

    def person() -> None:
        try:
            until(lambda: "the replay is over: unpause to play on" in screen())
            os.write(master, b"p\x1b[C")
            until(lambda: screen() and right in world.calls)
        except BaseException as error:
            failures.append(error)
        os.write(master, b"q")
        while not is_over.wait(0.01):
            screen()  # what nobody reads would block the game

    thread = threading.Thread(target=person)
    with os.fdopen(slave, "r+b", buffering=0) as tty:
        out = io.TextIOWrapper(tty, "utf-8", write_through=True)
        monkeypatch.setattr("sys.stdin", out)
        thread.start()
        play_in_terminal(Player(world), choose=lambda player: next(replay, None), is_led=True, out=out)
        is_over.set()
        thread.join()
    os.close(master)
    assert not failures
    assert [call for call in world.calls if not isinstance(call, tuple)][:5] == [left] * 5


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_person_plays_and_leaves_in_a_real_terminal(tmp_path):
    import pty

    master, slave = pty.openpty()
    command = [sys.executable, "-m", "worldgen.cli", "play", "doom", "--terminal", "--record", str(tmp_path / "s.json")]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=subprocess.PIPE, close_fds=True)
    os.close(slave)
    seen, end, sent = b"", time.monotonic() + 60, 0
    while process.poll() is None and time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            try:
                seen += os.read(master, 65536)
            except OSError:
                break
        frames = seen.count(b"\x1b[H")
        if frames >= 3 and sent < 6:
            os.write(master, b"\x1b[D")
            sent += 1
        elif frames >= 30:  # every other one may be an in-between frame, which is no step
            os.write(master, b"q")
            seen += b""
    assert process.wait(10) == 0, process.stderr.read()
    os.close(master)
    from worldgen.play.session import Session

    actions = Session.load(tmp_path / "s.json").actions
    assert len(actions) >= 10 and 1 in actions  # turn left
    assert "▀".encode() in seen and b"\x1b[?1049l" in seen  # the terminal is put back
