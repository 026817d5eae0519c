"""Names and keys of a world's actions, chosen by a person: they are written into world.json and nowhere else.

A world's hash is of its weights and its graphs' manifest is of its graphs: names and keys are in neither, so exports,
snapshots and saved games stay valid, those of a published world too.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from worldgen.actions import ActionMap
from worldgen.config import WorldConfig
from worldgen.errors import InputError
from worldgen.files import write_json

MAX_NAME = 32
NAMED_KEYS = (
    "left", "right", "up", "down", "space", "return", "tab", "backspace", "delete", "insert", "home", "end", "page up",
    "page down", "left shift", "right shift", "left ctrl", "right ctrl", "left alt", "right alt", "caps lock",
    *(f"f{i}" for i in range(1, 13)), *(f"[{i}]" for i in range(10)),
)  # fmt: skip


def rename_actions(world: Path, names: Mapping[int, str], keys: Mapping[int, Sequence[str]]) -> ActionMap:
    """Writes new names and keys of some actions into WORLD/world.json -> all of them."""
    config = WorldConfig.load(world / "world.json")
    actions = renamed(config.actions, names, keys)
    try:
        write_json(world / "world.json", replace(config, actions=actions).to_json())
    except OSError as error:
        raise InputError(f"{world / 'world.json'} cannot be written ({error.strerror}): copy the world") from None
    return actions


def renamed(actions: ActionMap, names: Mapping[int, str], keys: Mapping[int, Sequence[str]]) -> ActionMap:
    """With these names and keys. Raises InputError where two actions would have the same name, one of these keys is
    another action's too, or a key is none."""
    if not actions.is_discrete:
        raise InputError(f"names and keys are given to a list of actions; this world takes {actions.describe()}")
    count = actions.sizes[0]
    if wrong := [i for i in (*names, *keys) if not 0 <= i < count]:
        raise InputError(f"there is no action {wrong[0]}: the world has 0 to {count - 1}")
    all_names = [names.get(i, old).strip() for i, old in enumerate(actions.names)]
    all_keys = [tuple(keys.get(i, old)) for i, old in enumerate(actions.keys or [()] * count)]
    for i, name in enumerate(all_names):
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise InputError(f"action {i}: {name!r} is no name: 1 to {MAX_NAME} letters in one line")
        if (first := all_names.index(name)) < i:
            raise InputError(f"actions {first} and {i} would both be called {name!r}")
    for i, held in enumerate(all_keys):
        for key in held:
            if not is_key(key):
                raise InputError(f"action {i}: {key!r} is no key: a letter, a digit, or one of {', '.join(NAMED_KEYS)}")
        first = next(j for j, other in enumerate(all_keys) if set(other) == set(held))
        if first < i and not keys.keys().isdisjoint((first, i)):
            both = " + ".join(held) if held else "no key at all"
            raise InputError(f"actions {first} ({all_names[first]}) and {i} ({all_names[i]}) would both have {both}")
    return ActionMap.discrete(all_names, all_keys if any(all_keys) else ())


def is_key(key: str) -> bool:
    return key in NAMED_KEYS or (len(key) == 1 and key.isprintable() and key == key.lower() and key != " ")


def distinct_names(names: Sequence[str]) -> list[str]:
    """Each cut in its middle to MAX_NAME letters where it is longer, and numbered where one before is called so"""
    out: list[str] = []
    for name in names:
        numbered = (_shortened(name, f" ({k})" if k > 1 else "") for k in itertools.count(1))
        out.append(next(short for short in numbered if short not in out))
    return out


def _shortened(name: str, end: str) -> str:
    room = MAX_NAME - len(end)
    half = (room - 3) // 2
    return (name if len(name) <= room else f"{name[:half]}...{name[-half:]}") + end


def parse_names(words: Sequence[str]) -> dict[int, str]:
    """["3=jump"] -> {3: "jump"}"""
    return {action: text for action, text in (_split(word, "--name 3=jump") for word in words)}


def parse_keys(words: Sequence[str]) -> dict[int, tuple[str, ...]]:
    """["3=space", "5=left+space", "0="] -> {3: ("space",), 5: ("left", "space"), 0: ()}"""
    pairs = (_split(word, "--key 3=space or --key 5=left+space") for word in words)
    return {action: tuple(k.strip().lower() for k in text.split("+") if k.strip()) for action, text in pairs}


def _split(word: str, example: str) -> tuple[int, str]:
    number, equals, text = word.partition("=")
    if not equals or not number.strip().isdecimal():
        raise InputError(f"{word!r} names no action: {example}")
    return int(number), text
