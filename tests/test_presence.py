"""Whether the game's things are there: seen in true frames, missed where they fade."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from worldgen.config import WorldConfig
from worldgen.envs.catalogue import make_game
from worldgen.envs.policies import make_policy
from worldgen.envs.record import record_episode
from worldgen.envs.toy_game import ACTIONS, ToyGame
from worldgen.training import presence, presence_reader
from worldgen.training.findings import presence_findings
from worldgen.training.held_out import HeldOut, open_held_out
from worldgen.training.presence import presence_figures
from worldgen.training.replay import Replay
from worldgen.training.rollout import PROMPT

STEPS, SIDE, FPS = 16, 64, 15


@pytest.fixture(scope="module")
def toys(tmp_path_factory) -> HeldOut:
    folder = tmp_path_factory.mktemp("toygame")
    game = ToyGame(fps=FPS)
    for i in range(4):
        record_episode(game, make_policy("mix", game), folder / f"toy{i}.mkv", seed=3, index=i, limit=90)
    config = WorldConfig("toy", SIDE, SIDE, FPS, ACTIONS, context=4)
    return open_held_out(tmp_path_factory.mktemp("nowhere"), config, folder, lambda text: None)


@pytest.fixture(scope="module")
def starts(toys: HeldOut) -> np.ndarray:
    return toys.clips(8, PROMPT + STEPS)


@pytest.fixture(scope="module")
def perfect(toys: HeldOut, starts: np.ndarray) -> Replay:
    rows = starts[:, None] + np.arange(PROMPT + STEPS)
    frames = toys.frames(rows)
    last, real = frames[:, PROMPT - 1], frames[:, PROMPT:]
    return Replay(
        last=last, shown=last, real=real, made=real, restored=real, restored_last=last,
        actions=toys.actions[rows][:, PROMPT - 1 : -1], episode=toys.episode_of(starts),
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def short_training():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presence_reader, "STEPS", 80)
        yield


def figures_of(toys: HeldOut, starts: np.ndarray, played: Replay) -> dict:
    figures = presence_figures(toys, Path(toys.facts["path"]), starts, played, make_game)
    assert isinstance(figures, dict), figures
    return figures


def test_what_is_there_is_seen_and_what_fades_is_not(toys, starts, perfect):
    there = figures_of(toys, starts, perfect)
    assert set(there) == set(presence.KEYS) and set(there["things"]["player"]) == set(presence.THING_KEYS)
    assert "ground" not in there["things"]  # scenery
    horizons = there["things"]["player"]["horizons"]
    assert set(horizons) == {"1", "4", "16"} and set(horizons["1"]) == set(presence.HORIZON_KEYS)
    for f in horizons.values():
        assert f["seen"] == f["seen_recorded"] == f["seen_codec"] > 0.8 and f["kept"] == 1

    made = perfect.real.copy()  # from the fourth frame on there is nothing but one colour
    made[:, 4:] = perfect.real.mean((0, 1, 2, 3)).astype(np.uint8)
    faded = figures_of(toys, starts, replace(perfect, made=made))["things"]["player"]["horizons"]
    assert faded["4"] == horizons["4"]
    assert faded["16"]["seen"] == faded["16"]["kept"] == 0 and faded["16"]["seen_recorded"] > 0.8


def test_a_game_without_masks_is_no_reason_to_stop(toys, starts, perfect):
    class Bare:
        def __init__(self, game: ToyGame):
            self.reset, self.step, self.close = (getattr(game, name) for name in ("reset", "step", "close"))

    said = presence_figures(toys, Path(toys.facts["path"]), starts, perfect, lambda source, fps: Bare(ToyGame(fps)))
    assert isinstance(said, str) and "does not say which pixels are what" in said


def test_the_finding_names_both_sides():
    horizons = {"1": {"seen": 0.17, "seen_recorded": 0.25}, "4": {"seen": 0.0, "seen_recorded": 0.31}}
    (said,) = presence_findings({"things": {"monster": {"f1": 0.8, "horizons": horizons}}})
    assert said.startswith("Monster seen in 17% of frames up to 1 (25%), 0% of frames up to 4 (31%)")
