"""Kills a training at random moments, resumes it, and compares it with one that was left alone.

    python tests/kill_training.py --kills 50            # exit 1 unless the two are equal bit for bit

Every kill is SIGKILL, after a random time; a checkpoint is written after every step, so that many fall into one. Half
of the kills are in a world with recorded actions, half in one with latent ones, both with sound and larger frames: all
nine stages. Now and then the newest checkpoint is damaged as well.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
STAGES = (
    "tokenizer", "latent_action", "dynamics", "heads", "super_resolution", "between", "sound_codec", "sound",
    "sound_events",
)  # fmt: skip


def begin(data: Path, out: Path, steps: int, actions: str, resume: bool, stages: tuple[str, ...] = ()) -> int:
    """A training in a process of its own, that need not import torch again. Returns its id. stages: by default those
    that the recordings call for."""
    import micro_train
    import test_training  # noqa: F401

    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    with open(out.with_suffix(".log"), "a", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        code = 70
        try:
            code = micro_train.train(data, out, resume, steps, actions=actions, stages=stages)
        finally:
            os._exit(code)


def ended(child: int, seconds: float) -> int | None:
    """The exit code of a process, None where it still runs after so long."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    return None


def place(out: Path) -> tuple[str, int]:
    """The last stage begun and its newest checkpoint's step."""
    begun = [s for s in STAGES if list((out / "training" / s).glob("checkpoint-*"))]
    if not begun:
        return "none", 0
    return begun[-1], int(max((out / "training" / begun[-1]).glob("checkpoint-*")).name[-8:])


def damage(out: Path, rng: random.Random) -> bool:
    """Cuts or flips a byte of the newest checkpoint of the last stage."""
    states = sorted((out / "training" / place(out)[0]).glob("checkpoint-*/state.safetensors"))
    if len(states) < 2:
        return False
    data = bytearray(states[-1].read_bytes())
    if rng.random() < 0.5:
        del data[rng.randrange(len(data)) :]
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    states[-1].write_bytes(data)
    return True


def equal(one: Path, other: Path) -> bool:
    """Network, average, optimiser and schedule of every stage, and the networks that others use."""
    import torch
    from safetensors.torch import load_file

    same = (one / "world.json").read_bytes().replace(one.name.encode(), b"") == (
        other / "world.json"
    ).read_bytes().replace(other.name.encode(), b"")
    for stage in (s for s in STAGES if (one / s).is_dir()):
        paths = [max((world / "training" / stage).glob("checkpoint-*")) for world in (one, other)]
        first, second = (load_file(path / "state.safetensors") for path in paths)
        same &= paths[0].name == paths[1].name and first.keys() == second.keys()
        same &= all(torch.equal(first[k], second[k]) for k in first)
        weights = "diffusion_pytorch_model.safetensors"
        same &= (one / stage / weights).read_bytes() == (other / stage / weights).read_bytes()
    return same


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--damage", type=float, default=0.2, help="share of kills after which a checkpoint is damaged")
    arguments = parser.parse_args()
    sys.path.insert(0, str(HERE))
    from test_output_stages import record

    rng = random.Random(arguments.seed)
    num_kills = num_damaged = num_worlds = 0
    at: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["WORLDGEN_CACHE"] = f"{folder}/cache"
        data = Path(folder) / "data"
        for i in range(5):
            record(data / f"loud{i}.mkv", i)
        for actions in ("recorded", "latent"):
            stages = tuple(stage for stage in STAGES if actions == "latent" or stage != "latent_action")
            whole = Path(folder) / f"whole-{actions}"
            begun = time.monotonic()
            if ended(begin(data, whole, arguments.steps, actions, False, stages), 3600) != 0:
                print(f"the run that is left alone failed: {whole.with_suffix('.log').read_text()[-500:]}")
                return 1
            seconds = time.monotonic() - begun
            target = arguments.kills // 2 if actions == "recorded" else arguments.kills
            while num_kills < target:
                out, resume = Path(folder) / f"killed-{num_worlds}", False
                num_worlds += 1
                while True:
                    child = begin(data, out, arguments.steps, actions, resume, stages)
                    # with enough kills behind it, this world is left to end
                    code = ended(child, rng.uniform(0, 0.7) * seconds if num_kills < target else 3600)
                    if code == 0:
                        break
                    if code is not None:
                        print(f"a resumed run failed: {out.with_suffix('.log').read_text()[-500:]}")
                        return 1
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    num_kills += 1
                    stage, step = place(out)
                    at[stage] = at.get(stage, 0) + 1
                    hurt = rng.random() < arguments.damage and damage(out, rng)
                    num_damaged += hurt
                    print(f"kill {num_kills} in {stage} after step {step}{', damaged' if hurt else ''}", flush=True)
                    resume = (out / "training").is_dir()
                if not equal(whole, out):
                    print(f"{out.name} differs from an uninterrupted run")
                    return 1
    print(json.dumps({"kills": num_kills, "damaged": num_damaged, "worlds": num_worlds, "at": at, "equal": True}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
