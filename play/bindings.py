"""Which key or gamepad control presses which of a world's keys. A world names its own keys; a person may choose others.

Kept in keys.json of the user's folder, by world: {"doom": {"keys": {"a": "left"}, "pad": {"pad 0": "space"}}}.
A key that is not mentioned presses the world's key of the same name, unless that one was given to another.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from worldgen.actions import ActionMap
from worldgen.files import write_json
from worldgen.legend import legend_keys
from worldgen.play.user_folder import user_folder

PAD_DIRECTIONS = {
    "pad left": ("left", "a"), "pad right": ("right", "d"), "pad up": ("up", "w"), "pad down": ("down", "s"),
}  # fmt: skip
PAD_COMMANDS = {"pad 6": "rewind", "pad 7": "pause"}  # back and start of most gamepads
PAD_BUTTONS = tuple(f"pad {i}" for i in (0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13))


@dataclass
class Bindings:
    """keys: of the keyboard -> the world's; pad: control of a gamepad -> the world's."""

    keys: dict[str, str] = field(default_factory=dict)
    pad: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, actions: ActionMap) -> Bindings:
        """The world's own keys; on a gamepad the stick for the arrows or WASD, and the buttons for the rest."""
        names = legend_keys(actions)
        pad = {c: key for c, keys in PAD_DIRECTIONS.items() for key in keys[::-1] if key in names}
        rest = [key for key in names if key not in pad.values()]
        return cls({key: key for key in names}, {**pad, **dict(zip(PAD_BUTTONS, rest, strict=False))})

    @classmethod
    def load(cls, world: str, actions: ActionMap, path: Path | None = None) -> tuple[Bindings, str | None]:
        """Those a person has chosen for a world, and what is wrong with their file, in one line."""
        bindings, names = cls.of(actions), set(legend_keys(actions))
        path = keys_file() if path is None else path
        try:
            chosen = json.loads(path.read_text(encoding="utf-8")).get(world, {})
            for control, key in {**chosen.get("keys", {}), **chosen.get("pad", {})}.items():
                if key in names:
                    bindings.bind(str(control), key)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, AttributeError, TypeError) as error:
            return cls.of(actions), f"{path} is not read ({error}): the world's own keys are used"
        return bindings, None

    def bind(self, control: str, key: str) -> None:
        """control presses the world's key from now on, and no other of its kind does."""
        table = self.pad if control.startswith("pad ") else self.keys
        for old in [c for c, k in table.items() if k == key]:
            del table[old]
        table[control] = key

    def key_of(self, key: str) -> str:
        """The keyboard's key for one of the world's, to show to a person."""
        return next((control for control, k in self.keys.items() if k == key), "(no key)")

    def save(self, world: str, path: Path | None = None) -> None:
        path = keys_file() if path is None else path
        try:
            everything: Any = json.loads(path.read_text(encoding="utf-8"))
            everything = everything if isinstance(everything, dict) else {}
        except (OSError, ValueError):
            everything = {}
        write_json(path, {**everything, world: {"keys": self.keys, "pad": self.pad}})


def keys_file() -> Path:
    return user_folder() / "keys.json"
