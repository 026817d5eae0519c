"""What of a recording is worth knowing before training on it: where nothing happens, where it was cut, what was
pressed, and which recordings are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from worldgen.actions import ActionMap
from worldgen.data.signals import Signals

# a picture stands still where at most this share of it changes by more than STILL_LEVELS
STILL_SHARE, STILL_LEVELS, STILL_SECONDS = 0.01, 3, 3.0
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


def find_cuts(grey: np.ndarray, times: np.ndarray) -> list[float]:
    """Seconds at which one scene gives way to another, flashes excepted: the first frame of each new scene. grey (n, h,
    w) uint8, times (n,) in seconds."""
    thumbs = grey.astype(np.int16)
    n = len(thumbs)
    step = np.abs(np.diff(thumbs, axis=0)).mean(axis=(1, 2))

    def apart(a: int, b: int) -> float:
        """Between two pictures, however the view moved from one to the other."""
        one, other = thumbs[max(0, a)], thumbs[min(n - 1, b)]
        inner = one[3:-3, 3:-3]
        h, w = inner.shape
        return min(float(np.abs(inner - other[y : y + h, x : x + w]).mean()) for y in range(7) for x in range(7))

    cuts: list[float] = []
    for i in np.flatnonzero(step > 20).tolist():
        around = np.concatenate([step[max(0, i - 8) : i], step[i + 1 : i + 9]])
        if not len(around) or step[i] < 3 * max(1.0, float(np.median(around))):
            continue
        # a flash is over four frames later, and was not there four frames before
        if min(apart(i, i + 1), apart(i, i + 4), apart(i - 3, i + 1)) > 20:
            cuts.append(round(float(times[i + 1]), 3))
    return cuts


def action_counts(space: ActionMap, rows: np.ndarray) -> dict[str, int]:
    """How often each action was taken, NULL as "unknown"; of several buttons or values, how often each was not zero."""
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
