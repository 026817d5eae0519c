"""A folder that is written whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from worldgen.files import replace_folder


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to write into, which then takes the place of `folder`; an error leaves that as it was and nothing
    beside it."""
    building = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    try:
        yield building
        replace_folder(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
