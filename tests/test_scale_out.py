"""Recordings from elsewhere, and prepared elsewhere: the same cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recordings import number_of, record

from worldgen import cli
from worldgen.data.cache import open_cache
from worldgen.data.remote import local_folder, url_of
from worldgen.errors import InputError


def test_a_url_is_told_from_a_path():
    assert url_of(Path("s3://bucket/a/b")) == "s3://bucket/a/b"
    assert url_of(Path("memory://x")) == "memory://x"
    for path in ("/data/x", "data", "c:/videos", "a:b/c"):
        assert url_of(Path(path)) is None


@pytest.fixture
def store(tmp_path):
    """memory://rec with three recordings, one below another folder, and what is not to be fetched."""
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for i, name in enumerate(("a", "b", "deep/c")):
        record(tmp_path / "rec" / f"{name}.mkv", 20, first=20 * i)
    memory.put(str(tmp_path / "rec") + "/", "/rec", recursive=True)
    memory.pipe("/rec/notes.txt", b"no recording")
    memory.pipe("/rec/../climbs.mkv", b"no")
    yield memory
    memory.store.clear()


def test_recordings_in_a_store_are_fetched_once_and_then_what_changed(store, tmp_path):
    said: list[str] = []
    copy = local_folder(Path("memory://rec"), tmp_path / "root", said.append)
    assert "9 files, 9 fetched" in said[-1]
    cache = open_cache(copy, height=24, width=32, cache_dir=tmp_path / "cache")
    assert sorted(number_of(f) for f in cache.frames) == list(range(60))
    assert not list((tmp_path / "root").rglob("climbs*")) and not list(copy.rglob("notes*"))
    record(tmp_path / "other" / "a.mkv", 25, first=100)
    store.put(str(tmp_path / "other" / "a.mkv"), "/rec/a.mkv")
    store.rm("/rec/b.mkv")
    assert local_folder(Path("memory://rec"), tmp_path / "root", said.append) == copy
    assert "8 files, 1 fetched" in said[-1] and not (copy / "b.mkv").exists()


def test_a_fetch_that_breaks_off_goes_on(store, tmp_path, monkeypatch):
    get, calls = type(store).get_file, [0]

    def breaks(self, source, target, **options):
        calls[0] += 1
        if calls[0] == 4:
            Path(target).write_bytes(b"half")
            raise ConnectionError("the line is down")
        return get(self, source, target, **options)

    with (
        monkeypatch.context() as patch,
        pytest.raises(InputError, match="memory://rec cannot be read: the line is down"),
    ):
        patch.setattr(type(store), "get_file", breaks)
        local_folder(Path("memory://rec"), tmp_path / "root", lambda text: None)
    said: list[str] = []
    local_folder(Path("memory://rec"), tmp_path / "root", said.append)
    assert "9 files, 6 fetched" in said[-1]


