"""The action-shuffle ratio: 1 for a dynamics that ignores actions, above it for one that uses them, on every engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import FPS, SIDE, TOY_ACTIONS
from oracle import OracleBackend

from worldgen.backends import open_backend
from worldgen.config import WorldConfig
from worldgen.training import shuffle
from worldgen.training.held_out import HeldOut, open_held_out
from worldgen.training.rollout import PROMPT
from worldgen.training.shuffle import shuffle_figures

CONFIG = WorldConfig("oracle", SIDE, SIDE, FPS, TOY_ACTIONS, context=4)


@pytest.fixture(scope="module")
def toys(toy_recordings: Path, tmp_path_factory) -> HeldOut:
    return open_held_out(tmp_path_factory.mktemp("nowhere"), CONFIG, toy_recordings, lambda text: None)


def ratio_of(backend, toys: HeldOut, actions: np.ndarray | None = None, seed: int = 0) -> dict:
    rows = toys.clips(12, PROMPT + 8)[:, None] + np.arange(PROMPT + 8)
    actions = toys.actions[rows] if actions is None else actions
    return shuffle_figures(backend, CONFIG, toys.frames(rows), actions, toys.episode_of(rows[:, 0]), seed)


def test_the_more_it_uses_actions_the_higher_it_is(toys):
    knows = ratio_of(OracleBackend(), toys)
    half_deaf = ratio_of(OracleBackend(reads=lambda action: None if action in (3, 4) else action), toys)
    deaf = ratio_of(OracleBackend(reads=lambda action: None), toys)
    swapped = ratio_of(OracleBackend(reads=lambda action: (0, 2, 1, 4, 3)[action]), toys)
    assert set(knows) == set(shuffle.KEYS)
    assert knows["action_shuffle_ratio"] > 5 and knows["action_shuffle_ratio_90"][0] > 2
    assert 1.1 < half_deaf["action_shuffle_ratio"] < knows["action_shuffle_ratio"]
    assert deaf["action_shuffle_ratio"] == 1 and deaf["action_shuffle_ratio_90"] == [1, 1]
    assert swapped["action_shuffle_ratio"] < half_deaf["action_shuffle_ratio"]  # it uses them, and wrongly


def test_only_pairs_whose_actions_differ_count(toys):
    rows = toys.clips(12, PROMPT + 8)[:, None] + np.arange(PROMPT + 8)
    same = np.ones_like(toys.actions[rows])
    nothing = ratio_of(OracleBackend(), toys, same)
    assert nothing["action_shuffle_pairs"] == 0 and np.isnan(nothing["action_shuffle_ratio"])
    assert 0 < ratio_of(OracleBackend(), toys)["action_shuffle_pairs"] < 12 * 8


def test_it_runs_on_every_engine(tiny_world, toys, backend):
    figures = ratio_of(open_backend(tiny_world, backend), toys)
    other = ratio_of(open_backend(tiny_world, "torch"), toys)
    assert 0.8 < figures["action_shuffle_ratio"] < 1.2  # untrained
    assert figures["action_shuffle_ratio"] == pytest.approx(other["action_shuffle_ratio"], abs=1e-4)
