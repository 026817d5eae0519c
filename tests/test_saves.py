"""Quick saves on disk, and keys that were chosen: kept, and harmless where their files are damaged."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fake_world import ACTIONS, FakeWorld

from worldgen.errors import InputError
from worldgen.play.bindings import Bindings
from worldgen.play.loop import Player
from worldgen.play.saves import read_save, write_save
from worldgen.play.session import SessionLog

LEFT, RIGHT, UP = 1, 2, 3


def player_of(world: FakeWorld, seed: int = 3) -> Player:
    return Player(world, seed=seed, log=SessionLog(world, name="fake", seed=seed))


def saved(path, world: FakeWorld | None = None):
    """A play that was saved -> what came after it."""
    player = player_of(world or FakeWorld(sample_rate=24000))
    player.step(LEFT)
    player.set_nfe(4)
    player.step(UP)
    player.restart(start=2)
    player.step(RIGHT)
    write_save(path, player.save(), player.log.session())
    return [player.step(a).image for a in (RIGHT, UP, LEFT)], player.log.session()


def test_a_play_goes_on_from_its_save_in_another_process_and_its_session_is_whole(tmp_path):
    after, session = saved(tmp_path / "s.npz")
    player = player_of(FakeWorld(sample_rate=24000), seed=99)
    player.step(UP)
    point = read_save(tmp_path / "s.npz", player)
    assert player.frame.image.shape == (24, 32, 3) and player.seed == 4
    player.set_nfe(4)
    assert all(np.array_equal(player.step(a).image, b) for a, b in zip((RIGHT, UP, LEFT), after, strict=True))
    again = player.log.session()
    assert again.actions == session.actions and again.checksums == session.checksums
    player.load(point)
    assert len(player.log.session().actions) == 3


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "foreign", "no session"])
def test_a_damaged_or_foreign_save_is_refused_in_one_line_and_the_game_goes_on(tmp_path, damage):
    path = tmp_path / "s.npz"
    saved(path)
    content = path.read_bytes()
    world = FakeWorld(sample_rate=24000, hash="e" * 64 if damage == "foreign" else "f" * 64)
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "text":
        path.write_text("not a save")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "no session":
        with np.load(path) as arrays:
            np.savez(path, **{k: v for k, v in arrays.items() if k != "session"})
    player = player_of(world)
    player.step(LEFT)
    before, session = player.frame, player.log.session()
    with pytest.raises(InputError) as error:
        read_save(path, player)
    assert "\n" not in str(error.value)
    assert player.frame is before and player.log.session() == session
    player.step(RIGHT)


@pytest.mark.parametrize(
    "saved_in, loaded_in, said",
    [
        ({}, {"sample_rate": 24000}, "saved with sound off, this play has generated: play with --sound off"),
        ({"sample_rate": 24000}, {}, "saved with sound generated, this play has off: play with --sound generated"),
        ({}, {"scale": 2}, "saved without super-resolution, this play has it: play with --no-upscale"),
        ({"scale": 2}, {}, "saved with super-resolution, this play has none: play without --no-upscale"),
    ],
)
def test_a_save_of_a_play_with_other_sound_or_super_resolution_is_not_called_damaged(
    tmp_path, saved_in, loaded_in, said
):
    saved(tmp_path / "s.npz", FakeWorld(**saved_in))
    player = player_of(FakeWorld(**loaded_in))
    before = player.frame
    with pytest.raises(InputError, match=said):
        read_save(tmp_path / "s.npz", player)
    assert player.frame is before


def test_without_a_save_it_says_so(tmp_path):
    with pytest.raises(InputError, match="nothing saved yet"):
        read_save(tmp_path / "absent.npz", player_of(FakeWorld()))


def test_keys_that_were_chosen_are_kept_by_world_and_a_key_presses_one_thing(tmp_path):
    path = tmp_path / "keys.json"
    bindings = Bindings.of(ACTIONS)
    bindings.bind("a", "left")
    bindings.bind("pad 3", "space")
    bindings.save("fake", path)
    Bindings.of(ACTIONS).save("other", path)
    again, problem = Bindings.load("fake", ACTIONS, path)
    assert problem is None
    assert again.keys == {"a": "left", "right": "right", "up": "up", "down": "down", "space": "space"}
    assert again.pad["pad 3"] == "space" and "pad 0" not in again.pad
    assert again.key_of("left") == "a"
    assert Bindings.load("other", ACTIONS, path)[0] == Bindings.of(ACTIONS)


@pytest.mark.parametrize("text", ["{", "[]", '{"fake": 3}', '{"fake": {"keys": {"a": []}}}', '{"fake": {"keys": 1}}'])
def test_a_damaged_file_of_keys_is_said_and_the_worlds_own_are_used(tmp_path, text):
    path = tmp_path / "keys.json"
    path.write_text(text)
    bindings, problem = Bindings.load("fake", ACTIONS, path)
    assert bindings == Bindings.of(ACTIONS)
    assert problem and "\n" not in problem


def test_a_gamepad_presses_the_arrows_and_the_buttons_the_rest():
    pad = Bindings.of(ACTIONS).pad
    assert {pad[f"pad {way}"] for way in ("left", "right", "up", "down")} == {"left", "right", "up", "down"}
    assert pad["pad 0"] == "space"


def test_a_save_file_is_json_and_arrays_only(tmp_path):
    saved(tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz", allow_pickle=False) as arrays:
        assert json.loads(str(arrays["session"]))["world"] == "fake"
        assert all(arrays[name].dtype != object for name in arrays)
