"""A world knows the recordings it was trained on by what they hold, wherever they and it have gone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import SIDE, record_toy

pytest.importorskip("torch")

from worldgen.bundle import TRAINED_ON
from worldgen.config import WorldConfig
from worldgen.data.cache import open_cache
from worldgen.data.dataset import split_episodes
from worldgen.errors import InputError
from worldgen.training.held_out import HeldOut, open_held_out
from worldgen.training.trained_on import TrainedOn


def seen_in(data: Path) -> TrainedOn:
    cache = open_cache(data, height=SIDE, width=SIDE)
    return TrainedOn.of_split(cache, data, *split_episodes(cache))


def held_out(world: Path, data: Path) -> HeldOut:
    return open_held_out(world, WorldConfig.load(world / "world.json"), data, lambda text: None)


@pytest.fixture
def world(tiny_world: Path, toy_recordings: Path, tmp_path: Path) -> Path:
    """Trained, it says, on three of the toy recordings; nothing else that training leaves behind."""
    out = Path(shutil.copytree(tiny_world, tmp_path / "world"))
    seen_in(toy_recordings).save(out)
    return out


def test_recordings_are_known_again_under_other_names(world, toy_recordings, tmp_path):
    for i, video in enumerate(sorted(toy_recordings.glob("*.mkv"))):
        for path in toy_recordings.glob(f"{video.stem}.*"):
            target = tmp_path / "moved" / f"x{9 - i}{path.suffix}"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(path, target)
    held = held_out(world, tmp_path / "moved")
    assert held.facts["episodes_left_out"] == 3 and held.facts["episodes"] == 1 and held.facts["is_held_out"]
    assert len(held.trained) == 3


def test_others_of_the_same_names_are_held_out(world, tmp_path):
    for i in range(2):
        record_toy(tmp_path / "others" / f"toy{i}.mkv", seed=50 + i)
    held = held_out(world, tmp_path / "others")
    assert held.facts["episodes_left_out"] == 0 and held.facts["episodes"] == 2 and held.facts["is_held_out"]


def test_of_one_long_recording_the_end_is_held_out(world, tmp_path):
    record_toy(tmp_path / "one" / "toy.mkv", num_frames=100, seed=9)
    seen_in(tmp_path / "one").save(world)
    held = held_out(world, tmp_path / "one")
    cache = open_cache(tmp_path / "one", height=SIDE, width=SIDE)
    assert list(held.segments) == list(split_episodes(cache)[1])


def test_a_fine_tuned_world_has_seen_what_both_have(world, tmp_path):
    assert (TrainedOn({"a": None, "b": 5}) | TrainedOn({"b": 7, "c": 3})).recordings == {"a": None, "b": 7, "c": 3}
    assert (TrainedOn({"a": 4}) | TrainedOn({"a": None})).recordings == {"a": None}
    (TrainedOn({}, is_complete=False) | TrainedOn({"a": None})).save(world)  # the first one does not say
    record_toy(tmp_path / "new" / "toy.mkv", seed=60)
    held = held_out(world, tmp_path / "new")
    assert not held.facts["is_held_out"] and any("does not say" in note for note in held.notes)


def test_a_damaged_list_is_named(world, toy_recordings):
    (world / TRAINED_ON).write_text("[1]")
    with pytest.raises(InputError, match="trained_on.json: not a list"):
        held_out(world, toy_recordings)
