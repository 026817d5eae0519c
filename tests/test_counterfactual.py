"""Counterfactuals: only a world that knows what every action does follows the real game where nobody has been."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import FPS, SIDE, TOY_ACTIONS
from oracle import OracleWorld, ToyFork

from worldgen.config import WorldConfig
from worldgen.data.shrink import shrink
from worldgen.errors import MissingExtraError
from worldgen.training import counterfactual
from worldgen.training.counterfactual import counterfactual_figures
from worldgen.training.findings import findings
from worldgen.training.held_out import HeldOut, open_held_out
from worldgen.training.metrics import psnr
from worldgen.training.rollout import PROMPT

CONFIG = WorldConfig("oracle", SIDE, SIDE, FPS, TOY_ACTIONS, context=4)


def opened(data: Path, nowhere: Path) -> HeldOut:
    return open_held_out(nowhere, CONFIG, data, lambda text: None)


@pytest.fixture(scope="module")
def toys(toy_recordings: Path, tmp_path_factory) -> HeldOut:
    return opened(toy_recordings, tmp_path_factory.mktemp("nowhere"))


def figures_of(world, toys: HeldOut, make_game=ToyFork):
    return counterfactual_figures(world, toys, Path(toys.facts["path"]), toys.clips(12, PROMPT + 16), make_game)


def test_a_world_that_knows_the_game_follows_it_anywhere(toys):
    figures = figures_of(OracleWorld(12), toys)
    assert figures["forks"] == 12 and figures["not_reproduced"] == 0
    assert set(figures) | set(figures["horizons"]["4"]) == set(counterfactual.KEYS)
    for h in ("1", "4", "16"):
        f = figures["horizons"][h]
        assert f["psnr_random"] > 28 and abs(f["random_gap"]) < 3 and f["games_left"] == 12
        assert f["psnr_random"] > f["psnr_if_actions_are_ignored"] + 5 and f["skill_random"] > 5


def test_a_world_that_has_learned_what_players_do_does_not(toys):
    """One that knows the recordings by heart: it plays what was recorded, whatever it is told."""

    class ByHeart(OracleWorld):
        def reset(self, seed, *, start, start_actions=None):
            rows = toys.clips(12, PROMPT + 16)[:, None] + np.arange(PROMPT + 16)
            self._heart, self._at = toys.actions[rows][..., 0], PROMPT - 1
            return super().reset(seed, start=start, start_actions=start_actions)

        def step(self, actions):
            recorded = self._heart[:, self._at]
            self._at += 1
            return super().step(recorded)

    f = figures_of(ByHeart(12), toys)["horizons"]["4"]
    assert f["psnr_recorded"] > 28 and f["random_gap"] > 8 and f["random_gap_90"][0] > 3
    assert f["psnr_random"] == pytest.approx(f["psnr_if_actions_are_ignored"], abs=1.5)


def test_games_that_end_leave_the_later_horizons(toys):
    figures = figures_of(OracleWorld(12), toys, lambda source, fps: ToyFork(source, fps, ends_after=30))
    assert figures["horizons"]["16"]["games_left"] < figures["horizons"]["1"]["games_left"] <= 12


def test_another_game_is_noticed(toys):
    class OtherLevels(ToyFork):
        def reset(self, seed):
            return super().reset(seed + 1)

    assert "none of 12" in figures_of(OracleWorld(12), toys, OtherLevels)


def test_what_is_missing_is_said(toys, toy_recordings, tmp_path):
    world = OracleWorld(12)

    def absent(source, fps):
        raise MissingExtraError("vizdoom", "games")

    assert "worldgen[games]" in figures_of(world, toys, absent)
    unforkable = type("Unforkable", (), {"close": lambda self: None})
    assert figures_of(world, toys, lambda source, fps: unforkable()) == "toy cannot be forked"
    assert "no recorded actions" in figures_of(world, replace(toys, facts=toys.facts | {"actions": "latent"}))
    shutil.copytree(toy_recordings, tmp_path / "data")
    for path in (tmp_path / "data").glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": None}))
    assert "do not say which game" in figures_of(world, opened(tmp_path / "data", tmp_path))


def test_pictures_shrink_as_recordings_do():
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    assert psnr(shrink(image, 12, 16), image[::4, ::4]) > 40
    assert shrink(image, 24, 40).shape == (24, 40, 3)


def test_findings_say_what_follows():
    f = {"psnr_random": 20.0, "psnr_recorded": 20.5, "random_gap": 0.5, "random_gap_90": [0.1, 0.9]}
    f |= {"psnr_if_actions_are_ignored": 15.0}

    def said(**other) -> str:
        return counterfactual_finding({"horizons": {"4": f | other}})

    assert "about as well" in said()
    assert "what players do" in said(random_gap=4.0)
    assert "did not listen" in said(psnr_if_actions_are_ignored=21.0)


def counterfactual_finding(figures: dict) -> str:
    known = {"data": {"actions": "random"}, "control": None, "outcomes": None, "fps": 10, "counterfactual": figures}
    return findings(known)[-1]
