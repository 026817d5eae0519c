"""Pictures and masks of a game, made small enough to look for things in them."""

from __future__ import annotations

import numpy as np

SIDE = 64  # pixels: larger pictures are made smaller first
WITHOUT_MASKS = "{} does not say which pixels are what"  # of a game


def step_to_side(height: int, width: int) -> int:
    """So many pixels a side are made one for pictures of this size: every side becomes at most SIDE"""
    return -(-max(height, width) // SIDE)


def smaller(frames: np.ndarray, step: int) -> np.ndarray:
    """(t, h, w, 3) uint8, each step x step pixels made one"""
    if step == 1:
        return frames
    height, width = (-(-side // step) for side in frames.shape[1:3])
    return _cells(frames.astype(np.float32), height, width, (1, 2)).round().astype(np.uint8)


def fit_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w) bool at another size: where more than half of what a pixel covers is set"""
    h, w = mask.shape
    if height > h or width > w:
        return mask[np.arange(height) * h // height][:, np.arange(width) * w // width]
    return _cells(mask.astype(np.float32), height, width, (0, 1)) > 0.5


def _cells(x: np.ndarray, height: int, width: int, axes: tuple[int, int]) -> np.ndarray:
    """Means of height x width equal parts along two axes"""
    for axis, count in zip(axes, (height, width), strict=True):
        edges = np.linspace(0, x.shape[axis], count + 1).astype(int)
        shape = [1] * x.ndim
        shape[axis] = -1
        x = np.add.reduceat(x, edges[:-1], axis=axis) / np.diff(edges).astype(np.float32).reshape(shape)
    return x
