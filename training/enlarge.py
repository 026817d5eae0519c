"""Making frames larger without learning anything: what super-resolution is compared with, in numpy."""

from __future__ import annotations

import numpy as np


def nearest(frames: np.ndarray, scale: int) -> np.ndarray:
    """(..., h, w, 3) uint8 -> (..., s*h, s*w, 3)"""
    return frames.repeat(scale, axis=-3).repeat(scale, axis=-2)


def bicubic(frames: np.ndarray, scale: int) -> np.ndarray:
    """Keys' cubic convolution (a = -1/2), pixel centres aligned, edges held:
    (..., h, w, 3) uint8 -> (..., s*h, s*w, 3)"""
    rows, columns = _cubic(frames.shape[-3], scale), _cubic(frames.shape[-2], scale)
    large = np.einsum("ph,...hwc,qw->...pqc", rows, frames.astype(np.float32), columns, optimize=True)
    return np.clip(np.rint(large), 0, 255).astype(np.uint8)


def _cubic(n: int, scale: int) -> np.ndarray:
    """(scale * n, n) float32: the weight of each pixel of a line in each larger one"""
    place = (np.arange(scale * n) + 0.5) / scale - 0.5
    weights = np.zeros((scale * n, n), np.float32)
    for offset in range(-1, 3):
        pixel = np.floor(place).astype(int) + offset
        x = np.abs(place - pixel)
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        np.add.at(weights, (np.arange(scale * n), np.clip(pixel, 0, n - 1)), np.where(x <= 1, near, far))
    return weights


def scale2x(frames: np.ndarray) -> np.ndarray:
    """Scale2x (Mazzoleni 2001), made for pixel art: (..., h, w, 3) uint8 -> (..., 2h, 2w, 3)"""
    above, below = _shift(frames, -1, -3), _shift(frames, 1, -3)
    left, right = _shift(frames, -1, -2), _shift(frames, 1, -2)

    def same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a == b).all(-1, keepdims=True)

    is_edge = ~same(above, below) & ~same(left, right)
    out = nearest(frames, 2)
    for y, x, vertical, horizontal in (
        (0, 0, above, left),
        (0, 1, above, right),
        (1, 0, below, left),
        (1, 1, below, right),
    ):
        out[..., y::2, x::2, :] = np.where(is_edge & same(vertical, horizontal), horizontal, frames)
    return out


def scale2x_twice(frames: np.ndarray, scale: int) -> np.ndarray | None:
    """Scale2x, once or twice; None where the scale is neither 2 nor 4"""
    if scale == 2:
        return scale2x(frames)
    return scale2x(scale2x(frames)) if scale == 4 else None


def _shift(frames: np.ndarray, by: int, axis: int) -> np.ndarray:
    """The neighbour `by` pixels along the axis; beyond the edge the pixel itself"""
    index = np.clip(np.arange(frames.shape[axis]) + by, 0, frames.shape[axis] - 1)
    return np.take(frames, index, axis=axis)
