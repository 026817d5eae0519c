"""Memory that does not suffice, said in one line whatever engine runs out of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from worldgen.errors import RunError

# how torch, ONNX Runtime, CUDA and C++ say it
SIGNS = ("out of memory", "outofmemory", "allocate memory", "bad allocation", "bad_alloc")


def is_out_of_memory(error: object) -> bool:
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in SIGNS)


@contextlib.contextmanager
def refuse_out_of_memory(batch: int, device: str) -> Iterator[None]:
    """RunError instead of whatever an engine raises when `batch` games do not fit."""
    try:
        yield
    except Exception as error:  # onnxruntime's own exceptions share no base class
        if not is_out_of_memory(error):
            raise
        way = "play fewer at once" if batch > 1 else "close what else uses it, or play with --no-upscale --sound off"
        raise RunError(
            f"{batch} game{'s' * (batch > 1)} need{'s' * (batch == 1)} more memory than {device} has left: {way}"
        ) from None
