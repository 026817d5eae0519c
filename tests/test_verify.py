"""What counts as agreement between an exported graph and torch."""

from __future__ import annotations

import numpy as np
import pytest

from worldgen.export.precision import PRECISIONS
from worldgen.export.verify import float_error, psnr

TOLERANCE = PRECISIONS["fp32"].step_error


def test_an_error_is_relative_to_its_tensor():
    want = np.full((2, 8), 0.01, np.float32)
    assert float_error(want, want * 1.001, is_number=False) == pytest.approx(1e-3, rel=1e-2)
    assert float_error(want, want, is_number=False) == 0


def test_a_probability_near_zero_need_not_agree_in_every_digit():
    """A trained world hardly ever ends: 3e-7 against 3.00005e-7 must not refuse its export."""
    want = np.array([3e-7], np.float32)
    assert float_error(want, want * 1.00002, is_number=True) < TOLERANCE


def test_a_wrong_reward_is_still_found():
    for reward in (0.0, 0.5, 100.0):
        want = np.array([reward], np.float32)
        assert float_error(want, want + 0.01 * max(1, reward), is_number=True) > TOLERANCE


def test_pictures_are_compared_in_decibels():
    black = np.zeros((2, 2, 3), np.uint8)
    assert psnr(black, black) == float("inf")
    assert psnr(black, black + 255) == 0
    assert psnr(black, black + 1) == pytest.approx(48.13, abs=0.01)
