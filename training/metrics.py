"""Figures on frames, in numpy. Frames are (..., h, w, 3) uint8.

PSNR is of the mean squared error over all frames given (the error is averaged, not the decibels).
"""

from __future__ import annotations

import numpy as np

CHANGE = 8  # grey levels by which some channel of a pixel must differ to count as changed


def mean_squared_error(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """mask (..., h, w) bool: which pixels count; none set gives nan."""
    error = np.square(a.astype(np.float32) - b.astype(np.float32)).mean(-1)
    if mask is None:
        return float(error.mean(dtype=np.float64))
    return float(error[mask].mean(dtype=np.float64)) if mask.any() else float("nan")


def squared_errors(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Of each clip (b, ..., h, w, 3), mask (b, ..., h, w): the sum of the squared error of its pixels (b,) and how
    many of them count (b,). The sums of both over clips make a PSNR."""
    error = np.square(a.astype(np.float32) - b.astype(np.float32)).mean(-1).reshape(len(a), -1)
    if mask is None:
        return error.sum(1, dtype=np.float64), np.full(len(error), float(error.shape[1]))
    counts = mask.reshape(len(a), -1)
    return (error * counts).sum(1, dtype=np.float64), counts.sum(1).astype(np.float64)


def decibels(mse: float) -> float:
    """Mean squared error of 8-bit values -> PSNR, at most 100 dB; nan stays nan."""
    return float(np.minimum(100.0, 10 * np.log10(255**2 / np.maximum(mse, 1e-12))))


def psnr(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    return decibels(mean_squared_error(a, b, mask))


def changed_pixels(frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Where frames differ visibly from a reference: (..., h, w) bool"""
    return np.abs(frames.astype(np.int16) - reference.astype(np.int16)).max(-1) > CHANGE


SSIM_WINDOW = 7  # pixels a side
SSIM_C1, SSIM_C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004), 1 for equal frames: 7x7 uniform windows inside the frame, unbiased
    variances, the mean over windows, channels and frames."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    unbiased = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    variance_x = unbiased * (_window_mean(x * x) - mean_x**2)
    variance_y = unbiased * (_window_mean(y * y) - mean_y**2)
    covariance = unbiased * (_window_mean(x * y) - mean_x * mean_y)
    top = (2 * mean_x * mean_y + SSIM_C1) * (2 * covariance + SSIM_C2)
    bottom = (mean_x**2 + mean_y**2 + SSIM_C1) * (variance_x + variance_y + SSIM_C2)
    return float((top / bottom).mean())


def _window_mean(x: np.ndarray) -> np.ndarray:
    """(..., h, w, c) -> the mean of every window that fits (..., h - 6, w - 6, c)"""
    for axis in (-3, -2):
        total = np.cumsum(x, axis=axis)
        first = np.take(total, [SSIM_WINDOW - 1], axis=axis)
        later = np.take(total, range(SSIM_WINDOW, x.shape[axis]), axis=axis)
        earlier = np.take(total, range(x.shape[axis] - SSIM_WINDOW), axis=axis)
        x = np.concatenate([first, later - earlier], axis=axis) / SSIM_WINDOW
    return x


def gradient_energy(frames: np.ndarray) -> float:
    """Mean squared difference of neighbouring pixels: a blurred picture has less."""
    x = frames.astype(np.float32)
    return float(np.square(np.diff(x, axis=-2)).mean() + np.square(np.diff(x, axis=-3)).mean())


BLOCK = 8  # pixels a side: of video codecs; tokens cover 8 or 16


def blockiness(frames: np.ndarray, block: int = BLOCK) -> float:
    """Mean absolute second difference across the borders of blocks over that elsewhere: 1 where blocks cannot be seen,
    more where the picture breaks along them (after Wang, Bovik and Evans 2000). A slope that runs on through a border
    is none. nan for frames of a single block or one colour."""
    x = frames.astype(np.float32).mean(-1)
    at_borders, elsewhere = [], []
    for axis in (-2, -1):
        # for each pair of neighbours, how much more they differ than the pairs on both sides
        steps = np.moveaxis(np.diff(x, axis=axis), axis, -1)
        jumps = np.abs(steps[..., 1:-1] - (steps[..., :-2] + steps[..., 2:]) / 2)
        is_border = (np.arange(jumps.shape[-1]) + 2) % block == 0  # the pair (i + 1, i + 2)
        at_borders.append(jumps[..., is_border].ravel())
        elsewhere.append(jumps[..., ~is_border].ravel())
    borders, others = np.concatenate(at_borders), np.concatenate(elsewhere)
    if not len(borders) or not others.any():
        return float("nan")
    return float(borders.mean(dtype=np.float64) / others.mean(dtype=np.float64))


def contact_sheet(*rows: list[np.ndarray], gap: int = 2) -> np.ndarray:
    """Rows of frames (h, w, 3) of one size -> one picture (h', w', 3) uint8"""
    padded = [[np.pad(frame, ((0, gap), (0, gap), (0, 0))) for frame in row] for row in rows]
    return np.concatenate([np.concatenate(row, axis=1) for row in padded], axis=0)
