"""Built caches that several machines share, in an object store: anything that fsspec opens.

WORLDGEN_CACHE_STORE=s3://bucket/caches worldgen train ...     # fetched from there, or built and put there
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from worldgen.data.remote import open_url, url_of
from worldgen.errors import InputError, MissingExtraError

VARIABLE = "WORLDGEN_CACHE_STORE"


class CacheStore:
    """A folder for each cache, named by what the recordings hold and what was asked for. meta.json is put last: a
    folder without it is being written, or was left."""

    def __init__(self, url: str):
        self.url = url
        with self._said():
            self._system, place = open_url(url)
        self._place = place.rstrip("/")

    def fetch(self, key: str, target: Path) -> bool:
        """A cache into an empty folder; False where there is none."""
        with self._said():
            if not self._system.exists(f"{self._place}/{key}/meta.json"):
                return False
            for source in self._system.ls(f"{self._place}/{key}", detail=False):
                self._system.get_file(source, str(target / Path(source).name))
        return True

    def put(self, key: str, entry: Path) -> None:
        """Whoever put the same meanwhile put the same bytes."""
        names = [path.name for path in entry.iterdir() if path.is_file() and not path.name.startswith(".")]
        with self._said():
            self._system.makedirs(f"{self._place}/{key}", exist_ok=True)
            for name in sorted(names, key=lambda name: name == "meta.json"):
                self._system.put_file(str(entry / name), f"{self._place}/{key}/{name}")

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except MissingExtraError:
            raise
        except Exception as error:  # every file system raises its own
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise InputError(f"{VARIABLE}={self.url} cannot be used: {reason}") from None


def cache_store() -> CacheStore | None:
    """The one that WORLDGEN_CACHE_STORE names."""
    url = os.environ.get(VARIABLE)
    return CacheStore(url) if url else None


def require_local(root: Path) -> Path:
    if url := url_of(root):
        raise InputError(
            f"{url} is no folder of this machine: caches are mapped into memory. Share them through {VARIABLE}={url}"
        )
    return root
