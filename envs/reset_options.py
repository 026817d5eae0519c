"""What reset(options=...) understands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldgen.envs.env_errors import EnvError
from worldgen.envs.env_state import EnvState
from worldgen.world import State

CHOICES = "'random', an index, an image (h, w, 3) uint8 or a clip (t, h, w, 3) uint8"


@dataclass(frozen=True)
class ResetOptions:
    """options={"start": ..., "start_actions": ..., "start_sound": ..., "state": ..., "reset_mask": ...}, all optional.

    start: "random" (one of the world's own starts, drawn by the seed), the index of one, an image, or a clip; with n
        games also a list of n indices, of n images, or of n clips as long as each other.
    start_actions: the actions between the frames of a clip, t - 1 of them (per game, with n games); else unknown.
    start_sound: what was heard with the frames of a clip, as World.reset takes it; else unknown.
    state: a snapshot, of an environment or a World, that a new episode begins from. With a seed the game goes on as
        that seed has it: one snapshot has many futures.
    reset_mask: (n,) bool, the games that begin anew; a WorldVectorEnv's only.
    """

    start: Any = None
    start_actions: Any = None
    start_sound: Any = None
    state: State | None = None
    reset_mask: np.ndarray | None = None

    @classmethod
    def read(
        cls, options: Mapping[str, Any] | None, num_slots: int | None = None, *, includes_sound: bool = True
    ) -> ResetOptions:
        """num_slots: None for a WorldEnv."""
        if options is not None and not isinstance(options, Mapping):
            raise EnvError(f"options is a dict, got {type(options).__name__}")
        options = dict(options or {})
        begins = ("start", "start_actions", "start_sound")
        known = [*begins, "state", *(["reset_mask"] if num_slots else [])]
        if unknown := [key for key in options if key not in known]:
            raise EnvError(f"unknown reset option {unknown[0]!r}; choose {', '.join(known)}")
        state = options.get("state")
        if state is not None and not isinstance(state, State | EnvState):
            raise EnvError(f"a state is what snapshot() gives, got {type(state).__name__}")
        if state is not None and any(options.get(key) is not None for key in begins):
            raise EnvError("a game begins from a start or from a state, not from both")
        if options.get("start_sound") is not None and not includes_sound:
            raise EnvError("start_sound is for a game that is heard: make the environment with include_sound=True")
        return cls(
            _start(options.get("start"), num_slots),
            options.get("start_actions"),
            options.get("start_sound"),
            state.world if isinstance(state, EnvState) else state,
            _mask(options.get("reset_mask"), num_slots),
        )


def _start(start: Any, num_slots: int | None) -> Any:
    """As World.reset takes it."""
    if start is None or (isinstance(start, str) and start == "random"):
        return None
    if isinstance(start, list | tuple):
        return _starts(start, num_slots)
    if isinstance(start, str):
        raise EnvError(f"unknown start {start!r}; choose {CHOICES}")
    return start if isinstance(start, int) else np.asarray(start)


def _starts(starts: list | tuple, num_slots: int | None) -> np.ndarray:
    """One per game -> indices (n,) or clips (n, t, h, w, 3)"""
    if num_slots is None:
        raise EnvError(f"a start is {CHOICES}; got a {type(starts).__name__}")
    each = [np.asarray(start) for start in starts]
    if any(x.dtype.kind not in "iu" for x in each):
        raise EnvError(
            "a list of starts has an index, an image or a clip, uint8, for each game; None or 'random' is for all"
        )
    each = [x[None] if x.ndim == 3 else x for x in each]
    if len(each) != num_slots:
        raise EnvError(f"{len(each)} starts for {num_slots} games")
    if len({x.shape for x in each}) > 1:
        raise EnvError(f"the starts of the games differ in shape: {sorted({x.shape for x in each})}")
    return np.stack(each)


def _mask(mask: Any, num_slots: int | None) -> np.ndarray | None:
    if mask is None:
        return None
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != (num_slots,):
        raise EnvError(f"reset_mask is ({num_slots},) bool, got {mask.dtype} {mask.shape}")
    if not mask.any():
        raise EnvError("reset_mask chooses no game: set at least one")
    return mask
