"""A limit on the folder of caches: what was not used for longest goes, and nothing without being asked."""

from __future__ import annotations

import os

import pytest
from recordings import record

from worldgen.data.cache import open_cache
from worldgen.errors import InputError, RunError


def test_without_a_limit_nothing_is_removed_and_with_one_the_least_used_goes(tmp_path, monkeypatch):
    record(tmp_path / "data" / "a.mkv", 40)

    def build(height: int):
        return open_cache(tmp_path / "data", height=height, width=32, cache_dir=tmp_path / "cache")

    first, second, third = (build(height).path for height in (16, 24, 32))
    assert first.exists() and second.exists() and third.exists()
    for age, path in enumerate((third, second, first)):
        os.utime(path / "meta.json", (1000 - age, 1000 - age))
    assert build(16).path == first  # used again: now the newest
    size = sum(p.stat().st_size for p in tmp_path.joinpath("cache").rglob("*") if p.is_file())
    monkeypatch.setenv("WORLDGEN_CACHE_GB", str(1.1 * size / 1e9))
    fourth = build(40).path
    assert fourth.exists() and first.exists() and not second.exists()
    monkeypatch.setenv("WORLDGEN_CACHE_GB", "0")
    assert build(48).num_frames == 40 and not first.exists() and not third.exists()
    monkeypatch.setenv("WORLDGEN_CACHE_GB", "plenty")
    with pytest.raises(InputError, match="WORLDGEN_CACHE_GB.*'plenty'"):
        build(56)


def test_a_full_disk_says_where_and_how_much_could_go(tmp_path, monkeypatch):
    from worldgen.data import cache_build

    record(tmp_path / "data" / "a.mkv", 40)
    open_cache(tmp_path / "data", height=16, width=32, cache_dir=tmp_path / "cache")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_build.shutil, "copyfileobj", full)
    with pytest.raises(RunError, match="the disk of .*cache is full.*WORLDGEN_CACHE"):
        open_cache(tmp_path / "data", height=24, width=32, cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").glob(".build*"))
