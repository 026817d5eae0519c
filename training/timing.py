"""Does the world react in time? The frame at which it does what the recording does, early or late."""

from __future__ import annotations

import numpy as np

from worldgen.training.replay import Replay

FRAMES = 16  # after the prompt that are compared: drift is measured elsewhere
REACH = 3  # frames that it may be off

KEYS = {
    "lag": "frames by which the changes of the generated picture come later than those of the recorded one, where the "
    "two agree best: 0 is right, 1 is a world that does everything one frame late; null where one of them is still",
    "lag_correlation": "how well they agree there, 1 at best",
    "correlation": "how well they agree at a lag of 0",
}


def timing_figures(replay: Replay) -> dict[str, float | int | None]:
    """-> the keys of KEYS"""
    t = min(FRAMES, replay.num_frames)
    made = np.diff(np.concatenate([replay.shown[:, None], replay.made[:, :t]], axis=1).astype(np.float32), axis=1)
    real = np.diff(np.concatenate([replay.last[:, None], replay.real[:, :t]], axis=1).astype(np.float32), axis=1)
    found = {}
    for lag in range(-min(REACH, t - 1), min(REACH, t - 1) + 1):
        first, second = max(0, lag), max(0, -lag)
        n = t - abs(lag)
        a, b = made[:, first : first + n], real[:, second : second + n]
        size = float(np.sqrt(np.square(a).sum(dtype=np.float64) * np.square(b).sum(dtype=np.float64)))
        if size > 0:
            found[lag] = float((a * b).sum(dtype=np.float64)) / size
    if 0 not in found:
        return {"lag": None, "lag_correlation": None, "correlation": None}
    best = max(found, key=lambda lag: (found[lag], -abs(lag)))
    return {"lag": best, "lag_correlation": found[best], "correlation": found[0]}
