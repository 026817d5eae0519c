"""Hidden states of recordings: computed in chunks, the same as of whole episodes."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from worldgen.bundle import load_network  # noqa: E402
from worldgen.config import WorldConfig  # noqa: E402
from worldgen.data.dataset import ClipSampler, Segments  # noqa: E402
from worldgen.training import hidden_states as module  # noqa: E402
from worldgen.training.hidden_states import (  # noqa: E402
    HiddenStates,
    committed,
    every_second,
    hidden_states,
)
from worldgen.training.sound_onsets import PlayedClips  # noqa: E402

RECORDED, PLAYED = np.array([False]), np.array([True])


def test_of_a_long_recording_some_is_kept_as_of_many_short_ones():
    short = Segments(np.arange(0, 60_000, 300), np.arange(300, 60_001, 300))
    for long in (Segments(np.array([0]), np.array([60_000])), short):
        some = module._some(long, 6000)
        assert some.num_frames == pytest.approx(6000, rel=0.1) and some.starts.max() >= 50_000
    assert module._some(short, 50_000) is short


def test_chunks_see_as_far_back_as_the_whole_episode(tiny_world, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 8)
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: False)
    dynamics = load_network(tiny_world, "dynamics").requires_grad_(False)
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((70, dynamics.num_tokens, dynamics.config.token_dim)).astype(np.float32)
    led_to = rng.integers(0, 5, (70, 1))
    segments = Segments(np.array([0, 40]), np.array([40, 70]))
    config = replace(WorldConfig.load(tiny_world / "world.json"), context_sigma=0.0)
    data = SimpleNamespace(path=tmp_path / "data", fps=4.0)
    given = (dynamics, data, tokens, led_to, config, segments, 1000, tiny_world)
    found = hidden_states(*given, tmp_path / "hidden", lambda text: None)
    for start, stop in segments:
        clip, actions = torch.from_numpy(tokens[start:stop])[None], torch.from_numpy(led_to[start:stop])[None]
        whole = committed(dynamics, clip, actions, 0.0, None)[0].numpy()
        np.testing.assert_allclose(found.at(np.arange(start, stop)[None], RECORDED)[0], whole, atol=3e-3)
    monkeypatch.setattr(module, "PIECE", 10)  # a piece of an episode sees what came before it, too
    pieces = hidden_states(*given[:-2], 35, tiny_world, tmp_path / "pieces", lambda text: None)
    assert pieces.segments.starts.tolist() == [0, 20, 40, 60]
    rows = np.arange(60, 70)[None]
    np.testing.assert_allclose(pieces.at(rows, RECORDED), found.at(rows, RECORDED), atol=3e-3)
    again = hidden_states(*given, tmp_path / "hidden", pytest.fail)  # kept
    assert (again.hidden == found.hidden).all()


def test_of_a_batch_some_clips_are_played_ones():
    hidden = np.stack([np.arange(20.0), -np.arange(20.0)]).astype(np.float16)[:, :, None, None]
    states = HiddenStates(Segments(np.array([5, 30]), np.array([15, 40])), np.array([0, 10, 20]), hidden, stretch=4)
    rows = np.array([[5, 6], [13, 14], [38, 39]])
    found = states.at(rows, every_second(3))[..., 0, 0]
    assert found.tolist() == [[0, 1], [-8, -9], [18, 19]]


def test_played_clips_are_of_one_play():
    segments = Segments(np.array([5, 30]), np.array([15, 40]))  # played in stretches of 4, 4 and 2 frames
    states = HiddenStates(segments, np.array([0, 10, 20]), np.zeros((2, 20, 1, 1), np.float16), stretch=4)
    starts = [*range(5, 13), *range(30, 38)]
    sampler = ClipSampler(SimpleNamespace(state=()), segments, 3, with_sound=False)
    assert sampler.all_starts().tolist() == starts
    allowed = [5, 6, 9, 10, 30, 31, 34, 35]
    assert states.in_one_play(sampler).all_starts().tolist() == allowed
    begins = np.zeros(40, bool)
    begins[[8, 37]] = True
    clips = PlayedClips(states, sampler, begins)
    drawn = clips.draw(np.random.default_rng(0), 4000)
    assert set(drawn[~every_second(4000)]) == set(starts)
    assert np.unique(drawn[every_second(4000)], return_counts=True)[0].tolist() == allowed
    first = drawn[:2000]  # of these each holds a beginning
    assert all(begins[a : a + 3].any() for a in first)
    assert states.in_one_play(sampler).even_starts(4).tolist() == [6, 10, 31, 35]
    assert states.in_one_play(sampler).even_starts(9).tolist() == allowed


def test_played_frames_are_those_of_a_world_that_is_given_the_same_beginning(tiny_world, tmp_path, monkeypatch):
    """The first stretch of an episode: one recorded frame, then the world's own under the same noise."""
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: False)
    dynamics = load_network(tiny_world, "dynamics").requires_grad_(False)
    config = replace(WorldConfig.load(tiny_world / "world.json"), context_sigma=0.0)
    tokens = np.random.default_rng(0).standard_normal((6, dynamics.num_tokens, dynamics.config.token_dim))
    led_to, segments = np.array([[1], [2], [3], [4], [0], [1]]), Segments(np.array([0]), np.array([6]))
    data = SimpleNamespace(path=tmp_path / "data", fps=4.0)
    given = (dynamics, data, tokens.astype(np.float32), led_to, config, segments, 1000, tiny_world, tmp_path / "hidden")
    found = hidden_states(*given, lambda text: None).at(np.arange(6)[None], PLAYED)[0]
    generator, actions = torch.Generator().manual_seed(0), led_to.copy()
    actions[0] = config.actions.null()  # nobody knows what led to the first frame
    cache, previous = torch.zeros(1, *dynamics.cache_shape), torch.zeros(1, *dynamics.previous_shape)
    finished = torch.from_numpy(tokens[:1]).float()
    for i in range(6):
        step = torch.tensor([i])
        ring = (previous, torch.zeros(1), torch.from_numpy(actions[i : i + 1]), cache, step, step)
        if i:
            finished = dynamics.sample(torch.randn(finished.shape, generator=generator), config.nfe, *ring)
        cache, previous, hidden = dynamics.commit(finished, torch.randn(finished.shape, generator=generator), *ring)
        np.testing.assert_allclose(found[i], hidden[0].numpy(), atol=3e-3)


