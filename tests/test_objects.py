"""Objects in generated frames: found where they are, missed where they dissolve, late where they are late."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_games import SIDE, perfect_replay, record_toys

from worldgen.envs.catalogue import make_game
from worldgen.training import kinematics, objects
from worldgen.training.held_out import HeldOut
from worldgen.training.kinematics import scroll
from worldgen.training.objects import object_figures
from worldgen.training.replay import Replay
from worldgen.training.rollout import PROMPT
from worldgen.training.templates import Templates, centres, instances

STEPS = 12


@pytest.fixture(scope="module")
def toys(tmp_path_factory) -> HeldOut:
    """Real ToyGame recordings, seen at half their size."""
    return record_toys(tmp_path_factory.mktemp("toygame"), 5, seed=3, limit=90)


@pytest.fixture(scope="module")
def perfect(toys: HeldOut) -> Replay:
    return perfect_replay(toys, toys.clips(6, PROMPT + STEPS), STEPS)


def figures_of(toys: HeldOut, played: Replay) -> dict:
    starts = toys.clips(6, PROMPT + STEPS)
    return object_figures(toys, Path(toys.facts["path"]), starts, played, make_game)


@pytest.fixture(scope="module")
def of_perfect(toys: HeldOut, perfect: Replay) -> dict:
    return figures_of(toys, perfect)


def test_true_frames_show_the_player_where_it_is(of_perfect):
    player, steps = of_perfect["things"]["player"], of_perfect["kinematics"]
    assert set(of_perfect) == set(objects.KEYS) and set(player) == set(objects.THING_KEYS)
    assert set(steps) == set(kinematics.KEYS)
    assert of_perfect["clips"] == 6 and of_perfect["width"] == SIDE and player["visible"] == 6 * STEPS
    assert player["found"] > 0.85 and player["iou"] > 0.8 and player["invented"] < 0.05
    assert player["distance"] < 0.5 * player["distance_of_copy"] and player["iou"] > player["iou_of_copy"] + 0.2
    assert steps["step_error"] < 0.7 < steps["step_error_of_copy"] and steps["possible"] > 0.9
    assert steps["speed_ratio"] == pytest.approx(1, abs=0.15)
    assert "ground" not in of_perfect["things"]  # scenery


def test_a_frozen_picture_loses_the_player(toys, perfect, of_perfect):
    frozen = figures_of(toys, replace(perfect, made=np.broadcast_to(perfect.last[:, None], perfect.real.shape)))
    player, steps = frozen["things"]["player"], frozen["kinematics"]
    assert player["iou"] < of_perfect["things"]["player"]["iou"] - 0.2
    assert player["iou"] == pytest.approx(player["iou_of_copy"], abs=0.1)
    assert steps["speed_ratio"] < 0.05 and steps["step_error"] > 2 * steps["step_error_recorded"]


def test_a_clip_that_is_one_frame_late_is_caught(toys, perfect, of_perfect):
    late = np.concatenate([perfect.last[:, None], perfect.real[:, :-1]], axis=1)
    figures = figures_of(toys, replace(perfect, made=late))
    assert figures["things"]["player"]["iou"] < of_perfect["things"]["player"]["iou"] - 0.1
    assert figures["kinematics"]["step_error"] > 1.5 * of_perfect["kinematics"]["step_error"]
    assert figures["kinematics"]["speed_ratio"] == pytest.approx(1, abs=0.25)  # it moves as much, at another time


def test_a_player_that_dissolves_is_not_found(toys, perfect):
    grey = np.full_like(perfect.real, 120)
    dissolved = (0.35 * perfect.real + 0.65 * grey).astype(np.uint8)
    assert figures_of(toys, replace(perfect, made=dissolved))["things"]["player"]["found"] < 0.1


def test_what_is_missing_is_said(toys, perfect):
    data, starts = Path(toys.facts["path"]), toys.clips(6, PROMPT + STEPS)
    silent = type("Silent", (), {"close": lambda self: None})
    assert "does not say which pixels" in object_figures(toys, data, starts, perfect, lambda s, f: silent())
    unknown = replace(toys, facts=toys.facts | {"actions": "latent"})
    assert "no recorded actions" in object_figures(unknown, data, starts, perfect, make_game)


def test_templates_find_what_they_were_cut_from():
    rng = np.random.default_rng(0)
    floor = rng.integers(90, 110, (40, 50, 3), dtype=np.uint8)
    sprite = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)

    def picture(*places) -> tuple[np.ndarray, np.ndarray]:
        frame, mask = floor.copy(), np.zeros((40, 50), bool)
        for y, x in places:
            frame[y : y + 5, x : x + 4], mask[y : y + 5, x : x + 4] = sprite, True
        return frame, mask

    frames, masks = zip(*(picture((3, 4)), picture((20, 30), (8, 12))), strict=True)
    templates = Templates.cut(np.stack(frames), np.stack(masks), rng)
    assert len(templates.masks) == 1  # one look
    frame, mask = picture((30, 40), (10, 20))
    found = templates.find(frame, limit=1.0, most=8)
    assert sorted(tuple(f.centre) for f in found) == [(12.0, 21.5), (32.0, 41.5)]
    assert (templates.paint(found, 40, 50) == mask).all()
    assert templates.find(floor, limit=5.0, most=8) == []
    touching = picture((0, 0))  # cut off by the edge: it is not known what is missing
    assert Templates.cut(touching[0][None], touching[1][None], rng) is None


def test_instances_are_connected_parts():
    mask = np.zeros((8, 8), bool)
    mask[1:3, 1:3] = mask[5, 2:7] = True
    assert sorted(int(part.sum()) for part in instances(mask)) == [4, 5]
    assert [tuple(c) for c in centres(mask)] == [(1.5, 1.5), (5.0, 4.0)] or len(centres(mask)) == 2
    assert len(instances(np.eye(3, dtype=bool))) == 3 and centres(np.zeros((4, 4), bool)).shape == (0, 2)


def test_scroll_of_a_known_shift():
    ground = np.random.default_rng(0).integers(0, 256, (20, 80, 3)).astype(np.float32)
    ground = (ground[:, :-1] + ground[:, 1:]) / 2  # half a pixel is worth something
    view = lambda x: ground[:, x : x + 60].astype(np.uint8)  # noqa: E731
    assert scroll(view(6), view(9)) == pytest.approx(3, abs=0.3)
    assert scroll(view(9), view(6)) == pytest.approx(-3, abs=0.3)
    assert scroll(view(6), view(6)) == pytest.approx(0, abs=0.1)
    assert scroll(np.zeros((20, 60, 3), np.uint8), np.zeros((20, 60, 3), np.uint8)) == 0
