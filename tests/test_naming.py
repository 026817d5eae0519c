"""Names and keys of actions live in world.json, and change nothing else of a world."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TOY_ACTIONS

from worldgen.actions import ActionMap
from worldgen.config import WorldConfig
from worldgen.errors import InputError
from worldgen.legend import draw_legend
from worldgen.naming import parse_keys, parse_names, rename_actions, renamed
from worldgen.world import World


def test_a_published_world_with_other_names_is_the_same_world(tiny_world_onnx: Path, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "named"
    shutil.copytree(tiny_world_onnx, folder)
    before = World.load(folder)
    before.reset(3)
    state = before.snapshot()
    files = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "world.json"}
    rename_actions(folder, {1: "walk back"}, {1: ("a",), 3: ("space", "left shift")})
    assert files == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "world.json"}
    after = World.load(folder)
    assert after.hash == before.hash
    after.restore(state)  # a game that was saved before goes on
    assert np.array_equal(after.step(1).image, before.step(1).image)
    actions = after.config.actions
    assert actions.name(1) == "walk back" and actions.from_keys(["a"]) == 1
    assert actions.from_keys(["left shift", "space"]) == 3
    assert not np.array_equal(draw_legend(320, actions, 1), draw_legend(320, TOY_ACTIONS, 1))


@pytest.mark.parametrize(
    "names, keys, said",
    [
        ({9: "jump"}, {}, "no action 9: the world has 0 to 4"),
        ({1: "stay"}, {}, "0 and 1 would both be called 'stay'"),
        ({1: " "}, {}, "is no name"),
        ({1: "a\nb"}, {}, "is no name"),
        ({1: "x" * 40}, {}, "is no name"),
        ({}, {1: ("spacebar",)}, "'spacebar' is no key: a letter, a digit"),
        ({}, {1: ("A",)}, "'A' is no key"),
        ({}, {1: ("up",)}, "would both have up"),
        ({}, {1: ()}, r"0 \(stay\) and 1 \(left\) would both have no key at all"),
    ],
)
def test_what_cannot_be_pressed_or_told_apart_is_refused(names: dict, keys: dict, said: str):
    with pytest.raises(InputError, match=said):
        renamed(TOY_ACTIONS, names, keys)


def test_actions_without_keys_are_named_one_by_one():
    actions = renamed(ActionMap("discrete", (3,)), {1: "jump"}, {})
    assert actions == ActionMap("discrete", (3,), ("action 0", "jump", "action 2"))
    actions = renamed(actions, {}, {1: ("space",)})
    assert actions.keys == ((), ("space",), ()) and actions.from_keys(["space"]) == 1
    with pytest.raises(InputError, match="actions 1 .jump. and 2 .action 2. would both have space"):
        renamed(actions, {}, {2: ("space",)})


def test_a_refused_name_leaves_the_world_as_it_was(tiny_world_onnx: Path, tmp_path: Path):
    shutil.copytree(tiny_world_onnx, tmp_path / "w")
    before = (tmp_path / "w" / "world.json").read_bytes()
    with pytest.raises(InputError):
        rename_actions(tmp_path / "w", {0: "left"}, {})
    assert (tmp_path / "w" / "world.json").read_bytes() == before
    assert WorldConfig.from_json(json.loads(before)).actions.names == TOY_ACTIONS.names


def test_words_of_the_command_line_name_actions():
    assert parse_names(["3=jump", "0=stand still"]) == {3: "jump", 0: "stand still"}
    assert parse_keys(["3=Space", "5=left+space", "0="]) == {3: ("space",), 5: ("left", "space"), 0: ()}
    for word in ("jump", "jump=3", "=x", "-1=x"):
        with pytest.raises(InputError, match="names no action: --name 3=jump"):
            parse_names([word])
