"""Doom's buttons as one list of actions: each button alone, and the combinations that players use."""

from __future__ import annotations

from collections.abc import Sequence

from worldgen.actions import ActionMap

TURNS = ("TURN_LEFT", "TURN_RIGHT")
STRAFES = ("MOVE_LEFT", "MOVE_RIGHT")
NAMES = {"MOVE_LEFT": "strafe left", "MOVE_RIGHT": "strafe right", "SPEED": "run"}
KEYS = {
    "TURN_LEFT": "left",
    "TURN_RIGHT": "right",
    "MOVE_FORWARD": "up",
    "MOVE_BACKWARD": "down",
    "MOVE_LEFT": "a",
    "MOVE_RIGHT": "d",
    "ATTACK": "space",
    "USE": "e",
    "JUMP": "j",
    "CROUCH": "c",
    "SPEED": "left shift",
    "SELECT_NEXT_WEAPON": "x",
    "SELECT_PREV_WEAPON": "z",
}
NOT_ALONE = {"SPEED", "STRAFE"}  # do nothing unless another button is held
PAIRS = [
    *[("MOVE_FORWARD", turn) for turn in TURNS],
    *[(turn, "ATTACK") for turn in TURNS],
    *[(strafe, "ATTACK") for strafe in STRAFES],
    ("MOVE_FORWARD", "ATTACK"),
    *[(strafe, turn) for strafe, turn in zip(STRAFES, reversed(TURNS), strict=True)],  # circling
    ("SPEED", "MOVE_FORWARD"),
    *[("SPEED", "MOVE_FORWARD", turn) for turn in TURNS],
]


def discrete_actions(buttons: Sequence[str]) -> tuple[ActionMap, list[list[float]]]:
    """Buttons of a scenario -> the actions, and for each the value of every button.

    Analogue buttons (..._DELTA) and direct weapon numbers are left out: next and previous weapon reach the same.
    """
    usable = [b for b in buttons if not b.endswith("_DELTA") and not b.startswith("SELECT_WEAPON")]
    combos: list[tuple[str, ...]] = [()]
    combos += [(b,) for b in usable if b not in NOT_ALONE]
    combos += [pair for pair in PAIRS if set(pair) <= set(usable)]
    has_turns = bool(set(TURNS) & set(usable))
    # a game that only strafes is steered with the arrows
    keys = KEYS if has_turns else KEYS | {"MOVE_LEFT": "left", "MOVE_RIGHT": "right"}
    actions = ActionMap.discrete(
        [" + ".join(_name(b) for b in combo) or "idle" for combo in combos],
        [[keys.get(b, b.lower()) for b in combo] for combo in combos],
    )
    return actions, [[float(b in combo) for b in buttons] for combo in combos]


def _name(button: str) -> str:
    return NAMES.get(button, button.lower().replace("_", " "))
