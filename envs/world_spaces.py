"""A world's facts as Gymnasium spaces, and the check of an action before anything is stepped."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from worldgen.actions import ActionMap
from worldgen.envs.env_errors import InvalidActionError
from worldgen.errors import InputError


def in_numpy(action: Any) -> Any:
    """What a torch policy chose, as an array; anything else as it is."""
    return action.detach().cpu().numpy() if hasattr(action, "detach") else action


def action_space(actions: ActionMap) -> spaces.Space:
    if actions.kind == "discrete":
        return spaces.Discrete(actions.sizes[0])
    if actions.kind == "multi_discrete":
        return spaces.MultiDiscrete(np.array(actions.sizes))
    if actions.kind == "multi_binary":
        return spaces.MultiBinary(len(actions.sizes))
    return spaces.Box(np.array(actions.low, np.float32), np.array(actions.high, np.float32), dtype=np.float32)


def check_action(actions: ActionMap, action: Any) -> None:
    """Raises InvalidActionError for what is not in action_space(actions); integers may have any dtype, floats too."""
    try:
        row = actions.encode(action)
    except InputError as refused:
        raise InvalidActionError(str(refused)) from None
    if actions.kind == "box" and not np.array_equal(row[:-1], np.asarray(action, np.float32)):  # encode() clips
        raise InvalidActionError(
            f"action {action!r} is outside {list(actions.low)} .. {list(actions.high)}: "
            "clip it, or wrap the environment in gymnasium.wrappers.ClipAction"
        )


def check_actions(actions: ActionMap, batch: Any, num_slots: int) -> None:
    """An action per game, (n,) or (n, components): raises InvalidActionError naming the first game with a wrong one."""
    try:
        rows = actions.encode(batch, num_slots)
        if actions.kind != "box" or np.array_equal(rows[:, :-1], np.asarray(batch, np.float32)):
            return
    except InputError:
        pass
    try:
        count = len(batch)
    except TypeError:  # one action for all of them
        count = None
    if count != num_slots:
        raise InvalidActionError(f"{num_slots} games take an action each, got {batch!r}")
    for i, action in enumerate(batch):
        try:
            check_action(actions, action)
        except InvalidActionError as wrong:
            raise InvalidActionError(f"game {i}: {wrong}; no game was stepped") from None
    raise InvalidActionError(f"{batch!r} is not an action for each of {num_slots} games")
