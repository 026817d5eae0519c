"""A session: all that it takes to play the same game again, bit for bit.

A session file is JSON: the world and its hash, the backend, seed, start and nfe it began with, one action a frame,
what else was done between actions (`changes`), and a checksum of every frame. Rewinding or loading a saved moment
takes what was undone out of the session, so it holds the one line of play that was kept.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.config import NFE_CHOICES, SOUND_CHOICES
from worldgen.errors import InputError
from worldgen.files import write_json

if TYPE_CHECKING:
    from worldgen.play.loop import Player
    from worldgen.world import Frame, World

FORMAT_VERSION = 1
UPSCALING = ("network", "nearest", "off")
MAX_START_BYTES = 1 << 28


@dataclass(frozen=True)
class Session:
    """world: as World.load takes it. start: index, frames (t, h, w, 3) uint8, or None.
    upscaling, sound: as the world had them at the beginning; None in files of before they were noted.
    changes: {"frame": i, "restart": seed}, {"frame": i, "nfe": n} or {"frame": i, "upscaling": how}, done before action
        i; a restart may bring its own "start".
    checksums: one per action, of the frame it gave.
    """

    world: str
    world_hash: str
    backend: str
    seed: int
    nfe: int
    start: int | np.ndarray | None = None
    upscaling: str | None = None
    sound: str | None = None
    actions: list[Any] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    checksums: list[int] = field(default_factory=list)

    def save(self, path: Path) -> None:
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, Any]:
        changes = [{k: _pack(v) if k == "start" else v for k, v in change.items()} for change in self.changes]
        facts = {**vars(self), "start": _pack(self.start), "changes": changes}
        return {"format_version": FORMAT_VERSION, **facts}

    @classmethod
    def load(cls, path: Path) -> Session:
        try:
            raw = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read session {path}: {error}") from None
        return cls.from_json(raw, path)

    @classmethod
    def from_json(cls, raw: Any, path: Path) -> Session:
        if not is_session(raw):
            raise InputError(f"{path} is not a session; `worldgen play --record {path}` writes one")
        if raw["format_version"] != FORMAT_VERSION:
            raise InputError(f"{path}: session format {raw['format_version']!r}; this worldgen reads {FORMAT_VERSION}")
        facts = {key: value for key, value in raw.items() if key != "format_version"}
        try:
            changes = [{k: _unpack(v) if k == "start" else v for k, v in c.items()} for c in facts["changes"]]
            session = cls(**{**facts, "start": _unpack(facts["start"]), "changes": changes})
            session._check()
        except KeyError as error:
            raise InputError(f"{path}: damaged session (no {error})") from None
        except (TypeError, ValueError, AttributeError, zlib.error) as error:
            raise InputError(f"{path}: damaged session ({error})") from None
        return session

    def _check(self) -> None:
        """The file is someone's: its values are checked before a world sees them."""
        for name in ("world", "world_hash", "backend"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} is {getattr(self, name)!r}")
        if not isinstance(self.seed, int) or self.nfe not in NFE_CHOICES:
            raise TypeError(f"seed {self.seed!r}, nfe {self.nfe!r}")
        if self.upscaling not in (None, *UPSCALING) or self.sound not in (None, *SOUND_CHOICES):
            raise TypeError(f"upscaling {self.upscaling!r}, sound {self.sound!r}")
        if not isinstance(self.actions, list) or not isinstance(self.checksums, list):
            raise TypeError("actions and checksums are lists")
        for change in self.changes:
            kind = set(change) - {"start"}
            numbers = [v for k, v in change.items() if k not in ("start", "upscaling")]
            kinds = ({"frame", name} for name in ("restart", "nfe", "upscaling"))
            if kind not in kinds or not all(isinstance(x, int) for x in numbers):
                raise TypeError(f"unknown change {change!r}")
            if change.get("upscaling", "nearest") not in UPSCALING[:2]:
                raise ValueError(f"upscaling {change['upscaling']!r}")
            if change.get("nfe", 1) not in NFE_CHOICES:
                raise ValueError(f"nfe {change['nfe']!r}")

    def require(self, world: World) -> None:
        """Raises InputError unless `world` is the one that was played."""
        if world.hash != self.world_hash:
            raise InputError(
                f"this session was played on world {self.world!r} with hash {self.world_hash[:12]}, but "
                f"{world.config.name!r} has {world.hash[:12]}: it was retrained or is another world"
            )

    def replay(self) -> Replay:
        return Replay(self)

    def first_difference(self, replayed: Session) -> int | None:
        """The first frame that came out otherwise; None when the shorter of the two agrees throughout."""
        pairs = zip(self.checksums, replayed.checksums, strict=False)
        return next((i for i, (a, b) in enumerate(pairs) if a != b), None)


