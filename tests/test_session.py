"""Sessions: written while playing, replayed bit for bit; and plays written as recordings."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from fake_world import FakeWorld

from worldgen.data.recording import read_info
from worldgen.data.sidecar import read_sidecar
from worldgen.errors import InputError
from worldgen.interrupts import termination_as_interrupt
from worldgen.play.clip import ClipWriter
from worldgen.play.loop import Player
from worldgen.play.main import play
from worldgen.play.options import PlayOptions
from worldgen.play.recorder import EpisodeRecorder
from worldgen.play.session import Session, SessionLog

IDLE, LEFT, RIGHT, UP, DOWN, JUMP = range(6)


def eventful_play(world: FakeWorld, **how) -> tuple[Session, list[np.ndarray]]:
    """A play in which everything happens that can -> its session and the frames that were kept."""
    log = SessionLog(world, name="fake", **how)
    player = Player(world, log=log, **how)
    frames = [player.step(a).image for a in (LEFT, UP, UP)]
    point = player.save()
    player.step(RIGHT)  # undone
    player.load(point)
    player.set_nfe(4)
    frames += [player.step(a).image for a in (RIGHT, RIGHT)]
    player.restart(99)
    frames += [player.step(a).image for a in (DOWN,) * 12]  # the episode ends and the next begins
    player.set_nfe(1)
    frames += [player.step(JUMP).image]
    return log.session(), frames


def replay(session: Session, world: FakeWorld) -> list[np.ndarray]:
    world.nfe = session.nfe
    player, choose = Player(world, seed=session.seed, start=session.start), session.replay()
    frames = []
    while (action := choose(player)) is not None:
        frames.append(player.step(action).image)
    return frames


@pytest.mark.parametrize("start", [None, 3, np.full((2, 24, 32, 3), 77, np.uint8)], ids=["seed", "index", "frames"])
def test_a_saved_session_replays_every_frame_bit_for_bit(tmp_path, start):
    session, frames = eventful_play(FakeWorld(ends_after=8), seed=5, start=start)
    session.save(tmp_path / "game.json")
    loaded = Session.load(tmp_path / "game.json")
    again = replay(loaded, FakeWorld(ends_after=8))
    assert len(frames) == len(again) == 18
    assert all(np.array_equal(a, b) for a, b in zip(frames, again, strict=True))


def test_a_replay_on_another_seed_would_look_otherwise():
    session, frames = eventful_play(FakeWorld(ends_after=8), seed=5)
    again = replay(Session(**{**vars(session), "seed": 6}), FakeWorld(ends_after=8))
    assert not np.array_equal(frames[0], again[0])


def test_a_replay_of_another_world_is_refused_with_both_hashes(tmp_path):
    session, _ = eventful_play(FakeWorld())
    session.save(tmp_path / "game.json")
    options = PlayOptions(replay=tmp_path / "game.json", headless=True)
    with pytest.raises(InputError, match="ffffffffffff.*eeeeeeeeeeee"):
        play(options, load_world=lambda *_, **__: FakeWorld(hash="e" * 64))


def test_replaying_says_that_it_was_identical_and_where_it_was_not(tmp_path, capsys):
    def load(name, *, backend, nfe, **_):
        assert (name, backend, nfe) == ("fake", "fake", 2)
        return FakeWorld(ends_after=8)

    session, frames = eventful_play(FakeWorld(ends_after=8), seed=5)
    session.save(tmp_path / "game.json")
    stats = play(PlayOptions(replay=tmp_path / "game.json", headless=True), load_world=load)
    assert stats["frames"] == len(frames)
    assert "18 frames: identical" in capsys.readouterr().out

    session.checksums[11] ^= 1
    session.save(tmp_path / "game.json")
    play(PlayOptions(replay=tmp_path / "game.json", headless=True), load_world=load)
    assert "frame 11 is the first to differ" in capsys.readouterr().out


def test_a_headless_play_that_is_recorded_can_be_replayed(tmp_path, capsys):
    def load(*_, **__):
        return FakeWorld(ends_after=20, sample_rate=24000)

    play(PlayOptions(world="fake", headless=True, frames=50, seed=4, record=tmp_path / "game.json"), load_world=load)
    play(PlayOptions(replay=tmp_path / "game.json", headless=True), load_world=load)
    assert "replayed 50 frames: identical" in capsys.readouterr().out


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: "[1, 2",
        lambda raw: json.dumps([1, 2]),
        lambda raw: json.dumps({**raw, "format_version": 99}),
        lambda raw: json.dumps({**raw, "nfe": 3}),
        lambda raw: json.dumps({**raw, "changes": [{"frame": 1, "explode": 1}]}),
        lambda raw: json.dumps({**raw, "changes": [{"frame": 1, "upscaling": "best"}]}),
        lambda raw: json.dumps({**raw, "changes": [{"restart": 1}]}),
        lambda raw: json.dumps({**raw, "changes": 7}),
        lambda raw: json.dumps({**raw, "sound": 3}),
        lambda raw: json.dumps({k: v for k, v in raw.items() if k != "seed"}),
        lambda raw: json.dumps({**raw, "surprise": 1}),
        lambda raw: json.dumps({**raw, "start": {"shape": [1 << 40], "zlib_base64": ""}}),
        lambda raw: json.dumps({**raw, "start": {"shape": [24, 32, 3], "zlib_base64": "AAAA"}}),
        lambda raw: json.dumps({**raw, "actions": "LLRR"}),
    ],
)
def test_a_damaged_session_is_named_in_one_clear_error(tmp_path, damage):
    session, _ = eventful_play(FakeWorld())
    path = tmp_path / "game.json"
    session.save(path)
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(InputError, match="game.json") as caught:
        Session.load(path)
    assert "\n" not in str(caught.value)


def test_actions_of_a_session_that_the_world_does_not_know_are_refused(tmp_path):
    session, _ = eventful_play(FakeWorld())
    session.actions[2] = 17
    session.save(tmp_path / "game.json")
    with pytest.raises(InputError, match="game.json, row 2: .*17"):
        play(PlayOptions(replay=tmp_path / "game.json", headless=True), load_world=lambda *_, **__: FakeWorld())


def test_a_missing_session_is_named():
    with pytest.raises(InputError, match="nowhere.json"):
        Session.load(Path("nowhere.json"))


def dot(frame: np.ndarray) -> np.ndarray:
    """Where the FakeWorld's dot is: row and column of its middle."""
    return np.argwhere(frame[..., 0] > 128).mean(axis=0).round()


