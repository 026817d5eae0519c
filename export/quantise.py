"""Weights of which one byte each is stored: integers from -127 to 127 times a scale that each row has.

A scale is a number of four bits times a power of two, so that a product is a half-precision number, exactly: networks
are saved in half precision and graphs in int8 (shared_weights.py), and both hold the same numbers.

Of the dynamics the blocks alone are quantised: they correct, and what reads tokens, copies pixels and writes tokens is
passed on from frame to frame. Super-resolution lost 0.1 dB and is small; so are the heads and in-between frames.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from worldgen.errors import RunError
from worldgen.export.precision import LARGEST_HALF

QUANTISED = ("tokenizer.", "dynamics.blocks.", "sound_codec.", "sound.")
LARGEST = 127
SHORTEST = 8  # numbers of a row that are worth a scale
SMALLEST = 1024  # numbers; weights of fewer stay as they are
CLIPPED = (1.0, 0.9, 0.8, 0.7, 0.6)  # shares of a row's largest number at which it may be clipped
UNIT = 2.0**-24  # of which every half-precision number is a multiple


@torch.no_grad()
def quantise_weights(name: str, network: nn.Module) -> None:
    """In place: the matrices and kernels of the network `name` that QUANTISED names, unless they are already. Biases,
    norms, small weights and those of short rows stay. Raises RunError for weights that are not finite."""
    for key, weights in network.named_parameters():
        if not weights.isfinite().all():
            raise RunError(f"{name}.{key} holds numbers that are not finite: train {name} again")
        is_chosen = f"{name}.{key}".startswith(QUANTISED) and weights.ndim >= 2 and weights.numel() >= SMALLEST
        if is_chosen and weights[0].numel() >= SHORTEST and as_int8(weights.numpy()) is None:
            weights.copy_(quantised(weights))


def quantised(weights: Tensor) -> Tensor:
    """(rows, ...) -> the same shape, float32; each row is integers times the scale that errs least"""
    rows = weights.float().flatten(1)
    largest = rows.abs().amax(1, keepdim=True)
    best, least = torch.zeros_like(rows), torch.full_like(largest, torch.inf)
    for share in CLIPPED:
        scale = _four_bits(share * largest / LARGEST)
        made = scale * (rows / scale).round().clamp(-LARGEST, LARGEST)
        error = (made - rows).square().sum(1, keepdim=True)
        best, least = torch.where(error < least, made, best), torch.minimum(error, least)
    return best.view_as(weights)


def _four_bits(scale: Tensor) -> Tensor:
    """The least number of four bits times a power of two, of half precision, that is no smaller"""
    power = torch.exp2(scale.clamp_min(8 * UNIT).log2().floor() - 3)
    return power * (scale / power).ceil().clamp_min(1)


def is_half(array: np.ndarray) -> bool:
    """Whether every number is finite and one of half precision"""
    is_within = bool((np.abs(array) <= LARGEST_HALF).all())  # NaN is not
    return is_within and np.array_equal(array, array.astype(np.float16))


def as_int8(array: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Weights (rows, ...), or such a matrix transposed, float32 or float16 -> int8 of the same shape, and the scales,
    which broadcast over it, in the given type; None where there are none that lose nothing."""
    if array.ndim < 2 or array.dtype not in (np.float32, np.float16) or not is_half(array):
        return None
    units = (array.astype(np.float64) / UNIT).astype(np.int64)
    for axis in (0, 1) if array.ndim == 2 else (0,):
        if array.size < SHORTEST * array.shape[axis]:
            continue
        others = tuple(i for i in range(array.ndim) if i != axis)
        scale = np.maximum(np.gcd.reduce(units, axis=others, keepdims=True), 1)
        integers = units // scale
        if np.abs(integers).max() <= LARGEST:
            return integers.astype(np.int8), (scale * UNIT).astype(array.dtype)
    return None