def test_played_ones_begin_with_recorded_frames_and_follow_the_recorded_actions(tiny_world, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: False)
    dynamics = load_network(tiny_world, "dynamics").requires_grad_(False)
    with torch.no_grad():
        weight = dynamics.tokens_out.weight  # so that it plays otherwise than it was recorded
        weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((40, dynamics.num_tokens, dynamics.config.token_dim)).astype(np.float32)
    led_to = rng.integers(0, 5, (40, 1))
    segments = Segments(np.array([0, 20]), np.array([20, 40]))
    config = replace(WorldConfig.load(tiny_world / "world.json"), context_sigma=0.0)
    led_to[segments.starts] = config.actions.null()  # nobody knows what led to the first frame of an episode
    data = SimpleNamespace(path=tmp_path / "data", fps=4.0)  # so 12 frames in a row are played

    def found(led_to: np.ndarray, name: str):
        given = (dynamics, data, tokens, led_to, config, segments, 1000, tiny_world, tmp_path / name)
        return hidden_states(*given, lambda text: None)

    states, rows = found(led_to, "hidden"), np.arange(20, 40)[None]
    recorded, played = (states.at(rows, kind)[0] for kind in (RECORDED, PLAYED))
    np.testing.assert_allclose(played[0], recorded[0], atol=3e-3)  # the first frame of an episode is as recorded
    off = np.abs(played - recorded).max((1, 2))
    assert (off[1:] > 0.01).all()
    before = tokens.copy()
    tokens[21:32] = 0  # what was recorded where it plays means nothing to it
    np.testing.assert_array_equal(found(led_to, "other").at(rows[:, :12], PLAYED)[0], played[:12])
    tokens[:] = before
    led_to[25] = (led_to[25] + 1) % 5
    changed = np.abs(found(led_to, "actions").at(rows, PLAYED)[0] - played).max((1, 2)) > 0
    assert changed.tolist() == [False] * 5 + [True] * 7 + [False] * 8  # the others are of another stretch
