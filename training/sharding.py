"""FSDP2: processes that share one network out, each with its part of the weights, their average and the optimiser's
state. A checkpoint is whole all the same, so any number of processes goes on from it."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

BLOCKS = {"Block"}  # whose gradients are shared out one by one, before the next one's are made


def shard_network(accelerator: Accelerator, loss: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
    """As accelerator.prepare(), with the network inside `loss` and its optimiser shared out."""
    from accelerate import FullyShardedDataParallelPlugin
    from accelerate.utils import DistributedType

    loss._no_split_modules = sorted(BLOCKS & {type(module).__name__ for module in loss.modules()})  # type: ignore[assignment]
    # Accelerate takes a plugin once for all and for GPUs alone; here each stage has another, and CPUs are fine
    accelerator.state.distributed_type = DistributedType.FSDP
    accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        # put together once a step: a loss runs its network several times, not equally often in every process
        reshard_after_forward=False,
        cpu_ram_efficient_loading=False,  # every process has read the checkpoint
    )
    return accelerator.prepare(loss, optimizer)


def shard_average(average: nn.Module) -> None:
    """In place, as its network is: the parts of both lie in one process."""
    from torch.distributed.fsdp import fully_shard

    fully_shard(average)


def whole(tensor: Tensor) -> Tensor:
    """All processes call it."""
    return tensor.full_tensor() if _is_shared(tensor) else tensor  # type: ignore[attr-defined]


def shared_out(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor that every process has -> this one's part, as that of `like`"""
    if not _is_shared(like):
        return tensor
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def _is_shared(tensor: Tensor) -> bool:
    """Whether it is a DTensor, said without torch.distributed, which not every torch has"""
    return hasattr(tensor, "full_tensor")
