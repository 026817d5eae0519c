"""Trains all stages by one process, by two (DDP), by two that share the network out (FSDP2), with AdamW and with Muon,
and resumes each by another number; compares all that a checkpoint holds.

    python tests/share_training.py            # exit 1 unless DDP is equal bit for bit and FSDP2 to 2e-4

The codes of the latent-action model share out every part of a batch among themselves. Of that stage, which is trained
alone, the losses are compared, to 5 %.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
STAGES = ("tokenizer", "dynamics", "heads", "super_resolution", "between", "sound_codec", "sound", "sound_events")
# a rounding error in a gradient near zero is a part of a step to Adam, and a step is 1e-3
TOLERANCE = 2e-4
CURVE_TOLERANCE = 0.05


def start(data: Path, out: Path, *arguments: str, processes: int = 1) -> None:
    """Raises RuntimeError with the last lines of a run that fails."""
    launcher: list[str] = []
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--master-port", str(port)]
    command = [sys.executable, *launcher, str(HERE / "micro_train.py"), str(data), str(out), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1800)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def without_last_step(world: Path, copy: Path) -> Path:
    """As if it had been killed before the last step of each stage, though none is stale because the one before it
    ends a rounding error away."""
    shutil.copytree(world, copy)
    for stage in (copy / "training").iterdir():
        for path in sorted(stage.glob("checkpoint-*"))[1:]:
            shutil.rmtree(path)
    for path in (copy / "training").glob("*/checkpoint-*/state.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"parents": None}))
    return copy


def difference(one: Path, other: Path, stages: tuple[str, ...] | list[str]) -> float:
    return farthest(one, other, stages)[0]


def farthest(one: Path, other: Path, stages: tuple[str, ...] | list[str]) -> tuple[float, str]:
    """The largest difference of network, average and optimiser, relative to what is above 1, and where it is; infinity
    where they hold other things."""
    import numpy as np
    from safetensors.numpy import load_file

    largest, where = 0.0, ""
    for stage in stages:
        paths = [max((world / "training" / stage).glob("checkpoint-*")) for world in (one, other)]
        first, second = (load_file(path / "state.safetensors") for path in paths)
        if paths[0].name != paths[1].name or first.keys() != second.keys():
            return float("inf"), stage
        for name, tensor in first.items():
            known = tensor.astype(np.float64)
            apart = np.abs(known - second[name]) / np.maximum(1, np.abs(known))
            if apart.max(initial=0) > largest:
                largest, where = float(apart.max()), f"{stage} {name}"
    return largest, where


def curve_difference(one: Path, other: Path, stages: tuple[str, ...] | list[str]) -> float:
    """The largest between the logged losses of a step, relative to one."""

    def losses(world: Path, stage: str) -> dict[int, float]:
        lines = (world / "training" / stage / "log.jsonl").read_text().splitlines()
        return {row["step"]: row["loss"] for row in map(json.loads, lines) if row["kind"] == "train"}

    largest = 0.0
    for stage in stages:
        first, second = losses(one, stage), losses(other, stage)
        if first.keys() != second.keys():
            return float("inf")
        largest = max(largest, *(abs(first[k] - second[k]) / max(1e-9, abs(first[k])) for k in first))
    return largest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--stages", nargs="+", default=list(STAGES))
    arguments = parser.parse_args()
    sys.path.insert(0, str(HERE))
    from test_output_stages import record

    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["WORLDGEN_CACHE"] = str(folder / "cache")
        data = folder / "data"
        for i in range(5):
            record(data / f"loud{i}.mkv", i)
        usual = ["--steps", str(arguments.steps), "--stages", *arguments.stages]
        for optimizer in ("adamw", "muon"):
            common = [*usual, "--muon"] if optimizer == "muon" else usual
            one, two, shared = (folder / f"{name}-{optimizer}" for name in ("one", "two", "shared"))
            start(data, one, "--parts", "2", *common)

            def tell(what: str, world: Path, one: Path = one, optimizer: str = optimizer) -> None:
                found, where = farthest(one, world, arguments.stages)
                figures[f"{optimizer}, {what}"] = found
                curve = curve_difference(one, world, arguments.stages)
                print(f"{optimizer}, {what}: {found:g} {where}; losses {curve:g}", flush=True)

            start(data, shared, "--shard", *common, processes=2)
            tell("FSDP2", shared)
            if optimizer == "muon":
                continue
            start(data, two, *common, processes=2)
            tell("DDP", two)
            for what, begun, more, processes in (
                ("DDP, then one", two, [], 1),
                ("FSDP2, then one", shared, [], 1),
                ("one, then FSDP2", one, ["--shard"], 2),
            ):
                resumed = without_last_step(begun, folder / what.replace(", ", "-").replace(" ", "-"))
                start(data, resumed, "--resume", *more, *common, processes=processes)
                tell(what, resumed)
        codes = ["--actions", "latent", "--stages", "latent_action", "--steps", str(arguments.steps)]
        start(data, folder / "codes", "--parts", "2", *codes)
        for what, more in (("DDP", []), ("FSDP2", ["--shard"])):
            start(data, folder / f"codes-{what}", *more, *codes, processes=2)
            curve = curve_difference(folder / "codes", folder / f"codes-{what}", ["latent_action"])
            figures[f"losses of latent_action, {what}"] = curve
            print(f"losses of latent_action, {what}: {curve:g}", flush=True)
    print(json.dumps(figures))

    def limit(what: str) -> float:
        return CURVE_TOLERANCE if what.startswith("losses") else 0 if what.endswith("DDP") else TOLERANCE

    return 0 if all(v <= limit(k) for k, v in figures.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
