"""Long games and distributions: a perfect world is as near to the game as the game is to itself; known failures are
caught, each by the figure that is there for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import FPS, SIDE, TOY_ACTIONS, record_toy
from oracle import MeltingWorld, OracleWorld, blurred

from worldgen.config import WorldConfig
from worldgen.training import distribution, stability
from worldgen.training.distribution import distribution_figures
from worldgen.training.features import Embedding, Kinds, describe, describe_changes, frechet_distance, kernel_distance
from worldgen.training.held_out import HeldOut, open_held_out
from worldgen.training.replay import replay
from worldgen.training.rollout import PROMPT
from worldgen.training.stability import group_size, held_actions_at_random, stability_figures


@pytest.fixture(scope="module")
def toys(tmp_path_factory) -> HeldOut:
    """More episodes than elsewhere: what real frames are apart is to be known well."""
    folder = tmp_path_factory.mktemp("toys")
    for i in range(16):
        record_toy(folder / f"toy{i}.mkv", seed=i)
    config = WorldConfig("oracle", SIDE, SIDE, FPS, TOY_ACTIONS, context=4)
    return open_held_out(tmp_path_factory.mktemp("nowhere"), config, folder, lambda text: None)


def long_game(world, toys: HeldOut) -> dict:
    return stability_figures(world, toys, frames=120)[0]


def test_a_world_that_knows_the_game_is_still_the_game(toys):
    figures = long_game(OracleWorld(group_size(toys)), toys)
    assert 0.3 < figures["kernel_ratio"] < 2 and max(figures["real_kernel_ratio_range"]) < 2
    assert figures["changed_pixel_ratio"] == pytest.approx(1, abs=0.35)  # held keys push into walls more often
    assert figures["gradient_energy_ratio"] == pytest.approx(1, abs=0.2)
    assert figures["first_end"] is None and set(figures) <= set(stability.KEYS)
    least, most = figures["kernel_ratio_range"]
    assert figures["games"] == 16 and figures["groups"] == 4 and least < figures["kernel_ratio"] < most


def test_a_frozen_picture_is_caught_by_its_motion(toys):
    figures = long_game(OracleWorld(group_size(toys), reads=lambda action: None), toys)
    assert figures["changed_pixel_ratio"] == 0 and figures["kernel_ratio"] > 2
    assert figures["gradient_energy_ratio"] > 0.7  # each frame of it is as good as real


def test_a_melting_world_is_caught_by_distance_and_sharpness(toys):
    perfect = long_game(OracleWorld(group_size(toys)), toys)
    figures = long_game(MeltingWorld(group_size(toys)), toys)
    assert figures["kernel_ratio"] > 3 and figures["kernel_ratio"] > 3 * perfect["kernel_ratio"]
    assert figures["gradient_energy_ratio"] < 0.2
    ratios = [point["kernel_ratio"] for point in figures["over_time"]]
    assert ratios[-1] > ratios[0]


def test_a_blurred_codec_is_told_from_drift(toys):
    figures = long_game(OracleWorld(group_size(toys), paints=blurred), toys)
    assert figures["gradient_energy_ratio"] < 0.6
    assert figures["gradient_energy_ratio"] == pytest.approx(figures["reconstruction_gradient_energy_ratio"], abs=0.1)


def test_the_first_end_is_said(toys):
    assert long_game(OracleWorld(group_size(toys), ends_after=7), toys)["first_end"] == 7


def test_a_single_episode_has_nothing_to_be_compared_with(toys):
    alone = replace(toys, segments=type(toys.segments)(toys.segments.starts[:1], toys.segments.stops[:1]))
    figures = long_game(OracleWorld(group_size(alone)), alone)
    assert np.isnan(figures["real_kernel_distance"]) and np.isnan(figures["kernel_ratio"])
    assert figures["kernel_ratio_range"] is None


def test_random_actions_are_held():
    rows = held_actions_at_random(OracleWorld(2), 2, 4000, seed=0)
    changed = (np.diff(rows[..., 0], axis=1) != 0).mean()
    assert changed == pytest.approx(0.8 / (stability.HOLD_SECONDS * FPS), rel=0.1)  # a fifth draw the same again


# Distributions


def distribution_of(world, toys: HeldOut) -> dict:
    rows = toys.clips(12, PROMPT + 16)[:, None] + np.arange(PROMPT + 16)
    return distribution_figures(
        replay(world, toys.frames(rows), toys.actions[rows], toys.episode_of(rows[:, 0]), steps=16)
    )


def test_each_failure_shows_in_its_distance(toys):
    perfect = distribution_of(OracleWorld(12), toys)
    frozen = distribution_of(OracleWorld(12, reads=lambda action: None), toys)
    blur = distribution_of(OracleWorld(12, paints=blurred), toys)
    assert set(perfect) == set(distribution.KEYS)
    for key in ("frame", "clip", "change"):
        assert perfect[key] < 0.1 * perfect[f"{key}_real"]
        assert blur[key] > 5 * perfect[key]
        assert blur[key] == pytest.approx(blur[f"{key}_codec"], rel=0.3)  # nothing but its codec is wrong
    assert perfect["score"] == pytest.approx(perfect["score_real"], rel=0.1) and perfect["score_real"] > 2
    assert blur["score"] == pytest.approx(blur["score_codec"], rel=0.1)
    assert frozen["change"] > 10 * perfect["change"] and frozen["change"] > 0.3
    assert frozen["clip"] > frozen["frame"]  # single frames are as good as real


def test_one_episode_or_one_frame_leave_figures_out(toys):
    rows = toys.clips(3, PROMPT + 1)[:, None] + np.arange(PROMPT + 1)
    played = replay(OracleWorld(3), toys.frames(rows), toys.actions[rows], np.zeros(3, int), steps=1)
    figures = distribution_figures(played)
    assert figures["clip"] is None and figures["change"] is None and figures["frame_real"] is None
    assert figures["frame"] >= 0


# Features


def test_distances_of_known_distributions():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (4000, 3)), rng.normal(0, 1, (4000, 3))
    assert abs(kernel_distance(a[:500] / 2, b[:500] / 2)) < 100
    assert kernel_distance(a[:500] / 2, b[:500] / 2 + 1) > 1000
    assert frechet_distance(a, b) < 0.02
    assert frechet_distance(a, 2 * b + 1) == pytest.approx(3 * (1 + 1), rel=0.05)  # means 1 apart, deviations 1 and 2


def test_the_kernel_distance_does_not_depend_on_how_many_frames_there_are():
    rng = np.random.default_rng(0)
    few = [kernel_distance(rng.normal(0, 0.3, (20, 8)), rng.normal(0, 0.3, (300, 8))) for _ in range(200)]
    assert abs(np.mean(few)) < 3 * np.std(few) / np.sqrt(len(few))


def test_what_the_real_frames_never_show_is_not_invisible():
    rng = np.random.default_rng(0)
    line = rng.integers(0, 256, (200, 1, 1, 1)).repeat(16, 1).repeat(24, 2).repeat(3, 3).astype(np.uint8)
    embed = Embedding.fit(describe(line))
    usual = embed(describe(line))
    odd = line.copy()
    odd[:, :8] = 255 - odd[:, :8]
    assert frechet_distance(embed(describe(odd)), usual) > 10 * frechet_distance(usual[::2], usual[1::2])
    assert np.sqrt(np.square(usual).sum(1).mean()) == pytest.approx(1)


def test_the_inception_style_score_wants_clear_kinds_and_many_of_them():
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 1, (8, 5))
    real = centres[rng.integers(8, size=800)] + rng.normal(0, 0.05, (800, 5))
    kinds = Kinds.fit(real, rng)
    assert kinds.score(real) > 5
    one_kind = centres[0] + rng.normal(0, 0.05, (400, 5))  # collapsed: sharp, but always the same
    assert kinds.score(one_kind) < 2
    between = np.broadcast_to(centres.mean(0), (400, 5)) + rng.normal(0, 0.05, (400, 5))  # a mean of everything
    assert kinds.score(between) < 2
    half = real[(np.square(real[:, None] - centres).sum(-1).argmin(1) < 4)]
    assert kinds.score(one_kind) < kinds.score(half) < kinds.score(real)


def test_shapes_of_descriptions():
    clips = np.random.default_rng(0).integers(0, 256, (2, 5, 18, 25, 3), dtype=np.uint8)
    assert describe(clips).shape[:2] == (2, 5) and describe_changes(clips).shape[:2] == (2, 4)
    assert describe_changes(clips[:, :1].repeat(3, axis=1)).any() == np.False_
