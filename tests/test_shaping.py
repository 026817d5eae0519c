"""Rewards shaped by the game's state: in recordings, in the real game, and in worlds that learned them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from oracle import OracleWorld
from toy_games import FPS, SIDE, record_toys

from worldgen.config import WorldConfig
from worldgen.data.shaping import parse_shaping, shaped_rewards, shaped_step
from worldgen.envs.game_env import GameEnv
from worldgen.envs.policies import make_policy
from worldgen.envs.record import record_episode
from worldgen.envs.toy_game import ACTIONS, ToyGame
from worldgen.errors import InputError
from worldgen.training.held_out import HeldOut, open_held_out
from worldgen.training.outcomes import outcome_figures

SHAPING = {"x": 0.5, "y": -2.0}


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> HeldOut:
    return record_toys(tmp_path_factory.mktemp("toys"), episodes=3, seed=1, limit=60)


def test_a_reward_holds_what_the_state_rises_by_in_its_step_and_nothing_across_episodes(toys: HeldOut):
    cache = toys.cache
    shaped = shaped_rewards(cache, SHAPING)
    assert shaped.dtype == np.float32
    starts = np.asarray(cache.starts)
    for begin, end in zip(starts[:-1], starts[1:], strict=True):
        for t in range(begin, end - 1):
            rises = {name: cache.state[name][t + 1] - cache.state[name][t] for name in SHAPING}
            assert shaped[t] == pytest.approx(cache.reward[t] + 0.5 * rises["x"] - 2 * rises["y"], abs=1e-4)
        assert shaped[end - 1] == cache.reward[end - 1]
    assert (np.abs(shaped - cache.reward) > 0.1).mean() > 0.1  # players walk
    np.testing.assert_array_equal(shaped_rewards(cache, {}), cache.reward)


@pytest.mark.parametrize("unknown", [np.nan, np.inf])
def test_where_the_state_is_not_known_the_reward_is_the_recorded_one(toys: HeldOut, unknown: float):
    column = np.where(np.arange(toys.cache.num_frames) == 10, unknown, toys.cache.state["x"])
    cache = replace(toys.cache, state=toys.cache.state | {"x": column})
    shaped = shaped_rewards(cache, {"x": 1.0})
    np.testing.assert_array_equal(shaped[9:11], np.asarray(cache.reward)[9:11])
    assert np.isfinite(shaped).all()
    assert (
        shaped_step({"x": unknown}, {"x": 1.0}, {"x": 5.0}) == shaped_step({"x": 1.0}, {"x": unknown}, {"x": 5.0}) == 0
    )


def test_a_real_game_gives_the_rewards_that_its_recordings_are_shaped_to(tmp_path: Path):
    """Recorded, and played again by the same actions from the same seed."""
    game = ToyGame(fps=FPS)
    record_episode(game, make_policy("mix", game), tmp_path / "toy.mkv", seed=1, index=0, limit=60)
    seed = json.loads((tmp_path / "toy.json").read_text())["seed"]
    config = WorldConfig("toy", SIDE, SIDE, FPS, ACTIONS, context=4)
    cache = open_held_out(tmp_path / "no-world", config, tmp_path, lambda text: None).cache
    expected = shaped_rewards(cache, SHAPING)[:-1]
    env = GameEnv(ToyGame(fps=FPS), SIDE, SIDE, shaping=SHAPING)
    env.reset(seed=seed)
    made = [env.step(int(action))[1] for action in np.asarray(cache.actions)[:-1, 0]]
    np.testing.assert_allclose(made, expected, atol=1e-4)
    assert np.abs(expected).max() > 1


def test_what_a_world_rewards_is_measured_against_what_it_learned(toy_recordings: Path, tmp_path: Path):
    """A world that gives the recorded reward alone is right about nothing that shapes it."""

    def measure(shaping: dict[str, float]) -> dict:
        world = OracleWorld(8)
        world.config = WorldConfig.from_json(world.config.to_json() | {"shaping": shaping})
        recordings = open_held_out(tmp_path, world.config, toy_recordings, lambda text: None)
        figures = outcome_figures(world, recordings)
        assert figures is not None and "terminated_f1" in figures
        return figures

    assert measure({})["reward_error"] < 0.01
    assert measure({"row": 0.1})["reward_error"] > 0.02
    assert "reward_error" not in measure({"fuel": 1.0})


def test_words_are_read_and_others_refused():
    assert parse_shaping(("damage_taken=-1", "kills=2.5")) == {"damage_taken": -1.0, "kills": 2.5}
    assert parse_shaping(()) == {}
    with pytest.raises(InputError, match="once.*'health=2'"):
        parse_shaping(("health=1", "health=2"))
    for words in ("health", "health=", "health=much", "=1"):
        with pytest.raises(InputError, match=f"NAME=WEIGHT.*'{words}'"):
            parse_shaping((words,))
    for words in ("health=nan", "health=inf"):
        with pytest.raises(InputError, match="weight of health.*finite"):
            parse_shaping((words,))


def test_what_is_not_recorded_cannot_shape(toys: HeldOut):
    with pytest.raises(InputError, match="the recordings have no 'fuel'.*there is.*x, y"):
        shaped_rewards(toys.cache, {"fuel": 1.0})
    env = GameEnv(ToyGame(fps=15), 64, 64, shaping={"fuel": 1.0})
    with pytest.raises(InputError, match="the game has no 'fuel'.*there is.*x, y"):
        env.reset(seed=0)
    with pytest.raises(InputError, match="weight of x.*finite"):
        GameEnv(ToyGame(fps=15), 64, 64, shaping={"x": float("inf")})


@pytest.mark.parametrize("wrong", [{"x": "far"}, {"x": True}, {"x": float("nan")}, ["x"]])
def test_a_world_says_what_is_wrong_with_its_shaping(tmp_path: Path, wrong: object):
    facts = WorldConfig("toy", 64, 64, 15, ACTIONS, context=4, shaping=SHAPING).to_json()
    assert WorldConfig.from_json(facts).shaping == SHAPING
    with pytest.raises(InputError, match="shaping"):
        WorldConfig.from_json({**facts, "shaping": wrong})
