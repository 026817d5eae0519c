"""Several processes that train one world, as torchrun and `accelerate launch` start them."""

from __future__ import annotations

import os

import torch
from accelerate import PartialState


def shares_cpu() -> bool:
    """Whether there are several and no GPU: Accelerate must be told, or each believes to be alone."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.cuda.is_available()


def is_main() -> bool:
    return int(os.environ.get("RANK", "0")) == 0


def num_local(processes: PartialState) -> int:
    """How many of them are on each machine; the first ones, by process_index, are on the first."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", processes.num_processes))