def test_a_cache_that_one_machine_built_is_fetched_by_the_next(store, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLDGEN_CACHE_STORE", "memory://caches")
    built = open_cache(tmp_path / "rec", height=24, width=32, sample_rate=24000, cache_dir=tmp_path / "one")
    shutil.copytree(tmp_path / "rec", tmp_path / "elsewhere", copy_function=shutil.copyfile)  # other times of change
    with monkeypatch.context() as patch:
        patch.setattr("worldgen.data.cache.build", lambda *_: pytest.fail("it was there"))
        fetched = open_cache(tmp_path / "elsewhere", height=24, width=32, sample_rate=24000, cache_dir=tmp_path / "two")
    np.testing.assert_array_equal(fetched.frames, built.frames)
    np.testing.assert_array_equal(fetched.actions, built.actions)
    put = store.find("/caches")
    assert {Path(name).name for name in put} == {"frames.bin", "rows.npz", "meta.json"}
    (frames,) = (name for name in put if name.endswith("frames.bin"))
    store.pipe(frames, b"half")
    open_cache(tmp_path / "rec", height=24, width=32, sample_rate=24000, cache_dir=tmp_path / "three")
    assert store.size(frames) == built.frames.nbytes  # built again, and mended


def test_a_cache_folder_in_a_store_says_how_to_share_one(tmp_path, monkeypatch):
    record(tmp_path / "a.mkv", 20)
    monkeypatch.setenv("WORLDGEN_CACHE", "s3://bucket/caches")
    with pytest.raises(InputError, match="WORLDGEN_CACHE_STORE=s3://bucket/caches"):
        open_cache(tmp_path, height=24, width=32)
    monkeypatch.setenv("WORLDGEN_CACHE_STORE", "nosuchthing://bucket")
    with pytest.raises(InputError, match="WORLDGEN_CACHE_STORE=nosuchthing://bucket cannot be used"):
        open_cache(tmp_path, height=24, width=32, cache_dir=tmp_path / "cache")


def test_a_store_that_cannot_be_read_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLDGEN_CACHE", str(tmp_path))
    assert cli.main(["check", "nosuchthing://bucket/rec"]) == 2
    assert "nosuchthing://bucket/rec cannot be read" in capsys.readouterr().err
    pytest.importorskip("fsspec").filesystem("memory").store.clear()
    assert cli.main(["check", "memory://empty"]) == 2
    assert "holds no video" in capsys.readouterr().err


ON_RAY = """
import os, sys
from pathlib import Path
import numpy as np, ray
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
from worldgen.data import map_files
from worldgen.data.cache import open_cache
kill = Path(sys.argv[3])

def dies_once(path):
    if path.name == "b" and not kill.exists():
        kill.touch()
        os._exit(9)  # as the kernel kills a worker
    return path.name

paths = [Path(name) for name in "abc"]
assert map_files.map_files(dies_once, paths, paths) == ["a", "b", "c"] and kill.exists()
cache = open_cache(Path(sys.argv[1]), height=24, width=32, sample_rate=24000, cache_dir=Path(sys.argv[2]))
np.savez(sys.argv[4], frames=cache.frames, sound=cache.sound, actions=cache.actions, starts=cache.starts)
"""


on_ray = pytest.mark.skipif(
    not os.environ.get("WORLDGEN_TEST_RAY"), reason="a cluster takes a minute: set WORLDGEN_TEST_RAY=1"
)


def run_on_ray(script: str, *arguments: Path) -> None:
    pytest.importorskip("ray")
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = os.environ | {"RAY_DEDUP_LOGS": "0"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@on_ray
def test_a_ray_cluster_prepares_the_same_though_a_worker_is_killed(tmp_path):
    for i in range(3):
        record(tmp_path / "data" / f"{i}.mkv", 30, first=30 * i, sample_rate=24000)
    (tmp_path / "data" / "bad.mkv").write_text("no video")
    here = open_cache(tmp_path / "data", height=24, width=32, sample_rate=24000, cache_dir=tmp_path / "cache")
    run_on_ray(ON_RAY, tmp_path / "data", tmp_path / "rays", tmp_path / "killed", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as there:
        for name in ("frames", "sound", "actions", "starts"):
            np.testing.assert_array_equal(there[name], getattr(here, name))


TOKENS_ON_RAY = """
import sys
from pathlib import Path
import ray, torch
torch.set_num_threads(1)
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
from worldgen.bundle import load_network
from worldgen.data.cache import load_cache
from worldgen.training import tokens
tokens.LANES = 2  # several groups
world = Path(sys.argv[2])
tokens.tokenize(load_cache(Path(sys.argv[1])), load_network(world, "tokenizer"), world)
assert not list(world.rglob("part-*"))
"""


@pytest.mark.slow
@on_ray
def test_a_ray_cluster_encodes_the_same_tokens(tiny_world, tmp_path):
    torch = pytest.importorskip("torch")
    from worldgen.bundle import load_network
    from worldgen.training.tokens import tokenize

    for i in range(5):
        record(tmp_path / "data" / f"{i}.mkv", 30 + 5 * i, first=100 * i)
    tokenizer = load_network(tiny_world, "tokenizer").requires_grad_(False)
    height, width = tokenizer.config.height, tokenizer.config.width
    cache = open_cache(tmp_path / "data", height=height, width=width, cache_dir=tmp_path / "cache")
    for name in ("here", "there"):
        shutil.copytree(tiny_world / "tokenizer", tmp_path / name / "tokenizer")
    torch.set_num_threads(1)
    here = tokenize(cache, tokenizer, tmp_path / "here")
    run_on_ray(TOKENS_ON_RAY, cache.path, tmp_path / "there")
    there = np.memmap(tmp_path / "there" / "training" / "tokens" / "tokens.f16", np.float16, "r", shape=here.shape)
    np.testing.assert_allclose(here.astype(np.float32), there.astype(np.float32), atol=2e-3)