def decoded(path: Path) -> list[np.ndarray]:
    import av

    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_recorded_play_follows_the_recording_contract(tmp_path):
    """Row t is the action chosen on frame t; it leads to frame t + 1, and so does its reward and end."""
    world = FakeWorld(height=64, width=64, ends_after=6)
    player = Player(world, seed=1, recorder=EpisodeRecorder(tmp_path, world))
    actions = [LEFT, UP, UP, RIGHT, DOWN, LEFT, IDLE, RIGHT, UP]  # the 7th begins the next episode
    shown = [player.frame.image] + [player.step(a).image for a in actions]
    player.close()

    first, second = sorted(tmp_path.glob("*.mkv"))
    rows, frames = read_sidecar(first.with_suffix(".jsonl")), decoded(first)
    assert len(rows) == len(frames) == 7
    assert rows.actions[:6] == actions[:6]
    assert rows.terminated.tolist() == [False] * 5 + [True, False]
    assert rows.reward.tolist() == [0.0] * 5 + [1.0, 0.0]
    for t, frame in enumerate(frames):
        assert np.array_equal(dot(frame), dot(shown[t]))
    assert read_info(first).actions == world.config.actions
    assert (read_info(first).seed, read_info(second).seed) == (1, 2)
    assert read_sidecar(second.with_suffix(".jsonl")).actions[:2] == actions[7:]


