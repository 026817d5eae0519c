"""Noise that depends on what it is for and nothing else, and Euler steps that land where they aim."""

from __future__ import annotations

import numpy as np
import pytest

from worldgen import sampler
from worldgen.config import NFE_CHOICES

SHAPE = (4, 8)


def test_noise_of_a_slot_depends_on_its_seed_and_step_alone():
    batch = sampler.noise([5, 7, 5], [3, 3, 4], sampler.DENOISE, SHAPE)
    assert batch.shape == (3, *SHAPE) and batch.dtype == np.float32
    for i, (seed, step) in enumerate([(5, 3), (7, 3), (5, 4)]):
        np.testing.assert_array_equal(batch[i], sampler.noise([seed], [step], sampler.DENOISE, SHAPE)[0])


def test_every_seed_step_and_draw_has_its_own_noise():
    draws = (sampler.START, sampler.DENOISE, sampler.COMMIT)
    rows = [
        sampler.noise([seed], [step], draw, SHAPE).tobytes()
        for seed in (0, 1, 2**32, 2**63 - 1)
        for step in (0, 1, 2, 2**32, 2**40)
        for draw in draws
    ]
    assert len(set(rows)) == len(rows) == 60


def test_neighbouring_noise_is_unrelated():
    """No stretch of one step comes again in the next: counters do not run into each other."""
    long = (4096,)
    a, b = (sampler.noise([0], [step], sampler.DENOISE, long)[0] for step in (0, 1))
    assert len(set(a.tolist()) & set(b.tolist())) < 10
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.1


def test_noise_is_standard_normal():
    x = sampler.noise(range(8), [0] * 8, sampler.COMMIT, (64, 64))
    assert abs(x.mean()) < 0.02 and abs(x.std() - 1) < 0.02


def test_noise_is_the_same_on_every_machine_and_day():
    """A replay from another machine plays the same game: these numbers may never change."""
    known = [[-0.4165687561, -0.1307038516, 0.3296267688], [0.6385046840, -0.1576024443, 0.6212035418]]
    np.testing.assert_allclose(sampler.noise([0, 123], [1, 45], sampler.DENOISE, (3,)), known, rtol=1e-6)


@pytest.mark.parametrize("nfe", NFE_CHOICES)
def test_noise_levels_fall_evenly_from_one(nfe: int):
    levels = sampler.sigmas(nfe)
    assert len(levels) == nfe and levels[0] == 1
    np.testing.assert_allclose(-np.diff([*levels, 0]), 1 / nfe)


@pytest.mark.parametrize("nfe", NFE_CHOICES)
def test_steps_towards_the_true_tokens_land_on_them(nfe: int):
    clean = sampler.noise([1], [0], 0, SHAPE)
    noise = sampler.noise([2], [0], 0, SHAPE)
    x = noise
    for sigma in sampler.sigmas(nfe):
        np.testing.assert_allclose(x, (1 - sigma) * clean + sigma * noise, atol=1e-6)  # along the straight path
        x = sampler.euler_step(x, clean, sigma, 1 / nfe)
        assert x.dtype == np.float32
    np.testing.assert_array_equal(x, clean)


def test_a_step_leaves_its_inputs_as_they_were():
    clean, noisy = np.zeros(SHAPE, np.float32), np.ones(SHAPE, np.float32)
    sampler.euler_step(noisy, clean, 1.0, 0.5)
    assert (noisy == 1).all() and (clean == 0).all()
