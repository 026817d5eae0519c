"""What of a recording is worth knowing before training on it: where nothing happens, where it was cut, whether its
actions belong to its pictures, and which recordings are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from worldgen.actions import ActionMap
from worldgen.data.signals import Signals

# a picture stands still where at most this share of it changes by more than STILL_LEVELS
STILL_SHARE, STILL_LEVELS, STILL_SECONDS = 0.01, 3, 3.0
MAX_LAG = 8
Span = tuple[float, float]


def still_spans(signals: Signals, seconds: float) -> list[Span]:
    """(start, end) in seconds where the picture stands still for STILL_SECONDS or more: menus, pauses, loading, a
    cursor over them. seconds: of a frame."""
    change = np.abs(np.diff(signals.thumbs.astype(np.int16), axis=0)) > STILL_LEVELS
    is_still = change.mean(axis=(1, 2)) <= STILL_SHARE
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_still, [False]]).astype(int)))
    spans = [
        (float(signals.times[first]), float(signals.times[last] + seconds))
        for first, last in zip(edges[::2], edges[1::2], strict=True)
    ]
    return [(round(a, 3), round(b, 3)) for a, b in spans if b - a >= STILL_SECONDS]


def find_cuts(signals: Signals) -> list[float]:
    """Seconds at which one scene gives way to another, flashes excepted: the first frame of each new scene."""
    thumbs = signals.thumbs.astype(np.int16)
    step = np.abs(np.diff(thumbs, axis=0)).mean(axis=(1, 2))
    cuts: list[float] = []
    for i in np.flatnonzero(step > 20):
        around = np.concatenate([step[max(0, i - 8) : i], step[i + 1 : i + 9]])
        if not len(around) or step[i] < 5 * max(1.0, float(np.median(around))):
            continue
        before, after = thumbs[max(0, i - 1)], thumbs[min(len(thumbs) - 1, i + 3)]
        if np.abs(before - after).mean() > 20:
            cuts.append(round(float(signals.times[i + 1]), 3))
    return cuts


def action_counts(space: ActionMap, rows: np.ndarray) -> dict[str, int]:
    """How often each action (each held button, each choice) was taken, NULL as "unknown"; of box actions, how often each
    value was not zero."""
    is_null = (rows == space.null()).all(axis=1) if space.kind != "box" else rows[:, -1] > 0
    known = rows[~is_null]
    counts: dict[str, int] = {}
    if space.is_discrete:
        found = np.bincount(known[:, 0], minlength=space.sizes[0])
        counts = {name: int(n) for name, n in zip(space.names, found, strict=True)}
    else:
        values = space.values(known)
        counts = {name: int((values[:, i] != 0).sum()) for i, name in enumerate(space.names)}
    return counts | ({"unknown": int(is_null.sum())} if is_null.any() else {})


# How the picture moves, and which action explains it


def motion_features(thumbs: np.ndarray) -> np.ndarray:
    """(m, h, w) uint8 -> (m - 1, 36): of the step from each picture to the next, in 4 x 3 fields, how far it moved
    sideways and up (one step of Lucas and Kanade 1981) and how much it changed."""
    pictures = thumbs.astype(np.float32)
    middle = (pictures[1:] + pictures[:-1]) / 2
    change = pictures[1:] - pictures[:-1]
    gy, gx = np.gradient(middle, axis=(1, 2))

    def fields(values: np.ndarray) -> np.ndarray:
        m, h, w = values.shape
        return values.reshape(m, 3, h // 3, 4, w // 4).sum(axis=(2, 4)).reshape(m, 12)

    steadiness = 50.0  # of a field without edges, no motion is read
    dx = -fields(gx * change) / (fields(gx**2) + steadiness)
    dy = -fields(gy * change) / (fields(gy**2) + steadiness)
    return np.concatenate([dx, dy, np.log1p(fields(np.abs(change)))], axis=1)


class LagEvidence:
    """Sums from which the lag of the actions is told: of one recording, or of many added up.

    At lag k the step from frame t to t + 1 is explained by the action of row t - k. Rows that follow contract C1 peak at
    0, those written k frames late at -k; above 0 the game, or the recorder's picture, answers late.
    """

    def __init__(self, width: int):
        self._width = width
        size = (2 * MAX_LAG + 1) * width + 1
        self._xx, self._xy, self._yy = np.zeros((size, size)), np.zeros((size, 36)), np.zeros(36)
        self.num_steps = 0

    def add(self, signals: Signals, actions: np.ndarray) -> None:
        """actions (rows, width) float: what the network may see of each row, NaN where it is unknown."""
        rows, n = signals.rows, len(actions)
        is_step = (np.diff(rows) == 1) & (rows[:-1] >= MAX_LAG) & (rows[:-1] + MAX_LAG < n)
        at = rows[:-1][is_step]
        if not len(at):
            return
        window = actions[at[:, None] - np.arange(-MAX_LAG, MAX_LAG + 1)]  # (s, lags, width)
        x = window.reshape(len(at), -1)
        is_known = np.isfinite(x).all(axis=1)
        x = np.concatenate([x[is_known], np.ones((int(is_known.sum()), 1))], axis=1)
        y = motion_features(signals.thumbs)[is_step][is_known].astype(np.float64)
        self._xx += x.T @ x
        self._xy += x.T @ y
        self._yy += (y**2).sum(axis=0)
        self.num_steps += len(x)

    def merge(self, other: LagEvidence) -> None:
        self._xx += other._xx
        self._xy += other._xy
        self._yy += other._yy
        self.num_steps += other.num_steps

    def explained(self) -> np.ndarray:
        """(17,) for lags -8 to 8: how much of the picture's steps only the action at that lag explains, the actions at
        all other lags given, so that held keys do not smear it. In variance of whitened motion."""
        n = self.num_steps
        if n < 20 * len(self._xx):
            return np.zeros(2 * MAX_LAG + 1)
        mean = self._xy[-1] / n
        scale = np.maximum(self._yy / n - mean**2, 1e-9)

        def residual(keep: np.ndarray) -> np.ndarray:
            xx = self._xx[np.ix_(keep, keep)] + 1e-3 * np.eye(len(keep)) * n / len(self._xx)
            return self._yy - (self._xy[keep] * np.linalg.solve(xx, self._xy[keep])).sum(axis=0)

        every = np.arange(len(self._xx))
        whole = residual(every)
        gains = []
        for k in range(2 * MAX_LAG + 1):
            rest = np.delete(every, slice(k * self._width, (k + 1) * self._width))
            gains.append(((residual(rest) - whole) / n / scale).sum())
        return np.array(gains)

    def lag(self) -> int | None:
        """Frames by which the picture answers the rows; None where too little is explained to say."""
        gains = self.explained()
        best = int(np.argmax(gains))
        # what chance explains: 36 features by width columns, over n; a clear peak is several times that and its rivals
        chance = 36 * self._width / max(1, self.num_steps)
        rivals = np.delete(gains, best)
        if gains[best] < 3 * chance or gains[best] < 1.5 * rivals.max(initial=0.0):
            return None
        return best - MAX_LAG


def lag_inputs(space: ActionMap, rows: np.ndarray) -> np.ndarray:
    """Network rows (n, width) -> (n, k) float: one column per choice but the first, or the values; NaN where NULL."""
    if space.kind == "box":
        values = rows[:, :-1].astype(np.float64)
        values[rows[:, -1] > 0] = np.nan
        return values
    columns = []
    for i, size in enumerate(space.sizes):
        one_hot = (rows[:, i, None] == np.arange(1, min(size, 33))).astype(np.float64)
        one_hot[rows[:, i] == size] = np.nan
        columns.append(one_hot)
    return np.concatenate(columns, axis=1)


# Recordings that are the same


def picture_hashes(thumbs: np.ndarray) -> np.ndarray:
    """(m, 18, 24) -> (m,) uint64: which of 8 x 8 fields is brighter than its right neighbour (a difference hash)."""
    m = len(thumbs)
    wide = np.linspace(0, thumbs.shape[2], 10).astype(int)[:-1]
    tall = np.linspace(0, thumbs.shape[1], 9).astype(int)[:-1]
    fields = np.add.reduceat(np.add.reduceat(thumbs.astype(np.int32), tall, axis=1), wide, axis=2)
    bits = (fields[:, :, 1:] > fields[:, :, :-1] + 8).reshape(m, 64)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).ravel()


def near_duplicates(files: Sequence[Signals]) -> list[tuple[int, int, float]]:
    """(i, j, share), i < j: recordings that show the same at a constant distance in time (a re-encoding, a cut-out);
    share: of what the shorter one shows. Pictures that many recordings share, or that stand still, prove nothing."""
    hashes, owner, moment = [], [], []
    for i, signals in enumerate(files):
        if not len(signals.thumbs):
            continue
        found = picture_hashes(signals.thumbs)
        is_new = np.append(True, found[1:] != found[:-1])
        hashes.append(found[is_new])
        owner.append(np.full(int(is_new.sum()), i))
        moment.append(signals.times[is_new])
    if not hashes:
        return []
    every, owners, moments = np.concatenate(hashes), np.concatenate(owner), np.concatenate(moment)
    order = np.argsort(every, kind="stable")
    every, owners, moments = every[order], owners[order], moments[order]
    groups = np.flatnonzero(np.append(True, every[1:] != every[:-1]))
    sizes = np.diff(np.append(groups, len(every)))
    votes: Counter[tuple[int, int, int]] = Counter()
    counted: Counter[int] = Counter()
    for start, size in zip(groups.tolist(), sizes.tolist(), strict=True):
        names, times = owners[start : start + size], moments[start : start + size]
        if size > 16:
            continue
        counted.update(names.tolist())
        seen = set()
        for a in range(size):
            for b in range(a + 1, size):
                if names[a] != names[b]:
                    (i, ti), (j, tj) = sorted([(int(names[a]), times[a]), (int(names[b]), times[b])])
                    seen.add((i, j, round((ti - tj) * 2)))
        votes.update(seen)
    best: dict[tuple[int, int], int] = {}
    for (i, j, offset), number in votes.items():
        number += votes.get((i, j, offset + 1), 0)
        best[i, j] = max(best.get((i, j), 0), number)
    pairs = [(i, j, n / max(1, min(counted[i], counted[j]))) for (i, j), n in best.items() if n >= 5]
    return sorted((i, j, round(min(1.0, share), 2)) for i, j, share in pairs if share >= 0.3)
