"""A quick save on disk: where the game is and how it came there, so that it goes on after the player was closed.

One file per world, in the user's folder. It holds arrays and JSON only; nothing in it is executed.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.errors import InputError
from worldgen.files import write_bytes
from worldgen.play.loop import Player, SavePoint
from worldgen.play.session import Session
from worldgen.play.user_folder import file_name, user_folder

if TYPE_CHECKING:
    from worldgen.world import World


def save_file(world: World) -> Path:
    return user_folder() / "saves" / f"{file_name(world.config.name)}-{world.hash[:12]}.npz"


def write_save(path: Path, point: SavePoint, session: Session) -> None:
    """Atomic. session: the one that led to the point."""
    parts = {f"state.{f.name}": getattr(point.state, f.name) for f in fields(point.state)}
    arrays = {name: value for name, value in parts.items() if value is not None}
    facts: dict[str, Any] = {"seed": point.seed, "position": point.position, "reward": float(point.frame.reward)}
    facts["terminated"] = bool(point.frame.terminated)
    facts["uncertainty"] = None if point.frame.uncertainty is None else float(point.frame.uncertainty)
    arrays |= {"image": point.frame.image, "facts": json.dumps(facts), "session": json.dumps(session.to_json())}
    if point.frame.sound is not None:
        arrays["sound"] = point.frame.sound
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def read_save(path: Path, player: Player) -> SavePoint:
    """Takes the player, its session log too, to the saved moment. InputError where the file is damaged, of another
    world or of one with other sound or super-resolution; the player is where it was then."""
    before = player.save()
    try:
        with np.load(path, allow_pickle=False) as arrays:
            session = Session.from_json(json.loads(str(arrays["session"])), path)
            session.require(player.world)
            _require_same_parts(session, player.world)
            state = _state_like(before.state, arrays)
            facts = json.loads(str(arrays["facts"]))
            sound = arrays.get("sound")
            frame = replace(
                player.frame,
                image=arrays["image"],
                sound=sound,
                reward=float(facts["reward"]),
                terminated=bool(facts["terminated"]),
                uncertainty=facts.get("uncertainty"),
            )
            if frame.image.shape != player.frame.image.shape or frame.image.dtype != np.uint8:
                raise ValueError(f"a picture of {frame.image.dtype} {frame.image.shape}")
        if len(session.actions) != len(session.checksums):
            raise ValueError("its session is not whole")
        start = next((c["start"] for c in reversed(session.changes) if "start" in c), session.start)
        player.world.restore(state)  # refuses a state that is not its own, before anything else changes
        point = SavePoint(state, frame, int(facts["seed"]), start, int(facts["position"]), None)
        if player.log is not None:
            player.log.adopt(session)
            point = replace(point, entry=player.log.last)
        player.load(point)
    except FileNotFoundError:
        raise InputError("nothing saved yet") from None
    except InputError:
        player.load(before)
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        player.load(before)
        raise InputError(f"{path} is damaged ({error}): nothing was loaded") from None
    return point


def _require_same_parts(session: Session, world: World) -> None:
    """Raises InputError where the play that was saved had other sound or super-resolution: both have a state."""
    if session.sound not in (None, world.sound):
        raise InputError(
            f"saved with sound {session.sound}, this play has {world.sound}: play with --sound {session.sound}"
        )
    if session.upscaling is not None and (session.upscaling == "off") != (world.upscaling == "off"):
        if session.upscaling == "off":
            raise InputError("saved without super-resolution, this play has it: play with --no-upscale")
        raise InputError("saved with super-resolution, this play has none: play without --no-upscale")


def _state_like(template: Any, arrays: Any) -> Any:
    """The state in a file, of the same type, shapes and numbers as the one the world has now."""
    values: dict[str, Any] = {}
    for f in fields(template):
        like, name = getattr(template, f.name), f"state.{f.name}"
        if like is None:  # silent, or without super-resolution
            if name in arrays:
                # of before sessions noted both: _require_same_parts() knows of newer ones which it was
                raise InputError("the save was played with sound or super-resolution, this play is without")
            values[f.name] = None
            continue
        value = arrays[name]
        if isinstance(like, np.ndarray):
            if value.shape != like.shape or value.dtype != like.dtype:
                raise ValueError(f"{f.name} is {value.dtype} {value.shape}, not {like.dtype} {like.shape}")
            values[f.name] = value
        else:
            values[f.name] = type(like)(value.item())
    return type(template)(**values)
