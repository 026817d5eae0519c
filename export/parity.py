"""The table of how far exported graphs are from torch, as a page.

    python -m worldgen.export.parity doom docs/parity.md

exports every precision that runs on this machine's CPU, in a folder of its own, and leaves the world as it is. A
precision beyond its limits is in the table with the reason.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime
import torch

from worldgen.bundle import find_world, load_networks, network_hashes, weights_hash
from worldgen.command import fail, run
from worldgen.errors import RunError
from worldgen.export.precision import ONNX_PRECISIONS, PRECISIONS
from worldgen.export.to_onnx import export_parts, reference_of, write_onnx
from worldgen.export.verify import EQUAL, ROLLOUT, record_games
from worldgen.files import write_bytes

NOT_RUN = {
    "bf16": "as an export TensorRT only: no CPU engine runs it",
    "fp8": "TensorRT only, experimental",
}


def measure_parity(world: Path, say: Callable[[str], None] = print) -> dict[str, dict[str, Any]]:
    """-> {precision: the manifest of its graphs, or {"refused": why}}"""
    sources, networks = network_hashes(world), load_networks(world)
    parts, games = export_parts(networks, say), record_games(world, reference_of(networks, sources))
    measured: dict[str, dict[str, Any]] = {}
    for name in ONNX_PRECISIONS:
        say(name)
        with tempfile.TemporaryDirectory() as folder:
            try:
                measured[name] = write_onnx(world, Path(folder), networks, sources, parts, games, name, say)
            except RunError as error:
                measured[name] = {"refused": str(error)}
    return measured


def page(title: str, measured: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown"""
    accepted = {name: m for name, m in measured.items() if "refused" not in m}
    names = list(accepted)
    graphs = list(next(iter(accepted.values()))["parity"]) if accepted else []
    rows = [["graph", *names]]
    rows += [[f"`{g}`", *(_cell(m["parity"][g], m["pictures"].get(g)) for m in accepted.values())] for g in graphs]
    rows.append([f"{ROLLOUT} frames alone", *(_cell(m["rollout_error"], m["rollout_psnr"]) for m in accepted.values())])
    limits = [["precision", "one evaluation", f"{ROLLOUT} frames alone", "picture"]]
    for name, p in PRECISIONS.items():
        picture = f"{p.psnr:g} dB" + (", one grey level in a graph" if name == "fp32" else "")
        limits.append([f"`{name}`", f"{p.step_error:g}", f"{p.rollout_error:g}", picture])
    refused = [f"`{name}`: {m['refused']}" for name, m in measured.items() if "refused" in m]
    not_run = [f"`{name}`: {why}." for name, why in NOT_RUN.items()]
    lines = [
        f"# Parity of {title}",
        "",
        "Relative L2 error of a graph's worst output against torch in float32, and how close its picture is, over "
        "games of three seeds; then of the tokens and frames of games played on the graphs alone.",
        "",
        *_table(rows),
        "",
        *[line for reason in [*refused, *not_run] for line in (reason, "")],
        "ONNX Runtime computes most of an fp16 graph on a CPU in float32 and rounds what is stored; that no number "
        "leaves the range of float16 is checked. How it rounds on a GPU has not been seen.",
        "",
        "Limits. A graph of a whole frame may err as often as it evaluates the network: nfe + 1 times.",
        "",
        *_table(limits),
        "",
        f"torch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}, CPU. "
        "Written by `python -m worldgen.export.parity WORLD FILE`.",
    ]
    return "\n".join(lines) + "\n"


def _cell(error: float, decibels: float | None) -> str:
    if decibels is None:
        return f"{error:.1e}"
    return f"{error:.1e}, " + ("equal" if decibels == EQUAL else f"{decibels:.1f} dB")


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return [head, "|" + "---|" * len(rows[0]), *body]


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if len(arguments) != 2:
        return fail(2, "usage: python -m worldgen.export.parity WORLD FILE")

    def command() -> int:
        world = find_world(arguments[0])
        title = f"`{arguments[0]}`, weights {weights_hash(world)}"
        write_bytes(Path(arguments[1]), page(title, measure_parity(world)).encode())
        return 0

    return run("parity", command)


if __name__ == "__main__":
    sys.exit(main())
