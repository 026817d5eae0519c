"""The worlds that the start screen shows, and what a prompt is worth to one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fake_world import ACTIONS

from worldgen.bundle import BUNDLED, Starts, bundled_worlds, find_world
from worldgen.config import WorldConfig
from worldgen.play.familiarity import note_on
from worldgen.play.shelf import find_worlds


def make_world(folder, name="mine"):
    folder.mkdir(parents=True)
    (folder / "world.json").write_text(json.dumps(WorldConfig(name, 24, 32, 15, ACTIONS, context=4).to_json()))
    (folder / "dynamics").mkdir()
    frames = np.random.default_rng(0).integers(0, 255, (3, 2, 24, 32, 3), np.uint8)
    Starts(frames, np.zeros((3, 2, 1), np.int64)).save(folder)
    return frames


def test_bundled_worlds_come_first_then_ones_own_at_two_depths(tmp_path):
    make_world(tmp_path / "here", "a")
    make_world(tmp_path / "worlds" / "there", "b")
    (tmp_path / ".hidden").mkdir()
    found = find_worlds([tmp_path, tmp_path / "worlds", tmp_path / "absent"])
    own = found[len(bundled_worlds()) :]
    assert [world.title for world in found[: len(bundled_worlds())]] == bundled_worlds()
    assert [world.title for world in own] == ["a", "b"]  # each once
    assert not any(world.problem for world in own)


def test_a_world_of_ones_own_does_not_stand_for_the_bundled_one_of_its_name(tmp_path, monkeypatch):
    name = bundled_worlds()[0]
    make_world(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert [find_world(world.name) for world in find_worlds()] == [world.folder for world in find_worlds()]
    assert find_worlds()[0].folder == BUNDLED / name and find_worlds()[-1].folder == Path(name)


def test_the_preview_goes_through_all_starts_and_begins_again(tmp_path):
    frames = make_world(tmp_path / "w")
    world = find_worlds([tmp_path])[-1]
    assert [np.array_equal(world.preview(i), frames.reshape(-1, 24, 32, 3)[i % 6]) for i in range(13)] == [True] * 13


@pytest.mark.parametrize("damage", ["world.json", "starts", "untrained"])
def test_a_damaged_world_is_shown_with_what_is_wrong_and_hides_no_other(tmp_path, damage):
    make_world(tmp_path / "good")
    make_world(tmp_path / "bad")
    if damage == "world.json":
        (tmp_path / "bad" / "world.json").write_text("{")
    elif damage == "starts":
        (tmp_path / "bad" / "starts" / "starts.npz").write_bytes(b"no zip")
    else:
        (tmp_path / "bad" / "dynamics").rmdir()
    by_folder = {world.folder.name: world for world in find_worlds([tmp_path])}
    assert by_folder["bad"].problem and "\n" not in by_folder["bad"].problem
    assert not by_folder["good"].problem


def test_a_picture_like_nothing_the_bundled_world_has_seen_is_called_far_and_its_own_are_not():
    world = find_worlds([])[0]
    height, width = world.config.height, world.config.width
    rng = np.random.default_rng(1)
    for foreign in (np.full((height, width, 3), 255, np.uint8), rng.integers(0, 256, (height, width, 3), np.uint8)):
        assert "far" in note_on(world.starts, foreign)
    for i in range(len(world.starts.frames)):
        others = Starts(np.delete(world.starts.frames, i, 0), np.delete(world.starts.actions, i, 0))
        assert note_on(others, world.starts.frames[i, -1]) is None
    assert note_on(None, world.starts.frames[0, -1]) is None
