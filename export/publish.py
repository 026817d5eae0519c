"""Publishes a world: what is needed to play and to fine-tune it, in fewer bytes, exported and verified anew.

python -m worldgen.export.publish worlds/mine worldgen/worlds/mine
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from worldgen.bundle import PLAYED_NETWORKS, TRAINED_ON, find_world, load_networks, network_hashes, save_network
from worldgen.command import fail, run
from worldgen.errors import InputError
from worldgen.export.quantise import quantise_weights
from worldgen.export.to_onnx import export_onnx
from worldgen.files import new_folder
from worldgen.models.dynamics import Dynamics
from worldgen.uncertainty import Uncertainty


def publish(world: Path, out: Path, say: Callable[[str], None] = print) -> float:
    """Writes the folder `out`, whole or not at all -> its size in MB. Most weights are quantised to int8 (quantise.py),
    the others rounded to half precision; the graphs are exported from those, so every engine computes with the same
    numbers."""
    _check_replaceable(out, world)
    networks = load_networks(world)
    with new_folder(out) as building:
        for name, network in networks.items():
            assert name in PLAYED_NETWORKS
            quantise_weights(name, network)
            save_network(_rounded(network), building, name)
        for name in ("world.json", "card.md", "NOTICE.md", TRAINED_ON):
            if (world / name).is_file():
                shutil.copy(world / name, building / name)
        for name in ("starts", "sounds"):
            if (world / name).is_dir():
                shutil.copytree(world / name, building / name)
        dynamics = networks["dynamics"]
        hidden_shape = (dynamics.num_tokens + 1, dynamics.config.dim)
        if known := Uncertainty.load(world, lambda: network_hashes(world), hidden_shape):
            replace(known, hashes=network_hashes(building)).save(building)
        export_onnx(building, say=say)
    size = sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) / 1e6
    say(f"{out}: {size:.1f} MB")
    return size


def _check_replaceable(out: Path, world: Path) -> None:
    """Raises InputError unless nothing but an older world is lost where `out` is replaced."""
    if out.resolve() == world.resolve():
        raise InputError(f"{out} is the world itself: choose another folder")
    if out.resolve() in world.resolve().parents:
        raise InputError(f"{out} holds the world {world} and would be replaced: choose a folder beside it")
    is_empty = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not is_empty and not (out / "world.json").is_file():
        raise InputError(f"{out} is no world (no world.json in it) and would be replaced: choose a new folder")


def _rounded(network: Any) -> Any:
    """To half precision, but for the basis that pixels are copied in, frame after frame: rounded it would no longer be
    orthonormal, and a thousand copies would fade some of the picture and brighten the rest."""
    basis = network.motion.basis if isinstance(network, Dynamics) else None
    network = network.half()
    if basis is not None:
        network.motion.basis = basis
    return network


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if len(arguments) != 2:
        return fail(2, "usage: python -m worldgen.export.publish WORLD OUT")

    def command() -> int:
        publish(find_world(arguments[0]), Path(arguments[1]))
        return 0

    return run("publish", command)


if __name__ == "__main__":
    sys.exit(main())
