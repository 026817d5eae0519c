"""Actions as recordings hold them: what they look like, and as the rows that networks read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.actions import ActionMap
from worldgen.errors import InputError


def encode_actions(action_map: ActionMap, actions: list[Any], source: Path) -> np.ndarray:
    """Actions as recorded -> (t, width) rows that networks read; NULL where None. Errors name the file and row."""
    rows = action_map.null(len(actions))
    known = [i for i, a in enumerate(actions) if a is not None]
    if not known:
        return rows
    is_scalar_box = action_map.kind == "box" and len(action_map.sizes) == 1

    def values(i: int) -> Any:
        return [actions[i]] if is_scalar_box and not isinstance(actions[i], list) else actions[i]

    try:
        rows[known] = action_map.encode([values(i) for i in known], len(known))
        return rows
    except (InputError, ValueError, TypeError, OverflowError):
        pass
    for i in known:  # again, to name the row
        try:
            rows[i] = action_map.encode(values(i))
        except (InputError, ValueError, TypeError, OverflowError) as error:
            raise InputError(f"{source}, row {i}: {error}") from None
    return rows


def infer_action_map(actions: Iterable[Any], source: Path) -> ActionMap:
    """What the actions of a recording without NAME.json look like: integers are discrete, lists of 0 and 1 buttons,
    other lists of integers multi-discrete, floats continuous."""
    known = [a for a in actions if a is not None]
    try:
        return _infer(known, source)
    except InputError as error:
        text = str(error)
        raise error if text.startswith(str(source)) else InputError(f"{source}: {text}") from None


def _infer(known: list[Any], source: Path) -> ActionMap:
    if any(isinstance(a, str) for a in known):
        word = next(a for a in known if isinstance(a, str))
        raise InputError(f"{source}: action {word!r} is a word; write integers, and the names into {source.stem}.json")
    has_lists = isinstance(known[0], list)
    try:
        table = np.array(known)
    except (ValueError, OverflowError):
        table = np.zeros(0, object)
    if table.ndim != 1 + has_lists or table.dtype.kind not in "biuf" or not table.size:
        raise InputError(f"{source}: the actions differ in kind or length from row to row")
    if not np.isfinite(table).all():
        raise InputError(f"{source}: an action is not finite")
    # parquet and csv turn integers with gaps into floats
    if not has_lists and (table == np.round(table)).all():
        if table.min() < 0:
            raise InputError(f"{source}: action {int(table.min())} is negative; discrete actions count from 0")
        return ActionMap("discrete", (int(table.max()) + 1,))
    if has_lists and table.dtype.kind in "biu" and table.min() >= 0:
        largest = table.astype(np.int64).max(axis=0)
        if largest.max() <= 1:
            return ActionMap("multi_binary", (2,) * table.shape[1])
        return ActionMap("multi_discrete", tuple(int(n) + 1 for n in largest))
    values = table.reshape(len(table), -1).astype(np.float64)
    low, high = np.minimum(values.min(axis=0), -1.0), np.maximum(values.max(axis=0), 1.0)
    return ActionMap("box", (0,) * values.shape[1], low=tuple(low.tolist()), high=tuple(high.tolist()))
