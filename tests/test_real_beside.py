"""The real game beside the generated one: recorded clips, in step with the world that plays their actions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fake_world import FakeWorld
from recordings import WALK, number_of, record, write_video

from worldgen.errors import InputError
from worldgen.play.blind_test import BlindTest, num_frames, wilson
from worldgen.play.loop import Player
from worldgen.play.main import play
from worldgen.play.options import PlayOptions
from worldgen.play.real_beside import RealBeside
from worldgen.play.recorded_clips import PROMPT, RecordedClips


def world(**facts) -> FakeWorld:
    return FakeWorld(height=48, width=64, fps=30, actions=WALK, **facts)


def test_a_clip_holds_the_frames_and_the_actions_between_them(tmp_path):
    actions = record(tmp_path / "a.mkv", n=60)
    clip = RecordedClips(tmp_path, world(), 30, seed=1).next()
    numbers = [number_of(frame) for frame in clip.frames]
    assert numbers == list(range(clip.offset, clip.offset + 30))
    assert clip.actions == actions[clip.offset : clip.offset + 29].tolist()
    assert np.array_equal(clip.prompt, clip.frames[:PROMPT])


def test_the_world_plays_the_recorded_actions_and_the_real_frames_stay_in_step(tmp_path):
    record(tmp_path / "a.mkv", n=60)
    game = world()
    real = RealBeside(RecordedClips(tmp_path, game, 20, seed=1))
    first = real.clip
    player = Player(game, start=real.start)
    assert number_of(real.beside(player).image) == first.offset + PROMPT - 1
    for i in range(20 - PROMPT):
        player.step(real(player))
        assert number_of(real.beside(player).image) == first.offset + PROMPT + i
    played = [call for call in game.calls if not isinstance(call, tuple)]
    assert played == first.actions[PROMPT - 1 :]
    player.step(real(player))  # the next clip begins by itself
    assert real.clip is not first
    assert number_of(real.beside(player).image) == real.clip.offset + PROMPT


def test_a_clip_of_both_pictures_is_written_without_a_window(tmp_path, monkeypatch):
    import av

    monkeypatch.chdir(tmp_path)
    record(tmp_path / "data" / "a.mkv", n=60)
    options = PlayOptions(
        world="fake", beside=tmp_path / "data", headless=True, frames=10, out=tmp_path / "o.mp4", scale=2
    )
    play(options, load_world=lambda *_, **__: world())
    with av.open(str(tmp_path / "o.mp4")) as container:
        assert container.streams.video[0].width == 2 * 2 * 64


def test_recordings_that_cannot_be_played_beside_are_refused_in_one_line(tmp_path):
    (tmp_path / "none").mkdir()
    write_video(tmp_path / "none" / "a.mkv", [np.zeros((48, 64, 3), np.uint8)] * 30)
    with pytest.raises(InputError, match="no actions were recorded"):
        RecordedClips(tmp_path / "none", world(), 20)
    record(tmp_path / "short" / "a.mkv", n=4)
    with pytest.raises(InputError, match="too few"):
        RecordedClips(tmp_path / "short", world(), 20)
    record(tmp_path / "other" / "a.mkv", n=40)
    with pytest.raises(InputError, match="use recordings of its own game"):  # although each of them is in range
        RecordedClips(tmp_path / "other", FakeWorld(height=48, width=64), 20)
    (tmp_path / "other" / "a.json").unlink()
    with pytest.raises(InputError, match="row"):
        RecordedClips(
            tmp_path / "other", FakeWorld(height=48, width=64, actions=FakeWorld().config.actions.discrete(["a"])), 20
        )
    latent = world()
    latent.config = replace(latent.config, action_source="latent")
    with pytest.raises(InputError, match="latent"):
        RecordedClips(tmp_path / "short", latent, 20)
    with pytest.raises(InputError, match="no such file or folder"):
        play(PlayOptions(beside=tmp_path / "absent", headless=True))


@pytest.mark.parametrize(
    "names, is_same", [("left stay dash", True), ("right stay left", False), ("fire duck right", False)]
)
def test_recordings_whose_action_was_renamed_are_played_beside_and_those_of_another_game_are_not(
    tmp_path, names, is_same
):
    """WALK is left, stay, right. Others would play as the wrong actions, although each is in range."""
    record(tmp_path / "a.mkv", n=40)
    game = FakeWorld(height=48, width=64, fps=30, actions=replace(WALK, names=tuple(names.split())))
    if is_same:
        assert RecordedClips(tmp_path, game, 20).next().actions
        return
    with pytest.raises(InputError, match="use recordings of its own game"):
        RecordedClips(tmp_path, game, 20)


def test_the_blind_test_asks_about_real_and_generated_clips_of_one_length(tmp_path):
    record(tmp_path / "a.mkv", n=150)
    game = world()
    test = BlindTest(game, RecordedClips(tmp_path, game, num_frames(30), seed=0), seed=0)
    kinds = []
    for _ in range(8):
        clip, frames, is_real = test.question()
        assert len(frames) == num_frames(30) - PROMPT
        assert np.array_equal(frames, clip.frames[PROMPT:]) == is_real
        kinds.append(is_real)
    assert set(kinds) == {True, False}


def test_the_interval_of_the_tally_is_wilsons():
    low, high = wilson(8, 10)
    assert (round(low, 3), round(high, 3)) == (0.490, 0.943)
    assert wilson(0, 5)[0] == pytest.approx(0.0) and wilson(5, 5)[1] == pytest.approx(1.0)
