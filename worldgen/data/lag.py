"""Whether the actions of a recording belong to its pictures: by how many frames the picture answers the rows.

At lag k the step from frame t to t + 1 is explained by the action of row t - k. Rows that follow contract C1 give 0,
rows written k frames late give -k; above 0 the game, or the recorder's picture, answers late.
"""

from __future__ import annotations

import numpy as np

from worldgen.actions import ActionMap
from worldgen.data.signals import Signals

MAX_LAG = 8
NUM_LAGS = 2 * MAX_LAG + 1
WINDOW = 2 * MAX_LAG  # kept of each recording, so that it can be shifted afterwards
NUM_COLUMNS = 8
NUM_FEATURES = 36


def motion_features(thumbs: np.ndarray) -> np.ndarray:
    """(m, 18, 24) uint8 -> (m - 1, 36): of the step from each picture to the next, in 4 x 3 fields, how far it moved
    sideways and up (one step of Lucas and Kanade 1981) and how much it changed."""
    pictures = thumbs.astype(np.float32)
    middle = (pictures[1:] + pictures[:-1]) / 2
    change = pictures[1:] - pictures[:-1]
    gy, gx = np.asarray(np.gradient(middle, axis=1)), np.asarray(np.gradient(middle, axis=2))

    def fields(values: np.ndarray) -> np.ndarray:
        m, h, w = values.shape
        return values.reshape(m, 3, h // 3, 4, w // 4).sum(axis=(2, 4)).reshape(m, 12)

    steadiness = 50.0  # where a field has no edges, no motion is read
    dx = -fields(gx * change) / (fields(gx**2) + steadiness)
    dy = -fields(gy * change) / (fields(gy**2) + steadiness)
    return np.concatenate([dx, dy, np.log1p(fields(np.abs(change)))], axis=1)


def lag_inputs(space: ActionMap, rows: np.ndarray) -> np.ndarray:
    """Network rows (n, width) -> (n, 8) float: a column per choice but the first of each component, or the values, as
    many as fit; NaN where the action is not known."""
    n = len(rows)
    out = np.zeros((n, NUM_COLUMNS))
    if space.kind == "box":
        values = rows[:, :-1][:, :NUM_COLUMNS].astype(np.float64)
        out[:, : values.shape[1]] = values
        out[rows[:, -1] > 0] = np.nan
        return out
    columns = [rows[:, i] == choice for i, size in enumerate(space.sizes) for choice in range(1, min(size, 9))]
    for i, column in enumerate(columns[:NUM_COLUMNS]):
        out[:, i] = column
    out[(rows == np.array(space.sizes)).any(axis=1)] = np.nan
    return out


class LagEvidence:
    """Sums from which the lag is told: of one recording, or of many added up."""

    def __init__(self) -> None:
        size = (2 * WINDOW + 1) * NUM_COLUMNS + 1
        self._xx = np.zeros((size, size), np.float32)
        self._xy, self._yy = np.zeros((size, NUM_FEATURES)), np.zeros(NUM_FEATURES)
        self.num_steps = 0

    def add(self, signals: Signals, inputs: np.ndarray) -> None:
        """inputs: lag_inputs() of all rows of the recording."""
        rows, n = signals.rows, len(inputs)
        is_step = (np.diff(rows) == 1) & (rows[:-1] >= WINDOW) & (rows[:-1] + WINDOW < n)
        features = motion_features(signals.thumbs)[is_step].astype(np.float64) if is_step.any() else None
        at = rows[:-1][is_step]
        for first in range(0, len(at), 4096):
            part = at[first : first + 4096]
            x = inputs[part[:, None] - np.arange(-WINDOW, WINDOW + 1)].reshape(len(part), -1)
            is_known = np.isfinite(x).all(axis=1)
            x = np.concatenate([x[is_known], np.ones((int(is_known.sum()), 1))], axis=1)
            assert features is not None
            y = features[first : first + 4096][is_known]
            self._xx += (x.T @ x).astype(np.float32)
            self._xy += x.T @ y
            self._yy += (y**2).sum(axis=0)
            self.num_steps += len(x)

    def merge(self, other: LagEvidence) -> None:
        self._xx += other._xx
        self._xy += other._xy
        self._yy += other._yy
        self.num_steps += other.num_steps

    def _sums(self, used: np.ndarray, shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Of the columns that are used at lags -8 to 8, in rows that are moved by shift; lag by lag, the constant
        last."""
        lags = WINDOW - MAX_LAG + shift + np.arange(NUM_LAGS)
        kept = np.append((lags[:, None] * NUM_COLUMNS + used).ravel(), len(self._xx) - 1)
        return self._xx[np.ix_(kept, kept)].astype(np.float64), self._xy[kept]

    def _scale(self) -> np.ndarray:
        """Variance of each feature."""
        n = max(1, self.num_steps)
        return np.maximum(self._yy / n - (self._xy[-1] / n) ** 2, 1e-9)

    @property
    def _used(self) -> np.ndarray:
        """The columns of actions that were taken."""
        return np.flatnonzero(np.diag(self._xx)[:-1].reshape(-1, NUM_COLUMNS).any(axis=0))

    @property
    def _is_enough(self) -> bool:
        return self.num_steps >= 20 * NUM_LAGS * len(self._used) > 0

    def explained(self) -> np.ndarray:
        """(17,) for lags -8 to 8: how much of the picture's steps only the action at that lag explains, the actions at
        all other lags given, so that held keys do not smear it. In variances of the features."""
        n, used = self.num_steps, self._used
        if not self._is_enough:
            return np.zeros(NUM_LAGS)
        xx, xy = self._sums(used)
        every = np.arange(len(xx))
        whole = self._unexplained(xx, xy, every)
        gains = []
        for k in range(NUM_LAGS):
            rest = np.delete(every, slice(k * len(used), (k + 1) * len(used)))
            gains.append(((self._unexplained(xx, xy, rest) - whole) / n / self._scale()).sum())
        return np.array(gains)

    def _unexplained(self, xx: np.ndarray, xy: np.ndarray, keep: np.ndarray) -> np.ndarray:
        return self._yy - (xy[keep] * np.linalg.solve(_ridge(xx[np.ix_(keep, keep)], self.num_steps), xy[keep])).sum(0)

    def lag(self) -> int | None:
        """Frames by which the picture answers the rows: the earliest lag that explains a third as much as the best one
        does (an animation goes on for long; nothing comes before its cause). None where too little is explained."""
        gains = self.explained()
        # what chance explains: every column, every feature, over the steps
        chance = NUM_FEATURES * len(self._used) / max(1, self.num_steps)
        if not gains.max() > 3 * chance:
            return None
        return int(np.argmax(gains >= gains.max() / 3)) - MAX_LAG

    def weights(self) -> np.ndarray | None:
        """How the actions around a step explain it; None where too little is known to say."""
        if not self._is_enough:
            return None
        xx, xy = self._sums(self._used)
        return np.linalg.solve(_ridge(xx, self.num_steps), xy)

    def shift_against(self, others: LagEvidence, weights: np.ndarray) -> int | None:
        """By how many frames its pictures answer its rows later than in most others: 0 where they agree. weights: of
        the others. None where it is too short, or shows too little, to say."""
        if self.num_steps < 100:
            return None
        fits, scale, used = [], others._scale(), others._used
        for shift in range(-MAX_LAG, MAX_LAG + 1):
            xx, xy = self._sums(used, shift)
            missed = self._yy - 2 * (weights * xy).sum(0) + (weights * (xx @ weights)).sum(0)
            fits.append(-(missed / self.num_steps / scale).sum())
        gain = np.array(fits) - np.median(fits)
        best = int(np.argmax(gain))
        rivals = np.delete(gain, best)
        is_clear = gain[best] > 0.02 * NUM_FEATURES and gain[best] > 1.2 * rivals.max()
        return best - MAX_LAG if is_clear else None


def _ridge(xx: np.ndarray, n: int) -> np.ndarray:
    return xx + 1e-4 * max(1, n) * np.eye(len(xx))
