"""How a training goes: log.jsonl, TensorBoard and one line on the terminal."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from worldgen.training.checkpoint import Progress

if TYPE_CHECKING:
    from worldgen.training.fit import Fit


class Log:
    """log.jsonl, TensorBoard and one line on the terminal."""

    def __init__(self, folder: Path, say: Callable[[str], None]):
        from torch.utils.tensorboard import SummaryWriter

        self._path, self._board, self._say = folder / "log.jsonl", SummaryWriter(folder / "tensorboard"), say
        self._last = time.monotonic()

    def train(self, progress: Progress, fit: Fit, figures: dict[str, Tensor], num_frames: int, saving: float) -> None:
        """num_frames: since the last call. saving: share of the time that checkpoints took."""
        now = time.monotonic()
        rate = num_frames / max(1e-9, now - self._last)
        self._last = now
        values = {k: float(v) for k, v in figures.items()}
        self._write("train", progress, {**values, "frames_per_second": rate, "checkpoint_share": saving})
        left = (fit.steps - progress.step) * progress.seconds / progress.step
        if fit.minutes:
            left = min(left, 60 * fit.minutes - progress.seconds)
        self._say(
            f"  step {progress.step}/{fit.steps}  loss {values['loss']:.4f}  {rate:.0f} frames/s  "
            f"ETA {int(left) // 60}:{int(left) % 60:02d}"
        )

    def validation(self, progress: Progress, figures: dict[str, float], strip: np.ndarray | None) -> None:
        self._write("validation", progress, figures)
        self._say("  validation  " + "  ".join(f"{k} {v:.2f}" for k, v in figures.items()))
        if strip is not None:
            self._board.add_image("samples", strip, progress.step, dataformats="HWC")

    def pause(self, seconds: float) -> None:
        """Time that does not count as training"""
        self._last += seconds

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a full disk was said before
            self._board.close()

    def _write(self, kind: str, progress: Progress, figures: dict[str, float]) -> None:
        known = {k: v if math.isfinite(v) else None for k, v in figures.items()}
        row = {"kind": kind, "step": progress.step, "seconds": round(progress.seconds, 1), **known}
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, value in figures.items():
            self._board.add_scalar(f"{kind}/{name}", value, progress.step)


def usual_rate(folder: Path) -> float:
    """Of a stage's training, its folder with the log -> frames a second, the median of the lines of the log, of which
    the first tells how long compiling takes"""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    rates = [row["frames_per_second"] for row in rows if row["kind"] == "train"]
    return float(np.median(rates[1:] or rates))
