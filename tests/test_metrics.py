"""Figures on frames: known values, and each moves for the reason it is there for."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import blurred

from worldgen.training import picture
from worldgen.training.interval import Resampling, interval
from worldgen.training.metrics import (
    blockiness,
    changed_pixels,
    decibels,
    gradient_energy,
    mean_squared_error,
    psnr,
    squared_errors,
    ssim,
)
from worldgen.training.replay import Replay

B, T, SIDE = 6, 4, 16


@pytest.fixture
def frames() -> np.ndarray:
    """(B, T, h, w, 3) uint8: a square that moves over a textured floor"""
    rng = np.random.default_rng(0)
    floor = rng.integers(60, 120, (B, 1, SIDE, SIDE, 3), dtype=np.uint8)
    out = np.broadcast_to(floor, (B, T + 1, SIDE, SIDE, 3)).copy()
    for t in range(T + 1):
        out[:, t, 4:8, 2 * t : 2 * t + 4] = 230
    return out


def replay_of(frames: np.ndarray, made: np.ndarray | None = None, restored: np.ndarray | None = None) -> Replay:
    """The first frame is the prompt's last."""
    real = frames[:, 1:]
    return Replay(
        last=frames[:, 0],
        shown=frames[:, 0],
        real=real,
        made=real if made is None else made,
        restored=real if restored is None else restored,
        restored_last=frames[:, 0],
        actions=np.zeros((B, T, 1), np.int64),
        episode=np.arange(B) // 2,
    )


def test_psnr_of_a_known_error():
    a = np.full((2, 8, 8, 3), 100, np.uint8)
    assert psnr(a, a + 10) == pytest.approx(10 * np.log10(255**2 / 100))
    assert psnr(a, a) == 100


def test_psnr_averages_errors_and_not_decibels():
    a = np.zeros((2, 8, 8, 3), np.uint8)
    b = np.stack([a[0] + 2, a[1] + 40])
    assert psnr(a, b) == pytest.approx(decibels((4 + 1600) / 2))
    errors, counts = squared_errors(a, b)
    assert decibels(errors.sum() / counts.sum()) == pytest.approx(psnr(a, b))


def test_psnr_of_a_mask_counts_its_pixels_alone():
    a, b = np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 8, 8, 3), np.uint8)
    b[0, 0, 0] = 50
    mask = np.zeros((1, 8, 8), bool)
    mask[0, 0, :2] = True
    assert psnr(a, b, mask) == pytest.approx(decibels(2500 / 2))
    assert np.isnan(mean_squared_error(a, b, np.zeros_like(mask)))


def test_ssim_agrees_with_its_definition():
    rng = np.random.default_rng(1)
    a = rng.integers(0, 256, (9, 10, 3), dtype=np.uint8)
    b = np.clip(a + rng.normal(0, 30, a.shape), 0, 255).astype(np.uint8)
    values = []
    for y in range(9 - 6):
        for x in range(10 - 6):
            for c in range(3):
                p, q = (v[y : y + 7, x : x + 7, c].astype(float).ravel() for v in (a, b))
                cov = np.cov(p, q)  # unbiased
                c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
                top = (2 * p.mean() * q.mean() + c1) * (2 * cov[0, 1] + c2)
                values.append(top / ((p.mean() ** 2 + q.mean() ** 2 + c1) * (cov[0, 0] + cov[1, 1] + c2)))
    assert ssim(a[None], b[None]) == pytest.approx(np.mean(values), abs=1e-9)
    assert ssim(a[None], a[None]) == pytest.approx(1)


def test_ssim_sees_lost_structure_where_psnr_does_not(frames):
    real = frames[:, 0]
    brighter = real + 12
    flat = np.broadcast_to(real.mean((1, 2), keepdims=True), real.shape).astype(np.uint8)
    assert ssim(brighter, real) > ssim(flat, real) + 0.3


def test_changed_pixels_ignores_what_nobody_sees():
    a = np.full((8, 8, 3), 100, np.uint8)
    b = a.copy()
    b[0, 0, 1] += 3
    b[4, 4, 2] += 20
    assert changed_pixels(b, a).sum() == 1


def test_true_frames_score_best(frames):
    figures = picture.picture_figures(replay_of(frames), [1, T])
    for f in figures.values():
        assert set(f) == set(picture.KEYS)
        assert f["psnr"] == 100 and f["psnr_changed"] == 100 and f["ssim"] == pytest.approx(1)
        assert f["skill"] > 60 and f["skill_90"][0] > 60
        assert f["gradient_energy_ratio"] == pytest.approx(1) and f["changed_pixel_ratio"] == pytest.approx(1)