def test_going_back_begins_a_new_recording_at_that_moment(tmp_path):
    world = FakeWorld(height=64, width=64)
    player = Player(world, recorder=EpisodeRecorder(tmp_path, world))
    start = player.save()
    player.step(LEFT)
    point = player.save()
    player.step(RIGHT)
    player.load(start)  # passed while rewinding
    player.load(point)
    player.step(UP)
    player.close()
    first, second = sorted(tmp_path.glob("*.mkv"))
    assert len(decoded(first)) == 3 and len(decoded(second)) == 2
    assert np.array_equal(dot(decoded(second)[0]), dot(point.frame.image))


def test_recordings_of_a_second_play_are_added_to_those_of_the_first(tmp_path):
    for seed in (0, 1):
        options = PlayOptions(headless=True, frames=3, seed=seed, recordings=tmp_path)
        play(options, load_world=lambda *_, **__: FakeWorld())
    assert [read_info(p).seed for p in sorted(tmp_path.glob("*.mkv"))] == [0, 1]


# With a real world


def test_a_real_world_plays_headless_and_replays_bit_for_bit(tiny_world_onnx, tmp_path, capsys):
    options = PlayOptions(str(tiny_world_onnx), headless=True, frames=40, seed=2, record=tmp_path / "s.json")
    stats = play(options)
    assert (stats["frames"], stats["width"], stats["height"], stats["backend"]) == (40, 16, 16, "onnxruntime")
    play(PlayOptions(replay=tmp_path / "s.json", headless=True))
    assert "replayed 40 frames: identical" in capsys.readouterr().out


@pytest.mark.parametrize("how", [{"upscale": False}, {"sound": "off"}], ids=str)
def test_a_world_that_is_played_plainer_than_it_could_be_replays_so(tmp_path, capsys, how):
    play(PlayOptions("doom", headless=True, frames=12, record=tmp_path / "s.json", **how))
    played = play(PlayOptions(replay=tmp_path / "s.json", headless=True))
    assert "replayed 12 frames: identical" in capsys.readouterr().out
    assert (played["width"], bool(played["sound_seconds"])) == ((64, True) if "upscale" in how else (256, False))


def test_a_session_without_super_resolution_in_part_can_be_replayed_small(tmp_path, capsys):
    session, _ = eventful_play(FakeWorld(ends_after=8, scale=2), seed=5)
    session.changes.append({"frame": 2, "upscaling": "nearest"})
    session.save(tmp_path / "game.json")
    options = PlayOptions(replay=tmp_path / "game.json", headless=True, upscale=False)
    stats = play(options, load_world=lambda *_, upscale, **__: FakeWorld(ends_after=8, scale=2 if upscale else 1))
    assert stats["frames"] == 18 and "the first to differ" in capsys.readouterr().out


def test_going_back_in_a_real_world_replays_the_line_that_was_kept(tiny_world_onnx, tmp_path):
    from worldgen.world import World

    world = World.load(tiny_world_onnx)
    log = SessionLog(world, name=str(tiny_world_onnx), seed=3)
    player = Player(world, seed=3, log=log)
    frames = [player.step(LEFT).image]
    point = player.save()
    for _ in range(6):
        player.step(RIGHT)
    player.load(point)
    player.set_nfe(1)
    frames += [player.step(UP).image for _ in range(6)]
    again = replay(log.session(), World.load(tiny_world_onnx))
    assert all(np.array_equal(a, b) for a, b in zip(frames, again, strict=True))


def test_a_start_of_ones_own_is_what_a_real_world_goes_on_from(tiny_world_onnx):
    from worldgen.world import World

    def first(start) -> np.ndarray:
        return Player(World.load(tiny_world_onnx), seed=1, start=start).step(LEFT).image

    black, white = (np.full((2, 16, 16, 3), value, np.uint8) for value in (0, 255))
    assert not np.array_equal(first(black), first(white))
    assert np.array_equal(first(black), first(black))


