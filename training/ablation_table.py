"""The table of an ablation, as Markdown, and who of it is worth another look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Results = dict[str, list[dict[str, Any]]]  # variant -> figures, one dict a seed

COLUMNS = {
    "skill_changed_1": "1",
    "skill_changed_4": "4",
    "skill_changed_16": "16",
    "skill_changed_64": "64 frames",
    "skill_16": "whole frames, 16",
    "skill_64": "64",
    "delta_psnr": "delta PSNR",
    "inverse_dynamics": "actions read",
    "inverse_dynamics_random": "random ones",
    "gradient_energy_ratio_16": "sharpness",
    "loss_of_one_step": "nfe 1 costs",
    "frames_per_second": "frames/s",
}
PRECISION = {"frames_per_second": 0, "inverse_dynamics": 2, "inverse_dynamics_random": 2, "gradient_energy_ratio_16": 2}
EXPLANATION = (
    "dB over repeating the last true frame, on the pixels that change in the recordings, 1, 4, 16 and 64 frames after "
    "the prompt, then on whole frames. Delta PSNR (4 frames): recorded actions against random ones. Actions read: "
    "accuracy of inverse dynamics on generated frames over that on real ones, under recorded and under random actions. "
    "Sharpness: gradient energy over that of real frames, 16 frames. Nfe 1 costs: dB against 4 steps a frame, 16 "
    "frames. Several seeds: mean and, in brackets, half of what they are apart."
)


def markdown(results: Results, about: dict[str, str], base: str, facts: str, command: str) -> str:
    """results in the order of the rows"""
    head = ["variant", "what is changed", *COLUMNS.values(), "M parameters", "seeds"]
    lines = ["# Ablation of the dynamics", "", facts + ".", ""]
    if command:
        lines += ["```bash", command, "```", ""]
    lines += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, runs in results.items():
        cells = [_cell([run.get(key) for run in runs], PRECISION.get(key, 2)) for key in COLUMNS]
        title = f"**{name}**" if name == base else name
        size = f"{runs[0]['parameters'] / 1e6:.2f}"
        lines.append(f"| {' | '.join([title, about[name], *cells, size, str(len(runs))])} |")
    return "\n".join([*lines, "", EXPLANATION, ""])


def _cell(values: Sequence[float | None], precision: int) -> str:
    known = [v for v in values if v is not None]
    if not known:
        return "-"
    mean = f"{np.mean(known):.{precision}f}"
    return f"{mean} ({np.ptp(known) / 2:.{precision}f})" if len(known) > 1 else mean


def winners(results: Results, base: str, most: int) -> list[str]:
    """Variants that gain more than they lose, in control and on changed pixels at 16 and 64 frames, the best first"""

    def gain(name: str, key: str) -> float:
        ours, its = results[name][0].get(key), results[base][0].get(key)
        return float(ours - its) if ours is not None and its is not None else 0.0

    judged = ("delta_psnr", "skill_changed_16", "skill_changed_64")
    gains = {n: sum(gain(n, key) for key in judged) for n in results if n != base}
    return sorted((n for n, g in gains.items() if g > 0), key=lambda n: -gains[n])[:most]
