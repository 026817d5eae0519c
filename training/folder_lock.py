"""One training at a time in a world's folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from worldgen.errors import InputError


@contextmanager
def sole_training(world: Path) -> Iterator[None]:
    """Held while a run trains into WORLD; the system lets go of it when the run dies, however it dies. InputError where
    another run holds it."""
    folder = world / "training"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another run trains into {world}: wait for it or stop it, or choose another --out") from None
    try:
        yield
    finally:
        lock.release()