@pytest.mark.parametrize(
    "name, second", [("SIGTERM", ""), ("SIGHUP", ""), ("SIGHUP", "SIGHUP"), ("SIGTERM", "SIGHUP")], ids=str
)
def test_a_headless_play_that_is_ended_by_a_signal_writes_all_that_was_asked_for(
    tmp_path, monkeypatch, hangups_again, name, second
):
    """second: one that comes while the clip is closed, as where a terminal is, or at logging out."""
    if not all(hasattr(signal, each) for each in (name, second) if each):
        pytest.skip(f"no {name} and {second} here")
    close = ClipWriter.close

    def hear_another(clip):
        if second:
            signal.raise_signal(getattr(signal, second))
        close(clip)

    monkeypatch.setattr(ClipWriter, "close", hear_another)

    class Ended(FakeWorld):
        def step(self, action):
            if len(self.calls) == 8:
                signal.raise_signal(getattr(signal, name))
            return super().step(action)

    paths = {"out": tmp_path / "c.mp4", "record": tmp_path / "s.json", "json": str(tmp_path / "f.json")}
    before = signal.getsignal(getattr(signal, name))
    with pytest.raises(KeyboardInterrupt):
        play(PlayOptions(headless=True, **paths), load_world=lambda *_, **__: Ended())
    # that of SIGHUP would end the process while it still closes things
    assert signal.getsignal(getattr(signal, name)) == (signal.SIG_IGN if name == "SIGHUP" else before)
    assert json.loads((tmp_path / "f.json").read_text())["frames"] == 7
    assert len(Session.load(tmp_path / "s.json").actions) == len(decoded(tmp_path / "c.mp4")) == 7
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
def test_nohup_keeps_a_play_from_ending_with_its_terminal():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with termination_as_interrupt():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("dies", [False, True])
def test_a_session_that_cannot_be_written_costs_no_figures_and_hides_no_error(tmp_path, monkeypatch, capsys, dies):
    def full(*_):
        raise OSError(28, "No space left on device")

    class Dying(FakeWorld):
        def step(self, action):
            if dies and len(self.calls) == 8:
                raise RuntimeError("out of memory")
            return super().step(action)

    monkeypatch.setattr(Session, "save", full)
    options = PlayOptions(headless=True, frames=20, record=tmp_path / "s.json", json=str(tmp_path / "f.json"))
    with pytest.raises(RuntimeError if dies else OSError, match="out of memory" if dies else "No space left"):
        play(options, load_world=lambda *_, **__: Dying())
    assert json.loads((tmp_path / "f.json").read_text())["frames"] == (7 if dies else 20)
    assert ("No space left" in capsys.readouterr().out) == dies  # the first is raised, the other said


def test_a_session_notes_the_world_that_was_played_not_recordings_in_a_folder_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doom").mkdir()

    def noted() -> str:
        options = PlayOptions("doom", headless=True, frames=2, record=tmp_path / "s.json")
        play(options, load_world=lambda *_, **__: FakeWorld())
        return Session.load(tmp_path / "s.json").world

    assert noted() == "doom"  # as find_world() takes it
    (tmp_path / "doom" / "world.json").touch()
    assert noted() == str(tmp_path / "doom")


def test_a_play_that_is_ended_by_sigterm_keeps_its_session_its_clip_and_its_recordings(tmp_path):
    import os
    import subprocess
    import sys
    import time

    words = ["--record", "s.json", "--out", "c.mp4", "--recordings", "r", "--actions", "random", "--json", "-"]
    environ = {**os.environ, "SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
    play = subprocess.Popen(
        [sys.executable, "-m", "worldgen.cli", "play", "doom", *words],
        cwd=tmp_path,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    rows = tmp_path / "r" / "play-0000.jsonl"
    end = time.monotonic() + 60
    while (not rows.exists() or rows.stat().st_size < 1500) and time.monotonic() < end:
        time.sleep(0.05)
    play.send_signal(signal.SIGTERM)
    out, said = play.communicate(timeout=30)
    assert play.returncode == 0, said
    frames = json.loads(out)["frames"]  # nothing but the figures on standard output
    session = Session.load(tmp_path / "s.json")
    assert frames == len(session.actions) == len(session.checksums) >= 10
    assert len(read_sidecar(rows)) == frames + 1
    assert (tmp_path / "c.mp4").stat().st_size > 1000 and not list(tmp_path.glob(".*"))
