"""Writing files so that a crash never leaves half of one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worldgen.errors import InputError


def write_json(path: Path, value: Any) -> None:
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Atomic: temporary file, fsync, rename. Makes the file's folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """JSON that says its own hash, so that an edit shows."""
    write_json(path, {**value, "sha256": _seal(value)})


def is_sealed(value: dict[str, Any]) -> bool:
    """Whether this is what write_sealed() wrote."""
    return value.get("sha256") == _seal({k: v for k, v in value.items() if k != "sha256"})


def _seal(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def check_writable(path: Path, flag: str) -> None:
    """Raises InputError unless a file can be written there, its folder made where it is missing. Leaves nothing."""
    obstacle = "it is a folder" if path.is_dir() else _obstacle(path.parent)
    if obstacle:
        raise InputError(f"{flag} {path} cannot be written: {obstacle}")


def check_folder_writable(folder: Path, flag: str) -> None:
    """The same for files in a folder."""
    if obstacle := _obstacle(folder):
        raise InputError(f"{flag} {folder} cannot be written to: {obstacle}")


def _obstacle(folder: Path) -> str | None:
    """Why no file can be made in a folder, which need not be there yet."""
    ways = [folder, *folder.parents]
    if files := [way for way in ways if way.exists() and not way.is_dir()]:
        return f"{files[0]} is a file"
    missing = [way for way in ways if not way.exists()]
    probe = folder / f".{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        return error.strerror or str(error)
    finally:
        for way in missing:
            with contextlib.suppress(OSError):  # it was not made, or someone has put something into it meanwhile
                way.rmdir()
    return None


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to write into, which then takes the place of `folder`, whole or not at all: an error leaves that
    as it was and nothing beside it."""
    building = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        yield building
        _replace_folder(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _replace_folder(new: Path, old: Path) -> None:
    """Puts a finished folder in the place of an older one; a power cut between the two renames leaves `old` as .old"""
    for path in new.rglob("*"):
        if path.is_file():
            with path.open("r+b") as file:
                os.fsync(file.fileno())
    aside = old.with_name(f".{old.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        if old.exists():
            old.rename(aside)
        new.rename(old)
    except BaseException:
        if aside.exists() and not old.exists():
            aside.rename(old)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def allocate(path: Path, size: int) -> None:
    """A file of so many bytes to be mapped: a map into a disk that is full would end the process."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        file.truncate(size)


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