def test_a_frozen_picture_is_caught(frames):
    frozen = np.broadcast_to(frames[:, :1], frames[:, 1:].shape)
    f = picture.picture_figures(replay_of(frames, made=frozen), [T])[str(T)]
    assert f["skill"] == 0 and f["skill_changed"] == 0
    assert f["changed_pixel_ratio"] == 0 and f["real_changed_pixel_rate"] > 0
    assert f["gradient_energy_ratio"] == pytest.approx(1, abs=0.2)  # it is sharp: sharpness alone would let it pass


def test_a_blurred_picture_is_caught(frames):
    blur = np.stack([np.stack([blurred(frame) for frame in clip]) for clip in frames[:, 1:]])
    f = picture.picture_figures(replay_of(frames, made=blur, restored=blur), [T])[str(T)]
    assert f["gradient_energy_ratio"] < 0.6
    assert f["reconstruction_psnr"] == f["psnr"]


def test_a_lost_object_is_caught_on_changed_pixels(frames):
    """A few pixels hardly move the PSNR of a whole frame."""
    lost = frames[:, 1:].copy()
    for t in range(T):
        lost[:, t, 4:8, 2 * t + 2 : 2 * t + 6] = frames[:, 0, 12:16, 2 * t + 2 : 2 * t + 6]
    f = picture.picture_figures(replay_of(frames, made=lost), [T])[str(T)]
    assert f["psnr_changed"] < f["psnr"] - 5


def test_where_nothing_changes_figures_of_change_do_not_exist(frames):
    still = np.broadcast_to(frames[:, :1], frames.shape)
    f = picture.picture_figures(replay_of(still), [1])["1"]
    assert np.isnan(f["psnr_changed"]) and np.isnan(f["changed_pixel_ratio"]) and f["changed_share"] == 0


def test_blocks_can_be_seen():
    rng = np.random.default_rng(0)
    noise = rng.integers(100, 140, (4, 32, 48, 3))
    x = np.arange(48) * 2 + np.arange(32)[:, None]
    smooth = np.clip(x[None, ..., None] + noise - 60, 0, 255).astype(np.uint8)
    blocks = smooth.reshape(4, 4, 8, 6, 8, 3).mean((2, 4), keepdims=True)
    compressed = (0.5 * smooth + 0.5 * np.broadcast_to(blocks, (4, 4, 8, 6, 8, 3)).reshape(smooth.shape)).astype(
        np.uint8
    )
    assert blockiness(smooth) == pytest.approx(1, abs=0.05)
    assert blockiness(compressed) > 1.2
    shifted = np.roll(compressed, 3, axis=2)  # the same jumps, away from the borders
    assert blockiness(shifted) < blockiness(compressed)
    assert np.isnan(blockiness(np.full((1, 16, 16, 3), 9, np.uint8)))


def test_gradient_energy_of_a_step():
    frame = np.zeros((1, 4, 4, 3), np.uint8)
    frame[:, :, 2:] = 30
    assert gradient_energy(frame) == pytest.approx(900 / 3)


def test_intervals_hold_the_figure_and_shrink_with_more_episodes():
    rng = np.random.default_rng(0)
    widths = []
    for episodes in (4, 64):
        errors = rng.uniform(50, 500, episodes)
        low, high = interval(Resampling(np.arange(episodes)).psnr(errors, np.ones(episodes)))
        assert low < decibels(errors.mean()) < high
        widths.append(high - low)
    assert widths[1] < widths[0]


def test_clips_of_one_episode_give_no_interval():
    assert interval(Resampling(np.zeros(5, int)).psnr(np.ones(5), np.ones(5))) is None


def test_clips_of_few_episodes_are_not_taken_for_many():
    errors = np.repeat([100.0, 400.0], 20)
    few = interval(Resampling(np.repeat([0, 1], 20)).psnr(errors, np.ones(40)))
    many = interval(Resampling(np.arange(40)).psnr(errors, np.ones(40)))
    assert few[1] - few[0] > many[1] - many[0]


def test_psnr_of_no_pixels_is_no_number():
    a = np.zeros((1, 4, 4, 3), np.uint8)
    assert np.isnan(psnr(a, a, np.zeros((1, 4, 4), bool)))
