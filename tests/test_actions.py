"""ActionMap: four kinds of action, in and out of network rows, from keys and to JSON and back."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from worldgen.actions import KINDS, ActionMap
from worldgen.errors import InputError

MAPS = {
    "discrete": ActionMap.discrete(["idle", "left", "fire"], [(), ("left",), ("space",)]),
    "multi_discrete": ActionMap("multi_discrete", (3, 2, 5), ("move", "jump", "weapon")),
    "multi_binary": ActionMap("multi_binary", (2, 2), ("left", "fire"), (("left", "a"), ("space",))),
    "box": ActionMap("box", (0, 0), ("steer", "throttle"), low=(-1.0, 0.0), high=(1.0, 2.0)),
}


@pytest.fixture(params=KINDS)
def actions(request: pytest.FixtureRequest) -> ActionMap:
    return MAPS[request.param]


def test_every_kind_has_a_map_here():
    assert set(MAPS) == set(KINDS)


def test_decode_gives_back_what_encode_took(actions: ActionMap):
    rng = np.random.default_rng(0)
    for _ in range(50):
        action = actions.sample(rng)
        row = actions.encode(action)
        assert row.shape == (actions.width,) and row.dtype == actions.dtype
        assert actions.decode(row) == pytest.approx(action, abs=1e-6)


@pytest.mark.parametrize("lead", [(4,), (2, 3), (1, 1), (0,), (2, 0)])
def test_values_gives_back_what_encode_took_with_any_leading_axes(actions: ActionMap, lead: tuple[int, ...]):
    rng = np.random.default_rng(1)
    many = np.array([actions.sample(rng) for _ in range(int(np.prod(lead)))])
    many = many.reshape(*lead, *([] if actions.is_discrete else [len(actions.sizes)]))
    rows = actions.encode(many, *lead)
    assert rows.shape == (*lead, actions.width)
    np.testing.assert_allclose(actions.values(rows), many, atol=1e-6)
    np.testing.assert_array_equal(actions.encode(actions.values(rows), *lead), rows)


def test_encode_gives_an_array_of_its_own(actions: ActionMap):
    given = actions.values(actions.encode([actions.sample(np.random.default_rng(2))], 1)).copy()
    rows = actions.encode(given, 1)
    before = rows.copy()
    given[...] = 0 if given.any() else 1
    np.testing.assert_array_equal(rows, before)


def test_null_is_no_action_that_can_be_played(actions: ActionMap):
    rng = np.random.default_rng(3)
    null = actions.null()
    assert null.shape == (actions.width,) and null.dtype == actions.dtype
    for _ in range(200):
        assert not np.array_equal(actions.encode(actions.sample(rng)), null)
    assert actions.null(2, 3).shape == (2, 3, actions.width)
    np.testing.assert_array_equal(actions.null(2, 3)[1, 2], null)


def test_null_rows_may_be_written_to(actions: ActionMap):
    rows = actions.null(3)
    rows[0] = 0
    np.testing.assert_array_equal(rows[1], actions.null())


def test_null_cannot_be_passed_off_as_a_choice():
    for kind in ("discrete", "multi_discrete", "multi_binary"):
        actions = MAPS[kind]
        null = actions.decode(actions.null())
        with pytest.raises(InputError, match=re.escape(repr(null))):
            actions.encode(null)


@pytest.mark.parametrize(
    "kind, wrong",
    [
        ("discrete", 3),
        ("discrete", -1),
        ("discrete", [0]),
        ("discrete", 1.5),
        ("discrete", float("nan")),
        ("discrete", float("inf")),
        ("discrete", "left"),
        ("discrete", None),
        ("discrete", 2**70),
        ("discrete", 1j),
        ("multi_discrete", [0, 2, 0]),
        ("multi_discrete", [0, 0]),
        ("multi_discrete", [[0, 0, 0]]),
        ("multi_discrete", [0, [0], 0]),
        ("multi_discrete", ["a", "b", "c"]),
        ("multi_binary", [2, 0]),
        ("multi_binary", [0.5, 0]),
        ("multi_binary", 1),
        ("box", [float("nan"), 0.0]),
        ("box", [0.0, float("inf")]),
        ("box", [0.0]),
        ("box", ["a", "b"]),
        ("box", [None, 0.0]),
        ("box", {"steer": 1}),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_wrong_action_is_refused_by_an_error_that_shows_it(kind: str, wrong: object):
    with pytest.raises(InputError) as caught:
        MAPS[kind].encode(wrong)
    assert repr(wrong) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_wrong_action_among_many_is_refused():
    with pytest.raises(InputError, match="out of range; expected discrete 0..2"):
        MAPS["discrete"].encode([0, 1, 3, 2], 4)
    with pytest.raises(InputError, match="shape"):
        MAPS["discrete"].encode([0, 1, 2], 4)


def test_integers_of_any_dtype_are_taken():
    actions = MAPS["discrete"]
    for dtype in (np.int8, np.uint8, np.int32, np.uint64, np.float32, bool):
        np.testing.assert_array_equal(actions.encode(np.array([1, 0], dtype), 2), [[1], [0]])
    assert actions.encode(np.int32(2)) == 2


def test_box_values_are_kept_within_their_bounds():
    np.testing.assert_allclose(MAPS["box"].encode([-5.0, 9.0]), [-1.0, 2.0, 0.0])


def test_most_held_keys_win():
    actions = ActionMap.discrete(
        ["idle", "left", "fire", "left and fire"], [(), ("left",), ("space",), ("left", "space")]
    )
    assert actions.from_keys([]) == 0
    assert actions.from_keys(["left"]) == 1
    assert actions.from_keys({"space", "q"}) == 2
    assert actions.from_keys(["space", "left"]) == 3
    assert actions.from_keys(["q"]) == 0


def test_keys_may_be_plain_words_in_json():
    raw = {"kind": "discrete", "sizes": [3], "keys": ["left", "", ["left", "space"]]}
    assert ActionMap.from_json(raw).keys == (("left",), (), ("left", "space"))


def test_names_alone_are_a_list_of_actions():
    actions = ActionMap.from_json({"names": ["stay", "left"], "keys": ["", "left"]})
    assert actions == ActionMap.discrete(["stay", "left"], [(), ("left",)])
    with pytest.raises(InputError, match="'kind': 'multi_binary'.* has no 'sizes'"):
        ActionMap.from_json({"kind": "multi_binary", "names": ["fire"]})


def test_idle_need_not_come_first():
    actions = ActionMap.discrete(["left", "idle"], [("left",), ()])
    assert actions.from_keys([]) == 1
    assert actions.from_keys(["left"]) == 0


def test_without_an_idle_action_no_key_is_action_zero():
    actions = ActionMap.discrete(["left", "right"], [("left",), ("right",)])
    assert actions.from_keys([]) == 0
    assert actions.from_keys(["right"]) == 1


def test_buttons_are_pressed_together():
    actions = MAPS["multi_binary"]
    assert actions.from_keys(["a", "space"]) == [1, 1]
    assert actions.from_keys(["left"]) == [1, 0]
    assert actions.from_keys([]) == [0, 0]


def test_keys_always_give_an_action_that_encodes(actions: ActionMap):
    for held in ([], ["left"], ["left", "space"], ["a", "q", "space"]):
        actions.encode(actions.from_keys(held))


def test_kinds_that_no_keyboard_presses_rest_within_their_bounds():
    assert ActionMap("box", (0,), low=(0.5,), high=(1.0,)).from_keys(["left"]) == [0.5]
    assert MAPS["multi_discrete"].from_keys(["left"]) == [0, 0, 0]


def test_saved_is_loaded(actions: ActionMap):
    assert ActionMap.from_json(json.loads(json.dumps(actions.to_json()))) == actions


def test_infinite_bounds_survive_json():
    actions = ActionMap("box", (0,), low=(-np.inf,), high=(np.inf,))
    assert ActionMap.from_json(json.loads(json.dumps(actions.to_json()))) == actions


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"kind": "discrete"},
        {"kind": "discrete", "sizes": "many"},
        {"kind": "discrete", "sizes": [3], "names": ["a"]},
        {"kind": "discrete", "sizes": [0]},
        {"kind": "discrete", "sizes": [2, 2]},
        {"kind": "discrete", "sizes": []},
        {"kind": "discrete", "sizes": [2], "keys": [["left"]]},
        {"kind": "multi_discrete", "sizes": [3, 0]},
        {"kind": "multi_binary", "sizes": [2, 3]},
        {"kind": "box", "sizes": [0], "low": [0.0]},
        {"kind": "box", "sizes": [0], "low": [1.0], "high": [0.0]},
        {"kind": "box", "sizes": [0], "low": [float("nan")], "high": [1.0]},
        {"kind": "dance", "sizes": [3]},
        [1, 2],
        None,
        "discrete",
    ],
)
def test_what_is_no_action_space_is_refused(raw: object):
    with pytest.raises(InputError):
        ActionMap.from_json(raw)


def test_actions_say_what_they_are():
    assert MAPS["discrete"].name(1) == "left"
    assert MAPS["multi_binary"].name([1, 1]) == "left+fire"
    assert MAPS["multi_binary"].name([0, 0]) == "idle"
    assert MAPS["multi_discrete"].name([2, 0, 4]) == "move=2 jump=0 weapon=4"
    assert MAPS["box"].name([0.1, -0.3]) == "steer=0.1 throttle=-0.3"
