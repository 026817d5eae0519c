"""A world knows the recordings it was trained on by what they hold, wherever they and it have gone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import SIDE, record_toy

pytest.importorskip("torch")

from worldgen.bundle import TRAINED_ON
from worldgen.config import WorldConfig
from worldgen.data.cache import open_cache
from worldgen.data.check import check_folder
from worldgen.data.clean import fix_folder
from worldgen.data.dataset import split_episodes
from worldgen.errors import InputError
from worldgen.files import write_json
from worldgen.training.held_out import HeldOut, open_for, open_held_out
from worldgen.training.trained_on import TrainedOn
from worldgen.training.world_facts import _trained_on


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


def trained_on_names(world: Path, *names: str) -> None:
    """As training leaves it beside the list of contents"""
    write_json(world / "training" / "data.json", {"data": "x", "train": names, "held_out": []})


def test_others_of_the_same_names_are_held_out(world, tmp_path):
    trained_on_names(world, "toy0.mkv", "toy1.mkv", "toy2.mkv")
    for i in range(2):
        record_toy(tmp_path / "others" / f"toy{i}.mkv", seed=50 + i)
    held = held_out(world, tmp_path / "others")
    assert held.facts["episodes_left_out"] == 0 and held.facts["episodes"] == 2 and held.facts["is_held_out"]


def test_names_count_where_contents_do_not_say_all(world, tmp_path):
    trained_on_names(world, "toy0.mkv")
    replace(TrainedOn.load(world), is_complete=False).save(world)  # begun from a world that does not say
    for i in range(2):
        record_toy(tmp_path / "others" / f"toy{i}.mkv", seed=50 + i)
    held = held_out(world, tmp_path / "others")
    assert held.facts["episodes_left_out"] == 1 and not held.facts["is_held_out"]
    assert any("or on others so called" in note for note in held.notes)


def test_cleaned_recordings_are_known_again(world, toy_recordings, tmp_path):
    trained_on_names(world, "toy0.mkv", "toy1.mkv", "toy2.mkv")
    fix_folder(check_folder(toy_recordings), tmp_path / "cleaned", lambda text: None)
    held = held_out(world, tmp_path / "cleaned")
    assert held.facts["episodes_left_out"] == 3 and held.facts["episodes"] == 1 and held.facts["is_held_out"]


def test_a_world_that_did_not_say_what_it_was_trained_on_does_not_later(world, toy_recordings, tmp_path):
    (world / TRAINED_ON).unlink()
    cache = open_cache(toy_recordings, height=SIDE, width=SIDE)
    train, validation = split_episodes(cache)
    recipe = SimpleNamespace(out=world, source=None, data=toy_recordings)
    run = SimpleNamespace(recipe=recipe, cache=cache, train=train, validation=validation, finished=None)
    assert _trained_on(run).is_complete
    run.finished = WorldConfig.load(world / "world.json")  # further stages alone
    assert not _trained_on(run).is_complete


@pytest.mark.parametrize("stated", [True, False])
def test_the_cache_of_training_is_found_again(world, toy_recordings, tmp_path, stated):
    ignored = () if stated else ("*.json", "*.jsonl")
    data = Path(shutil.copytree(toy_recordings, tmp_path / "data", ignore=shutil.ignore_patterns(*ignored)))
    (data / "a.mkv").write_bytes(b"damaged")
    trained = open_cache(data, height=SIDE, width=SIDE)
    assert open_for(WorldConfig.load(world / "world.json"), data, print).path == trained.path
    slower = replace(WorldConfig.load(world / "world.json"), fps=5)
    assert open_for(slower, data, print).fps == 5


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
