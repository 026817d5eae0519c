"""Where a person's own things are kept between plays: quick saves, key bindings."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path


def user_folder(environ: dict[str, str] | os._Environ[str] = os.environ, platform: str = sys.platform) -> Path:
    """$WORLDGEN_HOME, or where the platform keeps an application's data. Not made here."""
    if environ.get("WORLDGEN_HOME"):
        return Path(environ["WORLDGEN_HOME"])
    home = Path.home()
    if platform == "win32":
        return Path(environ.get("APPDATA") or home / "AppData" / "Roaming") / "worldgen"
    if platform == "darwin":
        return home / "Library" / "Application Support" / "worldgen"
    return Path(environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "worldgen"


def file_name(text: str) -> str:
    """A world's name as part of a file's."""
    return re.sub("[^A-Za-z0-9_-]+", "-", text) or "world"
