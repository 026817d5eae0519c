"""Does the player move as the game would let it? Its steps through the level, read off the frames.

A step is how far the player has moved in the picture, and how far the picture has scrolled: block matching of its
lowest quarter, where a platformer's ground is. Recorded frames are read in the same way, to know what that gets wrong.
"""

from __future__ import annotations

import numpy as np

KEYS = {
    "steps": "pairs of neighbouring generated frames in which the player was found",
    "step_error": "kinematic consistency: mean distance of its generated step from the true one, pixels a frame",
    "step_error_recorded": "the same when reading the recorded frames: what the method gets wrong",
    "step_error_of_copy": "the same of a player that stands still",
    "possible": "share of its generated changes of speed that lie within those of the recordings (the middle 98 %, and "
    "a pixel more)",
    "possible_recorded": "the same when reading the recorded frames",
    "speed_ratio": "mean size of generated steps over that of the true ones: 0 stands still",
}
REACH = 5  # pixels that it may scroll from one frame to the next


def scroll(before: np.ndarray, after: np.ndarray) -> float:
    """before, after (h, w, 3) uint8 -> pixels by which the camera has moved to the right, to a fraction of one; 0 where
    nothing can be seen to move.

    The sum of absolute differences at every whole shift up to REACH, and the lowest point of the parabola through the
    best of them and its neighbours.
    """
    h, w, _ = before.shape
    reach = min(REACH, w // 4)
    a, b = (x[h - max(1, h // 4) :].astype(np.float32) for x in (before, after))
    middle = b[:, reach : w - reach]
    shifts = np.arange(-reach, reach + 1)
    # what is at x now was at x + shift before
    costs = np.array([np.abs(a[:, reach + s : w - reach + s] - middle).mean() for s in shifts])
    if np.ptp(costs) < 1e-6:
        return 0.0
    order = np.lexsort((np.abs(shifts), costs))
    best = int(order[0])
    if not 0 < best < len(shifts) - 1:
        return float(shifts[best])
    left, here, right = costs[best - 1 : best + 2]
    bend = left - 2 * here + right
    return float(shifts[best] + (0.5 * (left - right) / bend if bend > 0 else 0.0))


def kinematic_figures(
    true: np.ndarray, places: dict[str, np.ndarray], frames: dict[str, np.ndarray]
) -> dict[str, float | int]:
    """true (c, t, 2): steps (dy, dx) of the player through the level; places {"real", "made"} (c, t + 1, 2): (y, x) in
    the picture, nan where it was not found; frames likewise (c, t + 1, h, w, 3) uint8; all in pixels of these."""
    steps = {}
    for name, at in places.items():
        scrolled = [[scroll(a, b) for a, b in zip(clip, clip[1:], strict=False)] for clip in frames[name]]
        steps[name] = np.diff(at, axis=1)
        steps[name][..., 1] += np.array(scrolled).reshape(steps[name].shape[:2])
    errors = {name: np.linalg.norm(x - true, axis=-1) for name, x in steps.items()}
    seen = {name: ~np.isnan(x) for name, x in errors.items()}
    sizes = np.linalg.norm(true, axis=-1)
    changes = np.diff(true, axis=1).reshape(-1, 2)
    low, high = np.percentile(changes, [1, 99], axis=0) if len(changes) else np.zeros((2, 2))

    def possible(x: np.ndarray) -> float:
        change = np.diff(x, axis=1).reshape(-1, 2)
        change = change[~np.isnan(change).any(1)]
        return _mean(((change >= low - 1) & (change <= high + 1)).all(1))

    speed = _mean(sizes[seen["made"]])
    return {
        "steps": int(seen["made"].sum()),
        "step_error": _mean(errors["made"][seen["made"]]),
        "step_error_recorded": _mean(errors["real"][seen["real"]]),
        "step_error_of_copy": _mean(sizes.ravel()),
        "possible": possible(steps["made"]),
        "possible_recorded": possible(steps["real"]),
        "speed_ratio": _mean(np.linalg.norm(steps["made"], axis=-1)[seen["made"]]) / speed if speed else float("nan"),
    }


def _mean(x: np.ndarray) -> float:
    return float(x.mean()) if x.size else float("nan")
