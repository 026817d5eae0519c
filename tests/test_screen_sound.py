"""The desktop's sound in step with the frames of a recording: blocks that come late, clocks that differ, no server."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import numpy as np
import pytest

from worldgen.data.recording import RecordingInfo
from worldgen.data.sidecar import read_sidecar
from worldgen.data.sound import read_sound
from worldgen.envs.screen_input import screen_actions
from worldgen.envs.screen_recording import ScreenRecording
from worldgen.envs.screen_sound import SystemSound, TimedSound
from worldgen.errors import RunError

RATE, FPS, BLOCK = 24_000, 15, 480


def heard(seconds: np.ndarray) -> np.ndarray:
    """A sound whose samples tell when they were heard."""
    return np.stack([seconds, -seconds], axis=1).astype(np.float32)


def frames_of(seconds: float, device_rate: float = RATE, skip: tuple[float, float] = (0, 0)) -> list[np.ndarray]:
    """The sound of frames from 100.3 on. The device gives blocks from 100.0 on, each up to 15 ms late, but none while
    it skips; frames are asked for as they are on screen."""
    sound, rng, frames = TimedSound(RATE), np.random.default_rng(0), []
    assert sound.take(100.3, 1600) is None
    for i in range(int(seconds * device_rate / BLOCK)):
        times = (i * BLOCK + np.arange(BLOCK)) / device_rate
        if skip[0] <= times[0] < skip[1]:
            continue
        sound.add(heard(100 + times), 100 + times[-1] + 1 / device_rate + rng.uniform(0, 0.015))
        while (frame := sound.take(100.3 + len(frames) / FPS, 1600)) is not None:
            frames.append(frame[:, 0].astype(np.float64))
    return frames


def test_a_frame_is_given_what_was_heard_while_it_was_on_screen_without_a_seam():
    frames = frames_of(2.0)
    assert len(frames) == 25  # up to 101.97
    whole = np.concatenate(frames)
    assert abs(whole[0] - 100.3) < 0.002
    assert np.allclose(np.diff(whole), 1 / RATE, atol=2e-5)


def test_a_device_whose_clock_runs_away_is_followed():
    frames = frames_of(60, device_rate=1.002 * RATE)  # 120 ms by the end
    assert len(frames) > 880
    assert max(abs(frame[0] - (100.3 + i / FPS)) for i, frame in enumerate(frames)) < 0.025


def test_a_time_without_blocks_was_silent():
    frames = frames_of(4.0, skip=(1.0, 2.5))
    moments = [0.3 + i / FPS for i in range(len(frames))]
    for moment, frame in zip(moments, frames, strict=True):
        if 1.05 < moment < 2.4:
            assert not frame.any()
        elif moment < 0.9 or moment > 2.6:
            assert abs(frame[0] - (100 + moment)) < 0.02


class Clock:
    def __init__(self) -> None:
        self.now = 10.0

    def __call__(self) -> float:
        return self.now


def test_speakers_that_cannot_be_heard_are_said_in_one_line():
    def broken(rate, channels):
        raise AssertionError

    with pytest.raises(RunError, match="^the system's sound cannot be recorded: no sound server answers$"):
        SystemSound(FPS, broken).listen()


def test_speakers_that_are_unplugged_leave_silence_and_their_error():
    clock = Clock()
    was_heard, go_on = threading.Event(), threading.Event()

    class Unplugged:
        num_blocks = 0

        def record(self, samples):
            self.num_blocks += 1
            if self.num_blocks > 10:
                was_heard.set()
                go_on.wait(30)
                raise OSError("unplugged")
            clock.now += samples / RATE
            return np.full((samples, 2), 0.5, np.float32)

    @contextmanager
    def speakers(rate, channels):
        yield Unplugged()

    sound = SystemSound(FPS, speakers, clock)
    sound.listen()
    assert was_heard.wait(30)
    go_on.set()
    sound.stop()
    assert (sound.frame(10.05) == 0.5).all()
    assert not sound.frame(11.0).any() and "unplugged" in str(sound.error)


def test_the_rate_gives_every_frame_a_whole_number_of_samples():
    for fps in (10, 15, 17.5, 29.97, 60):
        sound = SystemSound(fps, lambda rate, channels: None)
        assert sound.samples * fps == pytest.approx(sound.sample_rate, abs=0.5)


class SoundOfFrames:
    """Each frame has its own constant, which comes three frames late."""

    sample_rate, channels = RATE, 2

    def __init__(self):
        self.now = 0

    def frame(self, moment):
        t = round(moment * FPS)
        return None if t > self.now - 3 else np.full((1600, 2), 0.02 * (t + 1), np.float32)


def test_frames_wait_for_their_sound_and_the_file_has_each_with_its_own(tmp_path):
    sound = SoundOfFrames()
    info = RecordingInfo(FPS, screen_actions(("a",), False), "test")
    with ScreenRecording(tmp_path / "s.mkv", info, sound) as recording:
        for t in range(30):
            sound.now = t
            recording.show(np.full((32, 32, 3), 8 * t, np.uint8), t / FPS)
            if t < 29:  # the last frame is closed by nothing
                recording.act([t % 2], is_cut=t == 28)
                assert (tmp_path / "s.jsonl").read_text().count("\n") == max(0, t - 2)
    rows = read_sidecar(tmp_path / "s.jsonl")
    assert [row[0] for row in rows.actions[:29]] == [t % 2 for t in range(29)]
    assert rows.truncated.tolist() == [False] * 28 + [True, False]
    samples = read_sound(tmp_path / "s.mkv")
    assert samples.shape == (30 * 1600, 2)
    for t in range(27):
        assert np.abs(samples[1600 * t : 1600 * (t + 1)] / 32767 - 0.02 * (t + 1)).max() < 1e-3
    assert not samples[1600 * 27 :].any()  # never came
