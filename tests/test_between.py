"""In-between frames: the network, and what it learns of things that move."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import toy_frame

from worldgen.data.cache import open_cache
from worldgen.data.dataset import ClipSampler, split_episodes

torch = pytest.importorskip("torch")

from worldgen.models.between import Between, warp  # noqa: E402
from worldgen.models.tokenizer import Tokenizer, to_float, to_uint8  # noqa: E402
from worldgen.training.between import BetweenStage, between_loss, motion  # noqa: E402
from worldgen.training.tokens import restored, tokenize  # noqa: E402


def moving(rng: np.random.Generator, count: int) -> np.ndarray:
    """Squares that move on as they came: (count, 3, 16, 16, 3) uint8"""
    clips = []
    for seed in range(count):
        place, step = rng.integers(4, 9, 2), rng.integers(-2, 3, 2) * np.array([2, 2])
        clips.append([toy_frame(place + k * step, seed) for k in (-1, 0, 1)])
    return np.array(clips)


def test_it_finds_how_a_picture_moved_before_it_has_learned_anything():
    picture = torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before, after = picture[..., 4:36, 8:40], picture[..., 8:40, 4:36]  # all goes 4 up and 4 to the right
    flow, found = Between().match(before, after)
    assert flow.shape == (1, 2, 16, 16) and found.shape == (1, 7, 16, 16)
    inside = flow[0, :, 4:-4, 4:-4].detach()
    np.testing.assert_allclose(inside[0], 2, atol=0.2)
    np.testing.assert_allclose(inside[1], -2, atol=0.2)
    assert sum(p.numel() for p in Between().parameters()) < 100_000


def test_a_flow_says_where_each_pixel_comes_from():
    frame = torch.rand(1, 3, 8, 12)
    flow = torch.zeros(1, 2, 8, 12)
    flow[:, 0], flow[:, 1] = 2, -1  # from two to the right, one above
    np.testing.assert_allclose(warp(frame, flow)[..., 1:, :-2], frame[..., :-1, 2:], atol=1e-5)
    np.testing.assert_allclose(warp(frame, flow)[..., 0, :-2], frame[..., 0, 2:], atol=1e-5)  # the edge goes on


def test_it_learns_where_things_are_half_way():
    torch.manual_seed(0)
    rng, network = np.random.default_rng(0), Between(channels=16, num_layers=2)
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    for _ in range(120):
        loss, _ = between_loss(network, to_float(torch.from_numpy(moving(rng, 12))))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        loss, blend = between_loss(network, to_float(torch.from_numpy(moving(np.random.default_rng(1), 64))))
    assert loss < 0.8 * blend


def test_motion_is_what_changes_from_the_first_frame_to_the_last():
    clips = np.stack([np.zeros((3, 2, 2, 3), np.uint8)] * 2)
    clips[1, 2] = 5
    clips[0, 1] = 99  # in the middle only
    assert motion(clips).tolist() == [0, 5]


def test_half_of_a_batch_is_what_the_tokenizer_makes_of_clips_whole_episodes_through(toy_recordings, tmp_path):
    cache = open_cache(toy_recordings, height=16, width=16)
    torch.manual_seed(0)
    tokenizer = Tokenizer(height=16, width=16, token_dim=8, channels=[8, 16])
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    tokens = tokenize(cache, tokenizer, tmp_path, say=lambda text: None)
    with torch.no_grad():
        episode, _ = tokenizer.decode(torch.from_numpy(tokens[:20].astype(np.float32))[None], tokenizer.empty_state(1))
    rows = np.array([0, 1, 12, 3])
    clips = restored(tokenizer, tokens, cache, rows, 3)
    for row, clip in zip(rows, clips, strict=True):
        np.testing.assert_allclose(clip, to_uint8(episode[0, row : row + 3]), atol=1)
    train, validation = (ClipSampler(cache, s, 3, with_sound=False) for s in split_episodes(cache))
    stage = BetweenStage(Between(channels=8, num_layers=1), tokenizer, tokens, train, validation, batch=4)
    first, again = (stage.batch(np.random.default_rng(5))["frames"] for _ in range(2))
    assert first.shape == (4, 3, 16, 16, 3) and torch.equal(first, again)
    assert not (first[:2] == 128).any() and (first[2:] == 128).any()  # grey is what an untrained decoder gives
    figures, sheet = stage.validate(stage.network)
    assert abs(figures["over_blend_recorded"]) < 1 and sheet.dtype == np.uint8
