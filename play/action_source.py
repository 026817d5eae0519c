"""Where actions come from when nobody presses keys: at random, from a file, from a list.

An ActionSource is called with the Player before each step and returns the action, or None when it has no more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.actions import ActionMap
from worldgen.data.recording import VIDEO_SUFFIXES
from worldgen.data.sidecar import find_sidecar, read_sidecar
from worldgen.errors import InputError
from worldgen.play.session import is_session

if TYPE_CHECKING:
    from worldgen.play.loop import Player

    ActionSource = Callable[[Player], Any]

HELD_SECONDS = 0.4  # how long a random action is held on average: about as long as a person presses a key


def sticky_random(actions: ActionMap, fps: float, seed: int) -> ActionSource:
    """Random actions, each held for a random while. The seed decides them; the same seed gives the same ones."""
    rng = np.random.Generator(np.random.Philox(key=seed & (2**64 - 1)))
    change = min(1.0, 1.0 / (HELD_SECONDS * fps))
    held: Any = None

    def choose(_: Player) -> Any:
        nonlocal held
        if rng.random() < change or held is None:
            held = actions.sample(rng)
        return held

    return choose


def repeating(rows: Sequence[Any]) -> ActionSource:
    """The rows in order, and from the first again when they run out."""
    index = 0

    def choose(_: Player) -> Any:
        nonlocal index
        index += 1
        return rows[(index - 1) % len(rows)]

    return choose


def read_actions(path: Path, actions: ActionMap) -> list[Any]:
    """The actions of a file, one per frame, each checked against the world's.

    .jsonl, .csv, .parquet: the rows of a recording (column `action`). .json: a list of actions or of such rows, or a
    session. A video: the rows beside it. Actions may be called by their names.
    """
    path = Path(path)
    if path.suffix in VIDEO_SUFFIXES:
        sidecar = find_sidecar(path)
        if sidecar is None:
            raise InputError(f"{path}: no .jsonl, .csv or .parquet with its actions beside it")
        path = sidecar
    try:
        if path.suffix == ".json":
            rows = _rows_of_json(json.loads(path.read_text(encoding="utf-8")), path)
        elif path.suffix in (".jsonl", ".csv", ".parquet"):
            rows = read_sidecar(path).actions
        else:
            raise InputError(f"{path}: actions come as .jsonl, .json, .csv or .parquet")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"cannot read the actions in {path}: {error}") from None
    return check_actions(rows, actions, str(path))


def check_actions(rows: Sequence[Any], actions: ActionMap, where: str = "actions") -> list[Any]:
    """The actions as a world takes them; InputError names the first row that is none."""
    if not rows:
        raise InputError(f"{where}: no actions in it")
    checked = []
    for i, row in enumerate(rows):
        if isinstance(row, str):
            if not actions.is_discrete or row not in actions.names:
                raise InputError(f"{where}, row {i}: no action is called {row!r}; there are {', '.join(actions.names)}")
            row = actions.names.index(row)
        try:
            actions.encode(row)
        except (InputError, TypeError, ValueError) as error:
            raise InputError(f"{where}, row {i}: {error}") from None
        checked.append(row)
    return checked


def _rows_of_json(raw: Any, path: Path) -> list[Any]:
    if is_session(raw):
        raw = raw["actions"]
    if not isinstance(raw, list):
        raise InputError(f"{path}: expected a list of actions or a session")
    return [row["action"] if isinstance(row, dict) and "action" in row else row for row in raw]
