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


def decibels(mse: float) -> float:
    """Mean squared error of 8-bit values -> PSNR, at most 100 dB."""
    return float(min(100.0, 10 * np.log10(255**2 / max(mse, 1e-12))))


def psnr(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    return decibels(mean_squared_error(a, b, mask))


def changed_pixels(frames: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Where frames differ visibly from a reference: (..., h, w) bool"""
    return (np.abs(frames.astype(np.int16) - reference.astype(np.int16)) > CHANGE).any(-1)


def gradient_energy(frames: np.ndarray) -> float:
    """Mean squared difference of neighbouring pixels: a blurred picture has less."""
    x = frames.astype(np.float32)
    return float(np.square(np.diff(x, axis=-2)).mean() + np.square(np.diff(x, axis=-3)).mean())


def contact_sheet(*rows: list[np.ndarray], gap: int = 2) -> np.ndarray:
    """Rows of frames (h, w, 3) of one size -> one picture (h', w', 3) uint8"""
    padded = [[np.pad(frame, ((0, gap), (0, gap), (0, 0))) for frame in row] for row in rows]
    return np.concatenate([np.concatenate(row, axis=1) for row in padded], axis=0)
