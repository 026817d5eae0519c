"""The sound of a play: in step, bounded and without clicks, whatever the two clocks do."""

from __future__ import annotations

import numpy as np
import pytest

from worldgen.play.sound_buffer import MAX_FRAMES, SoundBuffer

RATE, FRAME, CHUNK = 22050, 1260, 441


def tone(start: int, n: int = FRAME) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(start, start + n) / RATE)).astype(np.float32)[:, None]


def play(seconds: float, *, drift: float = 0.0, late: dict[int, float] | None = None) -> tuple[np.ndarray, SoundBuffer]:
    """A game at its rate and a device whose clock is `drift` faster -> what was heard; late: seconds, by frame."""
    buffer = SoundBuffer(RATE, 1, FRAME)
    heard, pulled, delay = [], 0, 0.0
    for i in range(int(seconds * RATE / FRAME)):
        delay = (late or {}).get(i, 0.0)
        now = i * FRAME / RATE + delay
        while (pulled + CHUNK) / (RATE * (1 + drift)) <= now:
            heard.append(buffer.pull(CHUNK))
            pulled += CHUNK
        buffer.push(tone(i * FRAME))
        assert len(buffer) <= MAX_FRAMES * FRAME
    return np.concatenate(heard)[:, 0], buffer


def largest_jump(heard: np.ndarray) -> float:
    return float(np.abs(np.diff(heard)).max())


SMOOTH = 2 * np.pi * 440 / RATE * 0.5  # the steepest step of the tone itself


@pytest.mark.parametrize("drift", [0.0, 0.002, -0.002])
def test_a_steady_game_is_heard_without_a_gap_or_a_click_on_any_devices_clock(drift):
    heard, buffer = play(60, drift=drift)
    assert buffer.underruns == 0
    assert largest_jump(heard) < 1.1 * SMOOTH
    assert np.abs(heard[RATE:]).max() > 0.45
    assert 0.3 * FRAME < len(buffer) <= MAX_FRAMES * FRAME  # neither runs dry nor falls behind


def test_a_late_frame_is_one_underrun_and_fades_instead_of_clicking():
    heard, buffer = play(10, late={80: 0.2})
    assert buffer.underruns == 1
    assert largest_jump(heard) < 2 * SMOOTH
    quiet = np.abs(heard) < 1e-6
    assert 0.05 * RATE < quiet[RATE:].sum() < 0.4 * RATE


def test_frames_that_come_at_once_do_not_put_the_sound_behind():
    buffer = SoundBuffer(RATE, 1, FRAME)
    for i in range(50):
        buffer.push(tone(i * FRAME))
    assert len(buffer) == MAX_FRAMES * FRAME
    assert largest_jump(buffer.pull(2 * FRAME)[:, 0]) < 3 * SMOOTH
    # the newest is kept
    assert buffer.pull(1)[0, 0] != 0.0 or buffer.underruns == 1


def test_a_pause_is_no_underrun_and_the_sound_comes_back():
    buffer = SoundBuffer(RATE, 1, FRAME)
    buffer.push(tone(0))
    buffer.pull(CHUNK)
    buffer.quiet()
    assert np.abs(np.diff(np.concatenate([buffer.pull(CHUNK) for _ in range(20)])[:, 0])).max() < 2 * SMOOTH
    assert buffer.underruns == 0
    buffer.push(tone(0))
    assert np.abs(buffer.pull(2 * FRAME)).max() > 0.4


def test_loud_sound_is_clipped_and_other_channels_are_mixed():
    buffer = SoundBuffer(RATE, 2, FRAME)
    buffer.push(np.full((FRAME, 1), 3.0, np.float32))
    heard = buffer.pull(2 * FRAME)
    assert heard.shape == (2 * FRAME, 2)
    assert heard.max() == 1.0
