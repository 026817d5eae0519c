"""Recordings in an object store or on a server: anything that fsspec opens (s3://, gs://, http://, ssh://, memory://).

folder = local_folder(Path("s3://bucket/recordings"))   # fetched once, then only what has changed
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from worldgen.data.recording import VIDEO_SUFFIXES
from worldgen.data.sidecar import SIDECAR_SUFFIXES
from worldgen.errors import InputError, MissingExtraError
from worldgen.files import write_json


def url_of(folder: Path) -> str | None:
    """A path that began as a URL (pathlib folds its slashes) -> the URL; None for one of this machine."""
    found = re.match(r"([a-z][a-z0-9+.-]+):/+(.*)", str(folder))
    return f"{found[1]}://{found[2]}" if found else None


def open_url(url: str) -> tuple[Any, str]:
    """-> fsspec's file system, and the place in it"""
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise MissingExtraError(f"opening {url}", "train") from None
    return url_to_fs(url)


def local_folder(folder: Path, root: Path, say: Callable[[str], None] = print) -> Path:
    """The folder itself, or for a URL a copy of its recordings under root, brought up to date. InputError where it
    cannot be read; what is broken off is fetched again."""
    url = url_of(folder)
    if url is None:
        return folder
    copy = root / "remote" / hashlib.blake2b(url.encode(), digest_size=12).hexdigest()
    try:
        copy.mkdir(parents=True, exist_ok=True)
        with FileLock(copy / ".lock"):  # of several processes one fetches, the others find it done
            num_files, fetched = _fetch(copy, url, *open_url(url))
    except (InputError, MissingExtraError):
        raise
    except Exception as error:  # every file system raises its own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{url} cannot be read: {reason}") from None
    say(f"{url}: {num_files} files, {fetched} fetched into {copy}")
    return copy


def _fetch(copy: Path, url: str, system: Any, place: str) -> tuple[int, int]:
    """-> how many files there are, how many of them were fetched now"""
    wanted = _wanted(system.find(place, detail=True), place)
    if not wanted:
        raise InputError(f"{url} holds no video: looked for {' '.join(VIDEO_SUFFIXES)} at any depth")
    known = _read_index(copy)
    fetched = 0
    for name, (source, facts) in wanted.items():
        target = copy / name
        if known.get(name) == facts and target.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        system.get_file(source, str(part))
        part.replace(target)
        fetched += 1
        write_json(copy / "index.json", known := {**known, name: facts})
    for name in known.keys() - wanted.keys():
        (copy / name).unlink(missing_ok=True)
    write_json(copy / "index.json", {name: facts for name, (_, facts) in wanted.items()})
    return len(wanted), fetched


def _wanted(listing: dict[str, Any], place: str) -> dict[str, tuple[str, str]]:
    """The videos and what may lie beside them: name below the URL -> (source, what tells a change)."""
    suffixes = (*VIDEO_SUFFIXES, *SIDECAR_SUFFIXES, ".json")
    wanted = {}
    for source, info in listing.items():
        name = PurePosixPath(source.removeprefix(place).lstrip("/") or PurePosixPath(source).name)
        is_hidden = any(part.startswith(".") for part in name.parts)  # and what climbs out of the folder
        if is_hidden or name.is_absolute() or name.suffix.lower() not in suffixes or name.name == "index.json":
            continue
        marks = [info.get(key) for key in ("size", "ETag", "etag", "mtime", "LastModified", "created", "updated")]
        wanted[str(name)] = source, str(marks)
    is_any = any(PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES for name in wanted)
    return wanted if is_any else {}


def _read_index(copy: Path) -> dict[str, str]:
    try:
        known = json.loads((copy / "index.json").read_text())
        return known if isinstance(known, dict) else {}
    except (OSError, ValueError):
        return {}