class Replay:
    """Chooses the actions of a session for a Player that began with its seed, start and nfe; None at its end."""

    def __init__(self, session: Session):
        self._actions = session.actions
        self._changes = sorted(session.changes, key=lambda change: change["frame"])
        self._index = 0

    def __call__(self, player: Player) -> Any:
        while self._changes and self._changes[0]["frame"] <= self._index:
            change = self._changes.pop(0)
            if "nfe" in change:
                player.set_nfe(change["nfe"])
            elif "upscaling" in change:
                if player.world.upscaling != "off":  # replayed with small frames on purpose
                    player.set_upscaling(change["upscaling"])
            elif "start" in change:
                player.restart(change["restart"], change["start"])
            else:
                player.restart(change["restart"])
        if self._index == len(self._actions):
            return None
        self._index += 1
        return self._actions[self._index - 1]


class Entry:
    """One thing done, and what came before it: a linked list, so going back to a moment costs nothing.

    change: of Session.changes, without its frame; None for an action."""

    __slots__ = ("before", "change", "action", "nfe", "upscaling", "checksum")

    def __init__(
        self,
        before: Entry | None,
        change: dict[str, Any] | None,
        action: Any,
        nfe: int,
        upscaling: str | None,
        checksum: int = 0,
    ):
        self.before, self.change, self.action, self.checksum = before, change, action, checksum
        self.nfe, self.upscaling = nfe, upscaling


class SessionLog:
    """Notes a play while it happens. `last` is the newest entry; a Player that goes back sets it."""

    def __init__(self, world: World, *, name: str, seed: int = 0, start: int | np.ndarray | None = None):
        self._facts = Session(
            name, world.hash, world.backend_name, seed, world.nfe, start, world.upscaling, world.sound
        )
        self.last: Entry | None = None

    def stepped(self, action: Any, frame: Frame) -> None:
        self.last = Entry(self.last, None, np.asarray(action).tolist(), self.nfe, self.upscaling, checksum(frame))

    def changed(self, **change: Any) -> None:
        self.last = Entry(self.last, change, None, change.get("nfe", self.nfe), change.get("upscaling", self.upscaling))

    @property
    def nfe(self) -> int:
        """The one in force after the newest entry."""
        return self._facts.nfe if self.last is None else self.last.nfe

    @property
    def upscaling(self) -> str | None:
        """As nfe."""
        return self._facts.upscaling if self.last is None else self.last.upscaling

    def adopt(self, session: Session) -> None:
        """Goes on from another session's end: it was saved, and loaded now."""
        self._facts = Session(**{**vars(session), "actions": [], "changes": [], "checksums": []})
        self.last = None
        changes = sorted(session.changes, key=lambda change: change["frame"])
        for i, (action, checksum) in enumerate(zip(session.actions, session.checksums, strict=True)):
            while changes and changes[0]["frame"] <= i:
                self.changed(**{k: v for k, v in changes.pop(0).items() if k != "frame"})
            self.last = Entry(self.last, None, action, self.nfe, self.upscaling, checksum)
        for change in changes:
            self.changed(**{k: v for k, v in change.items() if k != "frame"})

    def session(self) -> Session:
        entries = []
        entry = self.last
        while entry is not None:
            entries.append(entry)
            entry = entry.before
        actions: list[Any] = []
        checksums: list[int] = []
        changes: list[dict[str, Any]] = []
        for entry in reversed(entries):
            if entry.change is None:
                actions.append(entry.action)
                checksums.append(entry.checksum)
            else:
                changes.append({"frame": len(actions), **entry.change})
        return Session(**{**vars(self._facts), "actions": actions, "changes": changes, "checksums": checksums})


def checksum(frame: Frame) -> int:
    """Of a frame's picture and sound."""
    crc = zlib.crc32(np.ascontiguousarray(frame.image).data)
    return crc if frame.sound is None else zlib.crc32(np.ascontiguousarray(frame.sound).data, crc)


def is_session(raw: Any) -> bool:
    return isinstance(raw, dict) and {"format_version", "world_hash", "actions"} <= set(raw)


def _pack(start: int | np.ndarray | None) -> Any:
    if not isinstance(start, np.ndarray):
        return start
    packed = base64.b64encode(zlib.compress(np.ascontiguousarray(start, np.uint8).data)).decode()
    return {"shape": list(start.shape), "zlib_base64": packed}


def _unpack(raw: Any) -> int | np.ndarray | None:
    if raw is None or isinstance(raw, int):
        return raw
    shape = [int(n) for n in raw["shape"]]
    size = math.prod(shape)
    if not 0 < size <= MAX_START_BYTES:
        raise ValueError(f"start frames of shape {shape}")
    # a crafted file must not inflate beyond the size it states
    data = zlib.decompressobj().decompress(base64.b64decode(raw["zlib_base64"]), size + 1)
    return np.frombuffer(data, np.uint8).reshape(shape).copy()
