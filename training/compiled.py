"""Compiled training: the dynamics through torch.compile, in bfloat16 where the processor multiplies it.

A step of the tiny preset is hundreds of small operations, so most of its time goes into moving numbers in and out of
the cache. Compiled they are fused, and matrices are multiplied by the units that recent processors have for
bfloat16, or by a GPU's tensor cores. Needs a C++ compiler, and minutes before the first step of each kind.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from worldgen.errors import InputError

METHODS = ("forward", "denoise", "commit")  # of a clip, and of a frame when a clip is played on
COMPILED = ("dynamics", "heads")  # the stages that are CompiledStage
COMPILING_MINUTES = 4  # at most, of a stage of the tiny preset on 2 cores


@runtime_checkable
class CompiledStage(Protocol):
    def compile(self) -> None:
        """What it computes most of the time, in place: the networks that others see stay as they are."""
        ...


def check_compiler() -> None:
    """Raises InputError where what torch compiles with is missing."""
    compiler = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    if shutil.which(compiler) is None:
        raise InputError(f"--compile needs a C++ compiler, and there is no {compiler}: install it, or set CXX")
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.is_file():
        raise InputError(f"--compile needs {header}: install Python's headers (Debian: python3-dev)")


def compile_network(network: nn.Module) -> None:
    """A Dynamics, in place; a copy made before stays as it was."""
    for name in METHODS:
        method: Any = torch.compile(getattr(network, name), dynamic=False)
        setattr(network, name, method)


def multiplies_bfloat16() -> bool:
    """Whether this processor does (AMX, AVX-512 BF16): in software it is slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
