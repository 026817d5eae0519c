"""Reading actions off frames: off a world that plays the game as well as off the game itself, off others by chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import FPS, SIDE, TOY_ACTIONS, record_toy
from oracle import OracleWorld

from worldgen.actions import ActionMap
from worldgen.config import WorldConfig
from worldgen.data.dataset import Segments
from worldgen.training import action_reader, inverse_dynamics
from worldgen.training.held_out import HeldOut, open_held_out
from worldgen.training.inverse_dynamics import balanced_accuracy, chance, inverse_dynamics_figures
from worldgen.training.replay import replay
from worldgen.training.rollout import PROMPT

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    monkeypatch.setattr(action_reader, "STEPS", 200)  # enough for this game


@pytest.fixture(scope="module")
def toys(tmp_path_factory) -> HeldOut:
    folder = tmp_path_factory.mktemp("toys")
    for i in range(16):
        record_toy(folder / f"toy{i:02}.mkv", num_frames=120, seed=i)
    config = WorldConfig("oracle", SIDE, SIDE, FPS, TOY_ACTIONS, context=4)
    held = open_held_out(tmp_path_factory.mktemp("nowhere"), config, folder, lambda text: None)
    return replace(  # as if the world had been trained on the first 12
        held,
        segments=Segments(held.segments.starts[12:], held.segments.stops[12:]),
        trained=Segments(held.segments.starts[:12], held.segments.stops[:12]),
    )


def figures_of(world, toys: HeldOut):
    starts = toys.clips(16, PROMPT + 16)
    rows = starts[:, None] + np.arange(PROMPT + 16)
    played = replay(world, toys.frames(rows), toys.actions[rows], toys.episode_of(starts), steps=16)
    return inverse_dynamics_figures(world, toys, starts, played)


def test_a_world_that_knows_the_game_is_read_like_the_game(toys):
    figures = figures_of(OracleWorld(16), toys)
    assert set(figures) == set(inverse_dynamics.KEYS)
    assert figures["accuracy_real"] > 0.75 > 2 * figures["chance"]  # against a wall no push can be seen
    assert figures["recorded_ratio"] > 0.85 and figures["random_ratio"] > 0.85
    assert figures["trained_on"] == "episodes the world was trained on"
    assert figures["per_action"]["left"]["real"] > 0.6 and figures["per_action"]["left"]["random"] > 0.6


def test_a_frozen_or_deaf_world_is_read_by_chance(toys):
    frozen = figures_of(OracleWorld(16, reads=lambda action: None), toys)
    for key in ("recorded", "random"):
        assert frozen[f"accuracy_{key}"] == pytest.approx(0.2, abs=0.05)
    assert frozen["accuracy_real"] > 0.75
    shares = frozen["per_action"].values()  # whatever is read off a still picture is right for one action at a time
    assert sum(action["random"] for action in shares) == pytest.approx(1, abs=0.25)
    assert sum(action["real"] for action in shares) > 3.5
    swapped = figures_of(OracleWorld(16, reads=lambda action: (0, 2, 1, 4, 3)[action]), toys)
    assert swapped["accuracy_random"] < 0.5 * frozen["accuracy_real"]


def test_without_the_training_episodes_half_of_the_others_are_learned_from(toys):
    everything = Segments(
        np.concatenate([toys.trained.starts, toys.segments.starts]),
        np.concatenate([toys.trained.stops, toys.segments.stops]),
    )
    figures = figures_of(OracleWorld(8), replace(toys, segments=everything, trained=Segments(*np.zeros((2, 0), int))))
    assert figures["trained_on"] == "the held-out episodes that it does not read"
    assert figures["pairs"] == 16 * 16 and figures["accuracy_real"] > 0.7


def test_what_was_learned_is_kept_for_the_next_world(toys, monkeypatch):
    figures_of(OracleWorld(16), toys)
    kept = list(toys.cache.path.glob("inverse-dynamics-*.safetensors"))
    assert kept and not list(toys.cache.path.glob(".inverse*"))
    first = figures_of(OracleWorld(16, reads=lambda action: None), toys)

    def never(*args, **kwargs):
        raise AssertionError("it was trained again")

    with monkeypatch.context() as patch:
        patch.setattr(action_reader, "train_reader", never)
        again = figures_of(OracleWorld(16, reads=lambda action: None), toys)
    assert again == first
    for path in kept:
        path.write_bytes(b"damaged")
    assert figures_of(OracleWorld(16, reads=lambda action: None), toys) == first


def test_a_key_that_does_nothing_is_read_by_chance(toys):
    deaf = figures_of(OracleWorld(16, reads=lambda action: None if action in (3, 4) else action), toys)["per_key"]
    assert set(deaf) == {"left", "right", "up", "down"}
    for key in ("left", "right"):
        assert deaf[key]["real"] > 0.75 and deaf[key]["random"] > 0.7
    for key in ("up", "down"):
        assert deaf[key]["real"] > 0.75 and deaf[key]["random"] == pytest.approx(0.5, abs=0.1)


def test_what_is_missing_is_said(toys, monkeypatch):
    world = OracleWorld(16)
    few = Segments(toys.segments.starts[:1], toys.segments.starts[:1] + 40)
    assert "too few" in figures_of(world, replace(toys, segments=few, trained=Segments(*np.zeros((2, 0), int))))
    monkeypatch.setattr(inverse_dynamics, "find_spec", lambda name: None)
    assert "worldgen[train]" in figures_of(world, toys)
    world.config = replace(world.config, actions=ActionMap("box", (0,), ("x",), low=(-1.0,), high=(1.0,)))
    assert "continuous" in inverse_dynamics.why_not(world, toys)


def test_frequent_actions_do_not_count_for_more():
    actions = np.array([0, 0, 0, 0, 0, 0, 1, 2])[:, None]
    assert balanced_accuracy(np.zeros_like(actions), actions, [3]) == pytest.approx(1 / 3) == chance(actions, [3])
    buttons = np.array([[0, 0], [1, 0], [1, 0], [0, 0]])
    assert chance(buttons, [2, 2]) == pytest.approx(0.75)  # the second is never pressed: always right
