"""Whether the game's things are there: seen in true frames, missed where they fade."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from toy_games import SIDE, perfect_replay, record_toys

from worldgen.envs.catalogue import make_game
from worldgen.envs.toy_game import ToyGame
from worldgen.training import presence
from worldgen.training.findings import presence_findings
from worldgen.training.held_out import HeldOut
from worldgen.training.presence import presence_figures
from worldgen.training.replay import Replay
from worldgen.training.rollout import PROMPT

STEPS = 16


@pytest.fixture(scope="module")
def toys(tmp_path_factory) -> HeldOut:
    return record_toys(tmp_path_factory.mktemp("toygame"), 20, seed=5, limit=26)  # all of its looks in both halves


@pytest.fixture(scope="module")
def starts(toys: HeldOut) -> np.ndarray:
    return toys.clips(12, PROMPT + STEPS)


@pytest.fixture(scope="module")
def perfect(toys: HeldOut, starts: np.ndarray) -> Replay:
    return perfect_replay(toys, starts, STEPS)


@pytest.fixture(scope="module", autouse=True)
def short_training():
    from worldgen.training import presence_reader

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(presence_reader, "STEPS", 120)
        yield


def figures_of(toys: HeldOut, starts: np.ndarray, played: Replay) -> dict:
    figures = presence_figures(toys, Path(toys.facts["path"]), starts, played, make_game)
    assert isinstance(figures, dict), figures
    return figures


def test_what_is_there_is_seen_and_what_fades_is_not(toys, starts, perfect):
    there = figures_of(toys, starts, perfect)
    player = there["things"]["player"]
    assert set(there) == set(presence.KEYS) and set(player) == set(presence.THING_KEYS)
    assert "ground" not in there["things"]  # scenery
    assert set(player["frames"]) == {"1", "2-4", "5-16"} and set(player["frames"]["1"]) == set(presence.FRAME_KEYS)
    for f in player["frames"].values():
        assert f["seen"] == f["seen_recorded"] == f["seen_codec"] > 0.8 and f["kept"] == 1

    made = perfect.real.copy()  # from the fifth frame on there is a blur
    cells = made[:, 4:].reshape(*made[:, 4:].shape[:2], SIDE // 16, 16, SIDE // 16, 16, 3).mean((3, 5), keepdims=True)
    made[:, 4:] = np.broadcast_to(cells, (*cells.shape[:3], 16, SIDE // 16, 16, 3)).reshape(made[:, 4:].shape)
    faded = figures_of(toys, starts, replace(perfect, made=made))["things"]["player"]["frames"]
    assert faded["2-4"] == player["frames"]["2-4"]
    assert faded["5-16"]["seen"] < 0.3 and faded["5-16"]["kept"] < 0.3 and faded["5-16"]["seen_recorded"] > 0.8


def test_one_episode_is_not_both_learned_from_and_judged_by(toys, starts, perfect):
    first = toys.segments.stops[0]
    alone = replace(toys, segments=type(toys.segments)(toys.segments.starts[:1], toys.segments.stops[:1]))
    said = presence_figures(alone, Path(toys.facts["path"]), starts[starts < first], perfect, make_game)
    assert said == "there is one episode alone"


def test_recordings_that_part_from_the_game_are_left_out(toys, starts, perfect):
    """A game that shows other things than were recorded, from the second frame after the prompt on"""

    class Other(ToyGame):
        def step(self, action):
            shown = super().step(action)
            self.count += 1
            return replace(shown, image=255 - shown.image) if self.count > PROMPT else shown

        def reset(self, seed):
            self.count = 0
            return super().reset(seed)

    said = presence_figures(toys, Path(toys.facts["path"]), starts, perfect, lambda source, fps: Other(fps))
    assert isinstance(said, str) or said["frames"] <= 2 * len(toys.segments.starts)


def test_a_game_without_masks_is_no_reason_to_stop(toys, starts, perfect):
    class Bare:
        def __init__(self, game: ToyGame):
            self.reset, self.step, self.close = (getattr(game, name) for name in ("reset", "step", "close"))

    said = presence_figures(toys, Path(toys.facts["path"]), starts, perfect, lambda source, fps: Bare(ToyGame(fps)))
    assert isinstance(said, str) and "does not say which pixels are what" in said


def test_the_finding_names_all_sides_and_leaves_out_what_is_rare():
    frames = {
        "1": {"seen": 0.17, "seen_recorded": 0.25, "seen_codec": 0.2},
        "2-4": {"seen": 0.0, "seen_recorded": 0.31, "seen_codec": 0.3},
    }
    rare = {"1": {"seen": 0.0, "seen_recorded": 0.04, "seen_codec": 0.04}}
    things = {"monster": {"f1": 0.8, "frames": frames}, "object": {"f1": 0.7, "frames": rare}}
    (said,) = presence_findings({"things": things})
    assert said == (
        "Monster seen in 17%, 0% of frames 1, 2-4; in the recordings in 25%, 31%, in these through the tokenizer "
        "alone in 20%, 30%."
    )
