"""The ring of past frames, written one slot at a time.

An operator of its own, so that an exported graph holds one ONNX TensorScatter, which a runtime may do in place, and not
a select over the whole ring.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.library.custom_op("worldgen::write_ring", mutates_args=())
def write_ring(cache: Tensor, update: Tensor, slot: Tensor, after: Tensor) -> Tensor:
    """cache (b, ..., s, e), update (b, ..., 1, e), slot (b,) int64 -> cache with the update in each row's slot.

    after (b, ...): computed before anything is written, whatever its values. Where a runtime writes in place, `after`
    must be what is computed last from the cache.
    """
    slots = torch.arange(cache.shape[-2], device=cache.device)
    here = (slots == slot[:, None]).reshape(len(slot), *[1] * (cache.dim() - 3), -1, 1)
    return torch.where(here, update, cache)


@write_ring.register_fake
def _(cache: Tensor, update: Tensor, slot: Tensor, after: Tensor) -> Tensor:
    return torch.empty_like(cache)
