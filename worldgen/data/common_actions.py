"""The action space that all recordings of a folder share."""

from __future__ import annotations

from typing import Any

from worldgen.actions import ActionMap
from worldgen.data.ingest import Recording
from worldgen.data.recorded_actions import encode_actions
from worldgen.errors import InputError


def common_actions(recordings: list[Recording]) -> ActionMap | None:
    """The action space of a folder: what its NAME.json say, else what fits all its sidecars. None without actions."""
    known = [(r, r.action_map) for r in recordings if r.action_map is not None]
    stated = [(r, m) for r, m in known if not r.is_inferred]
    inferred = [(r, m) for r, m in known if r.is_inferred]
    if stated:
        first, space = stated[0]
        for other, its_space in stated[1:]:
            if _facts(its_space) != _facts(space):
                raise _differ(first, space, other, its_space)
        for other, its_space in inferred:
            try:
                encode_actions(space, other.sidecar.actions if other.sidecar else [], other.path)
            except InputError:
                raise _differ(first, space, other, its_space) from None
        return space
    if not inferred:
        return None
    first, space = inferred[0]
    for other, its_space in inferred[1:]:
        kinds = {space.kind, its_space.kind}
        is_same_kind = len(kinds) == 1 or kinds == {"multi_binary", "multi_discrete"}
        if not is_same_kind or len(space.sizes) != len(its_space.sizes):
            raise _differ(first, space, other, its_space)
    spaces = [m for _, m in inferred]
    sizes = tuple(max(column) for column in zip(*(m.sizes for m in spaces), strict=True))
    if space.kind == "box":
        low = tuple(min(column) for column in zip(*(m.low for m in spaces), strict=True))
        high = tuple(max(column) for column in zip(*(m.high for m in spaces), strict=True))
        return ActionMap("box", sizes, low=low, high=high)
    is_mixed = len({m.kind for m in spaces}) > 1
    return ActionMap("multi_discrete" if is_mixed else space.kind, sizes)


def _facts(space: ActionMap) -> tuple[Any, ...]:
    """What two recordings of one game share; keys are a matter of taste."""
    return space.kind, space.sizes, space.names, space.low, space.high


def _differ(a: Recording, space: ActionMap, b: Recording, other: ActionMap) -> InputError:
    left, right = space.describe(), other.describe()
    if left == right:
        left, right = f"{left} named {list(space.names)}", f"{right} named {list(other.names)}"
    return InputError(
        f"{a.path} and {b.path} have different action spaces ({left} and {right}): train them as two worlds"
    )
