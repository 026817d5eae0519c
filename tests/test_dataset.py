"""Splits keep recordings apart; clips are whole, aligned, uniform and the same for the same generator."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from recordings import number_of, record, write_video

from worldgen.data.cache import Cache, open_cache
from worldgen.data.dataset import ClipSampler, all_segments, repeated_ends, split_episodes
from worldgen.errors import InputError


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Cache:
    """Episodes of 20, 30, 40, 10 and 50 frames whose frames are numbered through."""
    folder, first = tmp_path_factory.mktemp("recordings"), 0
    for e, n in enumerate((20, 30, 40, 10, 50)):
        record(folder / f"e{e}.mkv", n, first=first, sample_rate=24000)
        first += n
    return open_cache(folder, height=24, width=32, sample_rate=24000, cache_dir=tmp_path_factory.mktemp("cache"))


def relabelled(cache: Cache, lengths: list[int], **changes) -> Cache:
    """The same frames cut into other episodes."""
    starts = np.append(0, np.cumsum(lengths))
    names = tuple(f"e{e}.mkv" for e in range(len(lengths)))
    facts = {"starts": starts, "episode_names": names, "episode_files": np.arange(len(lengths))}
    return dataclasses.replace(cache, **(facts | changes))


def test_clips_hold_what_belongs_to_their_frames(cache):
    clip = ClipSampler(cache, all_segments(cache), 8, state=["number"]).sample(np.random.default_rng(0), 32)
    assert clip.frames.shape == (32, 8, 24, 32, 3) and clip.actions.shape == (32, 8, 1)
    index = clip.start[:, None] + np.arange(8)
    numbers = np.array([[number_of(frame) for frame in frames] for frames in clip.frames])
    np.testing.assert_array_equal(numbers, index)
    np.testing.assert_array_equal(clip.state["number"], index)
    np.testing.assert_array_equal(clip.sound[:, :, 0, 0], index)
    np.testing.assert_array_equal(clip.actions, cache.actions[index])
    np.testing.assert_array_equal(clip.reward, index - cache.starts[clip.episode][:, None])
    np.testing.assert_array_equal(clip.terminated, cache.terminated[index])


def test_clips_never_cross_episodes_and_every_position_is_equally_likely(cache):
    sampler = ClipSampler(cache, all_segments(cache), 15, with_sound=False)
    start = sampler.sample(np.random.default_rng(0), 20_000).start
    allowed = [s for a, b in zip(cache.starts[:-1], cache.starts[1:], strict=True) for s in range(a, b - 14)]
    counts = np.bincount(start, minlength=cache.num_frames)
    assert sampler.num_positions == len(allowed) == 84 and np.flatnonzero(counts).tolist() == allowed
    expected = 20_000 / 84
    assert np.abs(counts[allowed] - expected).max() < 5 * np.sqrt(expected)


def test_weights_choose_where_clips_begin(cache):
    weights = np.zeros(cache.num_frames)
    weights[[3, 25, 145]] = 1, 3, 100  # no clip of 15 fits at 145
    start = ClipSampler(cache, all_segments(cache), 15, weights=weights).sample(np.random.default_rng(0), 4000).start
    assert set(start.tolist()) == {3, 25} and 0.7 < np.mean(start == 25) < 0.8
    with pytest.raises(InputError, match="no clip has a weight"):
        ClipSampler(cache, all_segments(cache), 15, weights=np.zeros(cache.num_frames))


def test_the_same_generator_gives_the_same_clips(cache):
    sampler = ClipSampler(cache, all_segments(cache), 8)
    a, b, c = (sampler.sample(np.random.default_rng(seed), 16) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.frames, b.frames)
    np.testing.assert_array_equal(a.start, b.start)
    assert not np.array_equal(a.start, c.start)


def test_evenly_spread_clips_cover_the_segments_and_repeat(cache):
    sampler = ClipSampler(cache, all_segments(cache), 8)
    a, b = sampler.evenly(10), sampler.evenly(10)
    assert a.start.tolist() == b.start.tolist() == sorted(set(a.start.tolist())) and len(a.start) == 10
    assert a.start[0] < 20 and a.start[-1] > 110 and set(a.episode) == {0, 1, 2, 4}
    assert len(sampler.evenly(10**6).start) == sampler.num_positions


def test_clips_are_copies(cache):
    sampler = ClipSampler(cache, all_segments(cache), 4)
    clip = sampler.at(np.array([0]))
    clip.frames[:] = 0
    clip.actions[:] = 0
    assert sampler.at(np.array([0])).frames.any() and clip.frames.flags.writeable


def test_episodes_that_are_all_too_short_are_named(cache):
    with pytest.raises(InputError, match=r"60 frames.*e4\.mkv, has 50"):
        ClipSampler(cache, all_segments(cache), 60)
    with pytest.raises(InputError, match="no state column 'x'"):
        ClipSampler(cache, all_segments(cache), 4, state=["x"])


@pytest.mark.parametrize("validation", [0.01, 0.1, 0.5, 0.99])
def test_a_split_puts_whole_episodes_on_one_side(cache, validation):
    train, held = split_episodes(cache, validation, seed=3)
    whole = set(all_segments(cache))
    assert set(train) | set(held) == whole and not set(train) & set(held) and len(train) and len(held)
    assert len(held) == min(4, max(1, round(5 * validation)))


def test_a_split_is_repeatable_follows_the_seed_and_moves_little_when_recordings_are_added(cache):
    many = relabelled(cache, [3] * 50)
    more = relabelled(cache, [3] * 49 + [1, 2])

    def held(of: Cache, seed: int) -> set:
        return {start for start, _ in split_episodes(of, 0.2, seed)[1]}

    assert held(many, 0) == held(many, 0) != held(many, 1)
    assert len(held(many, 0)) == 10 and len(held(many, 0) ^ held(more, 0)) <= 3


def test_pieces_of_one_damaged_file_stay_together(cache):
    names = tuple(f"f{e // 5}.mkv#{e % 5}" for e in range(15))
    pieces = relabelled(cache, [10] * 15, episode_files=np.arange(15) // 5, episode_names=names)
    train, held = split_episodes(pieces, 0.1)
    assert (len(train), len(held)) == (10, 5) and len({start // 50 for start, _ in held}) == 1


def test_the_end_of_a_single_recording_is_held_out_behind_a_gap(cache):
    alone = relabelled(cache, [150])
    train, held = split_episodes(alone, 0.1)
    assert list(train) == [(0, 120)] and list(held) == [(135, 150)]


def test_clips_without_actions_or_sound_have_none(tmp_path):
    write_video(tmp_path / "a.mp4", np.zeros((20, 24, 32, 3), np.uint8))
    cache = open_cache(tmp_path, height=24, width=32, sample_rate=24000, cache_dir=tmp_path / "cache")
    clip = ClipSampler(cache, all_segments(cache), 4).sample(np.random.default_rng(0), 2)
    assert clip.actions is None and clip.sound is None and "no file has sound" in cache.notes


def test_sampling_keeps_up_with_training(cache):
    frames = np.zeros((cache.num_frames, 48, 64, 3), np.uint8)
    sampler = ClipSampler(dataclasses.replace(cache, frames=frames), all_segments(cache), 16, with_sound=False)
    rng = np.random.default_rng(0)
    sampler.sample(rng, 64)
    began = time.perf_counter()
    for _ in range(10):
        sampler.sample(rng, 64)
    assert 640 / (time.perf_counter() - began) > 2000  # 100,000 clips/s alone on a core; room for a busy machine


def test_an_end_after_which_the_picture_is_repeated_is_known_and_others_are_not(cache):
    frames, terminated = np.array(cache.frames), np.zeros(cache.num_frames, bool)
    terminated[[18, 48]] = True
    frames[19] = frames[18]
    known = dataclasses.replace(cache, frames=frames, terminated=terminated)
    assert np.flatnonzero(repeated_ends(known)).tolist() == [19]


def test_clips_know_where_their_segment_begins(cache):
    sampler = ClipSampler(cache, all_segments(cache, [0, 2]), 10)
    assert sampler.begins(np.array([0, 10, 50, 80])).tolist() == [0, 0, 50, 50]
