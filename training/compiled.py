"""Compiled training: the dynamics through torch.compile, in bfloat16 where the processor multiplies it.

A step of the tiny preset is hundreds of small operations, so most of its time goes into moving numbers in and out of
the cache. Compiled they are fused, and matrices are multiplied by the AMX units of recent Intel processors, or by a
GPU's tensor cores. Needs a C++ compiler, and minutes before the first step of each kind.
"""

from __future__ import annotations

import shutil
from typing import Any

import torch
from torch import nn

from worldgen.errors import InputError

METHODS = ("forward", "denoise", "commit")  # of a clip, and of a frame when a clip is played on
COMPILERS = ("c++", "g++", "clang++", "cl")


def check_compiler() -> None:
    """Raises InputError where there is none."""
    if not torch.cuda.is_available() and not any(map(shutil.which, COMPILERS)):
        raise InputError(f"--compile needs a C++ compiler, and none of {', '.join(COMPILERS)} is there: install one")


def compile_network(network: nn.Module) -> None:
    """In place; a copy made before stays as it was."""
    for name in METHODS:
        if hasattr(network, name):
            method: Any = torch.compile(getattr(network, name), dynamic=False)
            setattr(network, name, method)


def multiplies_bfloat16() -> bool:
    """Whether this processor has AMX's units for it: in software it is slower than float32."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))
