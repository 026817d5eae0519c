"""What can go wrong in a training that is nobody's bug: memory, disk, numbers."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import torch

from worldgen.files import write_json


def is_out_of_memory(error: BaseException) -> bool:
    """Of a GPU, or of the machine as torch's allocator tells it."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def is_disk_full(error: BaseException) -> bool:
    """safetensors and torch raise errors of their own for it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return "No space left on device" in str(error)


def remember_failure(folder: Path, step: int, is_main: bool) -> bool:
    """Whether a step fails for the first time. Kept beside the checkpoints: a batch that fails again after --resume is
    at fault itself, one that does not was hit by something else."""
    path = folder / "failures.json"
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        known = []
    if step in known:
        return False
    if is_main:
        write_json(path, [*known, step])
    return True
