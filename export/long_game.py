"""Whether a long game costs more than a short one: frame 10,000 against frame 100."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.backends import Backend
from worldgen.export.open_game import open_game
from worldgen.measure import begin_game, random_actions, resident_megabytes

YOUNG = 100  # the frame that the late one is compared with
ROUNDS, BLOCK = 20, 10  # the two games take turns, a block of frames each


def long_game(folder: Path, backend: Backend, frames: int) -> dict[str, Any]:
    """folder: the world's. Plays `frames` frames, then times that game and one at frame YOUNG in turns.

    frames; young_ms, old_ms, medians; ratio, old over young; young_megabytes, old_megabytes, what the process held
    (None where the system does not tell).
    """
    old, young = (open_game(folder, backend) for _ in range(2))
    begin_game(old)
    begin_game(young)
    megabytes = {}
    actions = random_actions(old, frames + YOUNG + ROUNDS * BLOCK, seed=0)
    for i in range(frames):
        if i == YOUNG:
            megabytes["young"] = resident_megabytes()
        old.step(actions[i])
    megabytes["old"] = resident_megabytes()
    for action in actions[:YOUNG]:
        young.step(action)
    ms: dict[str, list[float]] = {"young": [], "old": []}
    for i in range(ROUNDS):
        for name, world in (("young", young), ("old", old)):
            for action in actions[i * BLOCK : (i + 1) * BLOCK]:
                began = time.perf_counter()
                world.step(action)
                ms[name].append(1000 * (time.perf_counter() - began))
    medians = {name: float(np.median(times)) for name, times in ms.items()}
    return {
        "frames": frames,
        **{f"{name}_ms": round(value, 3) for name, value in medians.items()},
        "ratio": round(medians["old"] / medians["young"], 3),
        **{f"{name}_megabytes": value for name, value in megabytes.items()},
    }


def describe(figures: Mapping[str, Any]) -> str:
    line = f"frame {figures['frames']:,}: {figures['ratio']:.2f} times the cost of frame {YOUNG}"
    if figures["old_megabytes"] is not None:
        line += f", {figures['young_megabytes']:.0f} -> {figures['old_megabytes']:.0f} MB"
    return line
