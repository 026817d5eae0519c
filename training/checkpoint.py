"""Checkpoints of a training stage: atomic, checksummed, safetensors and JSON only.

WORLD/training/<stage>/checkpoint-00001200/state.safetensors + state.json
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from worldgen.errors import InputError
from worldgen.files import file_hash, new_folder, write_json
from worldgen.training.sharding import shared_out, whole

KEEP = 2


@dataclass(frozen=True)
class Progress:
    """How far a stage has come. seconds: of training, over all its runs. parts: that a batch is computed in. parents:
    hashes of the networks it stands on. seed: of everything that is drawn."""

    step: int = 0
    seconds: float = 0.0
    parts: int = 1
    parents: dict[str, str] | None = None
    seed: int | None = None

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Progress:
        parts, parents = int(raw.get("parts", 1)), raw.get("parents")
        return cls(int(raw["step"]), float(raw["seconds"]), parts, parents, raw.get("seed"))


def state_tensors(
    network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, keep: bool = True
) -> dict[str, Tensor]:
    """All that a checkpoint holds, whole and on the CPU. Where processes share the network out they all call it, and
    one keeps what it gives."""
    named: list[tuple[str, Tensor]] = [(f"network.{k}", v) for k, v in network.state_dict().items()]
    named += [(f"average.{k}", v) for k, v in average.state_dict().items()]
    for i, state in optimizer.state_dict()["state"].items():
        named += [(f"optimizer.{i}.{k}", torch.as_tensor(v)) for k, v in state.items()]
    tensors = {}
    for name, tensor in named:
        tensor = whole(tensor.detach())
        if keep:
            tensors[name] = tensor.cpu().contiguous()
    return tensors


def save_checkpoint(folder: Path, progress: Progress, tensors: dict[str, Tensor]) -> None:
    """tensors: of state_tensors()"""
    name = f"checkpoint-{progress.step:08d}"
    for unfinished in folder.glob(".checkpoint-*"):  # of runs that were killed while saving
        shutil.rmtree(unfinished, ignore_errors=True)
    with new_folder(folder / name) as building:
        save_file(tensors, building / "state.safetensors")
        digest = file_hash(building / "state.safetensors")
        write_json(building / "state.json", {**vars(progress), "sha256": digest})
    others = sorted(p for p in folder.glob("checkpoint-*") if p.name != name)
    later = [p for p in others if p.name > name]  # damaged, or this run would have begun from them
    for old in later + [p for p in others if p.name < name][: 1 - KEEP]:
        shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path, network: nn.Module, average: nn.Module) -> tuple[Progress, dict[str, Tensor]] | None:
    """Restores the newest intact checkpoint's network and average, gives the tensors of its optimiser for
    load_optimizer(); None where there is none."""
    for path, facts in _intact(folder):
        try:
            tensors = load_file(path / "state.safetensors")
        except Exception as error:  # safetensors raises its own
            raise InputError(f"{path} is no checkpoint ({error}): remove it") from None
        try:
            network.load_state_dict(part_of(tensors, "network."))
            average.load_state_dict(part_of(tensors, "average."))
        except RuntimeError as error:
            raise InputError(_misfit(path, tensors, network, error)) from None
        return Progress.from_json(facts), part_of(tensors, "optimizer.")
    return None


def _misfit(path: Path, tensors: dict[str, Tensor], network: nn.Module, error: Exception) -> str:
    was_sharpened = any(name.startswith("network.critic.") for name in tensors)
    if was_sharpened != any(name.startswith("critic.") for name in network.state_dict()):
        given = "with" if was_sharpened else "without"
        return f"{path.parent} was trained {given} --sharpen: resume it {given} it, or choose another --out"
    reason = str(error).splitlines()[-1].strip()
    return (
        f"{path} holds another network, of another preset or a former worldgen ({reason}): use the same, or begin from "
        "that world with --from and another --out"
    )


def read_progress(folder: Path) -> Progress | None:
    """Of the newest intact checkpoint."""
    for _, facts in _intact(folder):
        return Progress.from_json(facts)
    return None


def _intact(folder: Path) -> Iterator[tuple[Path, dict]]:
    for path in sorted(folder.glob("checkpoint-*"), reverse=True):
        try:
            facts = json.loads((path / "state.json").read_text(encoding="utf-8"))
            if file_hash(path / "state.safetensors") == facts["sha256"]:
                yield path, facts
                continue
        except (OSError, ValueError, KeyError, TypeError):
            pass
        print(f"{path} is damaged: trying the one before it", file=sys.stderr)


def part_of(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Of the same network's parameters; each process keeps its part."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        i, name = key.split(".", 1)
        parameter = parameters[int(i)]
        state.setdefault(int(i), {})[name] = shared_out(tensor, parameter) if tensor.dim() else tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
