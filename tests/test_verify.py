"""What counts as agreement between an exported graph and torch."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from worldgen.errors import RunError
from worldgen.export.precision import PRECISIONS
from worldgen.export.verify import EQUAL, float_error, psnr, step_error
from worldgen.graphs import GraphSpec, TensorSpec, frame_graph

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
    assert psnr(black, black) == EQUAL
    assert psnr(black, black + 255) == 0
    assert psnr(black, black + 1) == pytest.approx(48.13, abs=0.01)


def compared(graph: str, precision: str, *, tokens: float = 0.0, levels: int = 0) -> tuple[float, float | None]:
    """step_error of an engine whose tokens are off by this share and whose picture by so many grey levels"""
    spec = GraphSpec(graph, (), (TensorSpec("tokens", "float32", (8,)), TensorSpec("image", "uint8", (4, 4, 3))))
    want = {"tokens": np.ones((2, 8), np.float32), "image": np.full((2, 4, 4, 3), 100, np.uint8)}
    have = {"tokens": want["tokens"] * np.float32(1 + tokens), "image": want["image"] + np.uint8(levels)}
    engine = SimpleNamespace(run=lambda name, inputs: have, numpy=lambda x: x)
    return step_error(engine, spec, {}, want, PRECISIONS[precision])


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "fp8"])
def test_a_larger_picture_is_compared_in_every_precision(precision: str):
    assert compared("upscale", precision, levels=1)[1] == pytest.approx(48.13, abs=0.01)
    with pytest.raises(RunError, match=f"upscale in {precision}: image is 16.* dB from torch.*nothing was published"):
        compared("upscale", precision, levels=40)


def test_in_float32_a_picture_may_differ_by_rounding_only():
    assert compared("upscale", "fp32")[1] == EQUAL and compared("upscale", "fp32", levels=1)
    with pytest.raises(RunError, match="image differs from torch by 2 grey levels"):
        compared("upscale", "fp32", levels=2)


def test_the_errors_of_a_frames_evaluations_add_up():
    limit = PRECISIONS["fp16"].step_error
    assert compared("denoise", "fp16", tokens=0.9 * limit)[0] == pytest.approx(0.9 * limit, rel=0.01)
    for graph, most in (("denoise", 1), ("commit", 1), (frame_graph(1), 2), (frame_graph(4), 5)):
        compared(graph, "fp16", tokens=0.9 * most * limit)
        with pytest.raises(RunError, match=f"{graph} in fp16: tokens differs"):
            compared(graph, "fp16", tokens=1.1 * most * limit)
