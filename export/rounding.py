"""Weights of which a byte each is stored: the multiples, -127 to 127, of a step that each row has.

A step is a number of four bits times a power of two, so that a multiple is a half-precision number, exactly: networks
are saved in half precision and graphs in bytes (shared_weights.py), and both hold the same numbers.

Of the dynamics the blocks alone are rounded: they correct, and what reads tokens, copies pixels and writes tokens is
passed on from frame to frame. Super-resolution loses 0.1 dB and is small.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

ROUNDED = ("tokenizer.", "dynamics.blocks.", "sound_codec.", "sound.")
MOST = 127  # multiples of the step
SHORTEST = 8  # numbers of a row that are worth a step
SMALLEST = 1024  # numbers; weights of fewer stay as they are
CLIPPED = (1.0, 0.9, 0.8, 0.7, 0.6)  # shares of a row's largest number that the steps may end at
UNIT = 2.0**-24  # of which every half-precision number is a multiple


@torch.no_grad()
def round_weights(name: str, network: nn.Module) -> None:
    """In place: the matrices and kernels of the network `name` that ROUNDED names and that are not multiples yet.
    Biases, norms and small weights stay."""
    for key, weights in network.named_parameters():
        is_chosen = f"{name}.{key}".startswith(ROUNDED) and weights.ndim >= 2 and weights.numel() >= SMALLEST
        if is_chosen and as_bytes(weights.numpy()) is None:
            weights.copy_(rounded(weights))


def rounded(weights: Tensor) -> Tensor:
    """(rows, ...) -> the same shape; each row is multiples of a step of its own, that which errs least"""
    rows = weights.float().flatten(1)
    largest = rows.abs().amax(1, keepdim=True)
    best, least = torch.zeros_like(rows), torch.full_like(largest, torch.inf)
    for share in CLIPPED:
        step = _four_bits(share * largest / MOST)
        made = step * (rows / step).round().clamp(-MOST, MOST)
        error = (made - rows).square().sum(1, keepdim=True)
        best, least = torch.where(error < least, made, best), torch.minimum(error, least)
    return best.view_as(weights)


def _four_bits(step: Tensor) -> Tensor:
    """The least number of four bits times a power of two, of half precision, that is no smaller"""
    power = torch.exp2(step.clamp_min(8 * UNIT).log2().floor() - 3)
    return power * (step / power).ceil().clamp_min(1)


def as_bytes(array: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Weights (rows, ...), or such a matrix transposed, float32 or float16 -> int8 of the same shape, and the steps,
    which broadcast over it, in the given type; None where they are not all multiples."""
    if array.ndim < 2 or array.dtype not in (np.float32, np.float16):
        return None
    if not np.array_equal(array, array.astype(np.float16)):
        return None
    units = (array.astype(np.float64) / UNIT).astype(np.int64)
    for axis in (0, 1) if array.ndim == 2 else (0,):
        if array.size < SHORTEST * array.shape[axis]:
            continue
        others = tuple(i for i in range(array.ndim) if i != axis)
        step = np.maximum(np.gcd.reduce(units, axis=others, keepdims=True), 1)
        multiples = units // step
        if np.abs(multiples).max() <= MOST:
            return multiples.astype(np.int8), (step * UNIT).astype(array.dtype)
    return None
