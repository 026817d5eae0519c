"""Actions: what a world accepts, what each one is called, and which keys press it.

An `ActionMap` describes one of Gymnasium's four kinds of action and translates between them, key presses and the
array a network reads. Networks see one row per frame:

    discrete, multi_discrete, multi_binary   int64 (m,): one choice per component, `sizes[i]` means NULL
    box                                      float32 (m + 1,): the values, then 1.0 where the action is NULL

NULL is the action of frame 0 and of unlabelled prompts; training shows it to the network by action dropout.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from worldgen.errors import InputError

KINDS = ("discrete", "multi_discrete", "multi_binary", "box")
# more is a column of something else, and a network of gigabytes
MAX_CHOICES = 65_536


@dataclass(frozen=True)
class ActionMap:
    """The actions of a world.

    kind: one of KINDS.
    sizes: number of choices per component. discrete (n,); multi_discrete (n1, n2, ...); multi_binary (2, 2, ...);
        box: one 0 per value.
    names: one per action (discrete) or per component (the other kinds).
    keys: aligned with names. discrete: the keys that are held together for that action ((),) is idle;
        multi_binary: the keys of that button; empty for kinds that no keyboard can press.
        Key names are those of pygame.key.name: "left", "space", "a".
    low, high: bounds per value, box only.
    """

    kind: str
    sizes: tuple[int, ...]
    names: tuple[str, ...] = ()
    keys: tuple[tuple[str, ...], ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"unknown action kind {self.kind!r}; choose {', '.join(KINDS)}")
        if not self.sizes:
            raise InputError("an action needs at least one component")
        if self.kind == "discrete" and (len(self.sizes) != 1 or self.sizes[0] < 1):
            raise InputError(f"a discrete action has one size >= 1, got {self.sizes}")
        if self.kind == "multi_binary" and set(self.sizes) != {2}:
            raise InputError(f"multi_binary components have size 2, got {self.sizes}")
        if self.kind == "multi_discrete" and min(self.sizes) < 1:
            raise InputError(f"multi_discrete components have sizes >= 1, got {self.sizes}")
        if self.kind == "box" and not len(self.low) == len(self.high) == len(self.sizes):
            raise InputError(f"box actions need low and high for each of {len(self.sizes)} values")
        if self.kind == "box" and not all(lo <= hi for lo, hi in zip(self.low, self.high, strict=True)):
            raise InputError(f"box bounds are low <= high, got {self.low} and {self.high}")
        if max(*self.sizes, len(self.sizes)) > MAX_CHOICES:
            raise InputError(f"an action has at most {MAX_CHOICES} choices, got {max(*self.sizes, len(self.sizes))}")
        count = self.sizes[0] if self.kind == "discrete" else len(self.sizes)
        if not self.names:
            object.__setattr__(self, "names", tuple(f"action {i}" for i in range(count)))
        if len(self.names) != count:
            raise InputError(f"{len(self.names)} action names for {count} actions")
        if self.keys and len(self.keys) != count:
            raise InputError(f"{len(self.keys)} key bindings for {count} actions")

    @classmethod
    def discrete(cls, names: Sequence[str], keys: Sequence[Sequence[str]] = ()) -> ActionMap:
        return cls("discrete", (len(names),), tuple(names), tuple(tuple(k) for k in keys))

    @property
    def is_discrete(self) -> bool:
        return self.kind == "discrete"

    @property
    def width(self) -> int:
        """Columns of the array that networks read."""
        return len(self.sizes) + (self.kind == "box")

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float32 if self.kind == "box" else np.int64)

    def null(self, *shape: int) -> np.ndarray:
        """The NULL action: (*shape, width)."""
        row = [0.0] * len(self.sizes) + [1.0] if self.kind == "box" else list(self.sizes)
        return np.broadcast_to(np.array(row, self.dtype), (*shape, self.width)).copy()

    def encode(self, action: Any, *shape: int) -> np.ndarray:
        """Actions as a user gives them (int, list or array with leading axes `shape`) -> (*shape, width)."""
        wanted = (*shape,) if self.is_discrete else (*shape, len(self.sizes))

        def wrong(why: str) -> InputError:
            return InputError(f"action {_shown(action)} {why}; expected {self.describe()}")

        try:
            raw = np.asarray(action)
        except ValueError:  # lists of different lengths
            raise wrong("has no shape") from None
        if raw.dtype.kind not in "biuf":
            raise wrong("is not a number")
        if raw.shape != wanted:
            raise wrong(f"has shape {raw.shape}, not {wanted}")
        if not np.isfinite(raw).all():
            raise wrong("is not finite")
        if self.kind == "box":
            values = np.clip(raw, self.low, self.high).astype(np.float32)
            return np.concatenate([values, np.zeros((*shape, 1), np.float32)], axis=-1)
        if raw.dtype.kind == "f" and not np.array_equal(raw, np.round(raw)):
            raise wrong("is not an integer")
        rows = raw.reshape(*shape, len(self.sizes))
        if (rows < 0).any() or (rows >= np.array(self.sizes)).any():
            raise wrong("is out of range")
        return rows.astype(np.int64)

    def values(self, rows: np.ndarray) -> np.ndarray:
        """Network rows (..., width) -> actions as a user gives them, with the same leading axes. encode() undone."""
        if self.is_discrete:
            return rows[..., 0]
        return rows[..., :-1] if self.kind == "box" else rows

    def decode(self, row: np.ndarray) -> Any:
        """One network row (width,) -> the action as a user gives it."""
        if self.is_discrete:
            return int(row[0])
        if self.kind == "box":
            return [float(x) for x in row[:-1]]
        return [int(x) for x in row]

    def from_keys(self, held: Collection[str]) -> Any:
        """The action that the held keys press. Discrete: the action with the most of its keys held, all of them;
        none held is idle (an action without keys) or action 0."""
        held = set(held)
        if self.is_discrete:
            best, best_count = 0, -1
            for i, keys in enumerate(self.keys):
                if set(keys) <= held and len(keys) > best_count:
                    best, best_count = i, len(keys)
            return best
        if self.kind == "multi_binary":
            return [int(bool(set(keys) & held)) for keys in self.keys] or [0] * len(self.sizes)
        if self.kind == "multi_discrete":
            return [0] * len(self.sizes)
        return [min(max(0.0, lo), hi) for lo, hi in zip(self.low, self.high, strict=True)]

    def sample(self, rng: np.random.Generator) -> Any:
        """A uniformly random action."""
        if self.kind == "box":
            return [float(x) for x in rng.uniform(self.low, self.high)]
        picks = [int(x) for x in rng.integers(self.sizes)]
        return picks[0] if self.is_discrete else picks

    def name(self, action: Any) -> str:
        """What an action is called: "turn left", "left+fire", "steer=0.1 throttle=-0.3"."""
        if self.is_discrete:
            return self.names[int(action)]
        if self.kind == "multi_binary":
            return "+".join(n for n, x in zip(self.names, action, strict=True) if x) or "idle"
        return " ".join(f"{n}={x:.2g}" for n, x in zip(self.names, action, strict=True))

    def describe(self) -> str:
        if self.is_discrete:
            return f"discrete 0..{self.sizes[0] - 1}"
        return f"{self.kind} {list(self.sizes) if self.kind != 'box' else f'{len(self.sizes)} values'}"

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"kind": self.kind, "sizes": list(self.sizes), "names": list(self.names)}
        if self.keys:
            out["keys"] = [list(k) for k in self.keys]
        if self.kind == "box":
            out |= {"low": list(self.low), "high": list(self.high)}
        return out

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> ActionMap:
        """Names alone are those of discrete actions."""
        try:
            kind, names = raw.get("kind", "discrete"), tuple(raw.get("names", ()))
            sizes = [len(names)] if kind == "discrete" and names and "sizes" not in raw else raw["sizes"]
            return cls(
                kind=kind,
                sizes=tuple(int(n) for n in sizes),
                names=names,
                keys=tuple((k,) if k and isinstance(k, str) else tuple(k) for k in raw.get("keys", ())),
                low=tuple(float(x) for x in raw.get("low", ())),
                high=tuple(float(x) for x in raw.get("high", ())),
            )
        except KeyError as error:
            raise InputError(f"not an action space: {raw!r} has no {error}") from None
        except (TypeError, AttributeError) as error:
            raise InputError(f"not an action space: {raw!r} ({error})") from None
        except ValueError as error:  # InputError among them, which says enough by itself
            raise InputError(f"not an action space: {error}") from None


def check_same_actions(of_world: ActionMap, of_data: ActionMap) -> None:
    """Raises InputError where an action of the recordings would be another one in the world. Fewer than half of the
    world's may have been renamed since (`worldgen actions --name`)."""
    theirs = f"the recordings have {of_data.describe()} {list(of_data.names)}"
    ours = f"the world takes {of_world.describe()} {list(of_world.names)}"
    if of_data.kind != of_world.kind or len(of_data.sizes) != len(of_world.sizes):
        raise InputError(f"{theirs}, {ours}: use recordings of its own game")
    # without a NAME.json the space is guessed from the actions that occur: it has no names and may be smaller
    is_guessed = all(name.startswith("action ") for name in of_data.names)
    if is_guessed:
        is_same = all(d <= w for d, w in zip(of_data.sizes, of_world.sizes, strict=True))
    else:
        names = of_world.names if _are_renamed(of_world.names, of_data.names) else of_data.names
        is_same = replace(of_data, keys=(), names=names) == replace(of_world, keys=())
    if not is_same:
        raise InputError(f"{theirs}, {ours}: use recordings of its own game")


def _are_renamed(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Whether names are of one game: more than half of them are the same, place by place, and none of the others is one
    of ours in another place."""
    pairs = list(zip(ours, theirs, strict=False))
    num_same = sum(a == b for a, b in pairs)
    is_moved = any(a != b and b in ours for a, b in pairs)
    return len(ours) == len(theirs) and 2 * num_same > len(pairs) and not is_moved


def _shown(action: Any) -> str:
    """An action in an error: one line, not a whole batch."""
    text = " ".join(repr(action).split())
    return text if len(text) <= 80 else text[:77] + "..."
