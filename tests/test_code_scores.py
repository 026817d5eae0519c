"""Scores of codes: each moves for the reason it is there."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")  # the probe

from worldgen.actions import ActionMap
from worldgen.training.code_scores import (
    action_classes,
    agreement,
    code_usage,
    counts_of,
    fit_button_map,
    linear_probe,
    mean_recall,
    nmi,
)

RNG = np.random.default_rng(0)
ACTIONS = RNG.integers(0, 4, 4000)
NAMES = ["idle", "left", "right", "jump"]
IS_LEARNED = np.arange(4000) < 2000


def scores(codes: np.ndarray, num_codes: int = 8, latents: np.ndarray | None = None) -> dict:
    return agreement(codes, ACTIONS, IS_LEARNED, num_codes, NAMES, latents)


def noisy(codes: np.ndarray, share: float, num_codes: int) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.where(rng.random(len(codes)) < share, rng.integers(0, num_codes, len(codes)), codes)


def test_codes_that_are_the_actions_under_other_names_agree_wholly():
    found = scores(np.array([3, 1, 0, 2])[ACTIONS], 4)
    assert found["nmi"] == pytest.approx(1, abs=1e-6) and found["accuracy"] == 1 and found["consistency"] == 1
    assert found["meaning"]["3"] == {"action": "idle", "share": 1.0}
    assert found["chance"] == 0.25


def test_several_codes_for_one_action_cost_mutual_information_but_no_accuracy():
    found = scores(2 * ACTIONS + RNG.integers(0, 2, 4000))
    assert found["accuracy"] == 1 and found["consistency"] == 1
    assert found["nmi"] == pytest.approx(np.sqrt(2 / 3), abs=0.01)


def test_one_code_for_two_actions_costs_one_of_them():
    found = scores(np.array([0, 1, 2, 2])[ACTIONS], 3)
    assert found["accuracy"] == 0.75 and 0.5 < found["nmi"] < 0.95
    assert found["consistency"] == pytest.approx(2.5 / 3, abs=0.02)


def test_noise_lowers_every_score_and_noise_alone_is_chance():
    clean, half, none = (scores(noisy(2 * ACTIONS, share, 8)) for share in (0, 0.5, 1))
    for key in ("nmi", "accuracy", "consistency"):
        assert clean[key] > half[key] + 0.1 > none[key] + 0.2
    assert none["nmi"] < 0.01 and none["accuracy"] == pytest.approx(0.25, abs=0.04)


def test_a_frequent_action_does_not_make_a_useless_code_good():
    actions = np.where(RNG.random(4000) < 0.9, 0, ACTIONS)
    found = agreement(np.zeros(4000, np.int64), actions, IS_LEARNED, 1, NAMES)
    assert found["accuracy"] == 0.25 and found["nmi"] == 0


def test_the_probe_reads_what_rounding_lost():
    latents = np.eye(4)[ACTIONS] + 0.1 * RNG.standard_normal((4000, 4))
    found = scores((latents[:, 0] > 0.5).astype(np.int64), 2, latents)
    assert found["probe"] > 0.99 and found["accuracy"] == 0.5
    assert mean_recall(linear_probe(latents, RNG.permutation(ACTIONS), latents, 4), ACTIONS) < 0.4


def test_usage_counts_the_codes_in_use():
    even, one = code_usage(np.arange(800) % 8, 8), code_usage(np.full(10, 3), 8)
    assert even["perplexity"] == pytest.approx(8) and even["unused"] == []
    assert one["perplexity"] == pytest.approx(1) and one["unused"] == [0, 1, 2, 4, 5, 6, 7] and one["usage"][3] == 1


def test_mutual_information_of_independent_things_is_zero():
    assert nmi(np.outer([1, 2, 3], [4, 5])) == pytest.approx(0, abs=1e-9)
    assert nmi(counts_of(np.array([0, 0]), np.array([1, 1]), 2, 2)) == 0


def test_a_button_map_knows_several_codes_a_button_and_idle():
    buttons = RNG.integers(0, 3, 200)  # idle, left, right; nobody jumps
    codes = np.array([5, 1, 2])[buttons]
    codes = np.where((buttons == 0) & (RNG.random(200) < 0.3), 0, codes)
    fitted = fit_button_map(codes, buttons, 8, 4)
    assert fitted.codes_of[:3] == ((5, 0), (1,), (2,)) and fitted.labels == 200
    assert fitted.button_of[[0, 5, 1, 2]].tolist() == [0, 0, 1, 2]


def test_a_button_without_a_code_of_its_own_gets_the_one_it_comes_with():
    buttons = np.array([0] * 50 + [1] * 50 + [2] * 20)
    codes = np.array([0] * 50 + [1] * 50 + [1] * 12 + [0] * 8)
    fitted = fit_button_map(codes, buttons, 2, 3)
    assert fitted.codes_of[2] == (1,) and 2 not in fitted.button_of[[0, 1]]


def test_buttons_pressed_together_become_kinds_of_action_with_their_keys():
    pads = ActionMap("multi_binary", (2, 2), ("left", "fire"), (("left",), ("space", "x")))
    labels, kinds = action_classes(np.array([[0, 0], [1, 0], [1, 1], [1, 0]]), pads)
    assert labels.tolist() == [0, 1, 2, 1] and kinds.names == ("idle", "left", "left+fire")
    assert kinds.keys == ((), ("left",), ("left", "space"))
    sticks = ActionMap("box", (0,), low=(-1.0,), high=(1.0,))
    assert action_classes(np.zeros((3, 2)), sticks) == "the recorded actions are continuous"
