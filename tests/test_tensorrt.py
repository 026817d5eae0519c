"""TensorRT: which engines run here, which are refused, and that every graph can be built. Nothing here needs a GPU."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from worldgen.backends import tensorrt_library
from worldgen.backends.engine_folder import ANY_GPU, engine_folder, find_engines
from worldgen.backends.tensorrt_library import Gpu, Library, find_library
from worldgen.bundle import network_hashes, read_manifest
from worldgen.cli import main
from worldgen.errors import BackendUnavailableError, InputError
from worldgen.files import file_hash, write_json, write_sealed

H200 = Gpu("NVIDIA H200", 90)
RTX_4090 = Gpu("NVIDIA GeForce RTX 4090", 89)


def library(version: str = "10.13.3", name: str = "tensorrt") -> Library:
    return Library(SimpleNamespace(__name__=name, __version__=version), tensorrt_library.MODULES[name])


@pytest.fixture
def world(tiny_world: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_world, tmp_path / "tiny"))


def add_engines(world: Path, gpu: Gpu | None, by: Library, precision: str = "fp16") -> Path:
    """A folder of engines as an export leaves it, but for the plans themselves."""
    folder = engine_folder(world, gpu.slug if gpu else ANY_GPU, by, precision)
    folder.mkdir(parents=True)
    specs = read_manifest(world).specs
    for name in specs:
        (folder / f"{name}.plan").write_bytes(name.encode())
    graphs = {name: {"sha256": file_hash(folder / f"{name}.plan"), **spec.to_json()} for name, spec in specs.items()}
    facts = {
        "runtime": by.module.__name__, "version": by.version, "gpu": gpu.name if gpu else ANY_GPU,
        "precision": precision, "profiles": [1, 8], "is_in_place": True, "position_period": 64,
        "weights": network_hashes(world),
    }  # fmt: skip
    write_sealed(folder / "manifest.json", {**facts, "graphs": graphs})
    return folder


def test_the_engines_of_this_gpu_version_and_precision_are_found(world: Path):
    here = library()
    for gpu in (H200, RTX_4090):
        for precision in ("fp32", "fp16"):
            add_engines(world, gpu, here, precision)
    found = find_engines(world, RTX_4090, here, "fp32")
    assert found.folder.name == "geforce-rtx-4090-sm89-trt10.13.3-fp32" and found.precision == "fp32"
    assert find_engines(world, H200, here).folder.name == "h200-sm90-trt10.13.3-fp16"  # the quickest
    assert found.plan("decode").read_bytes() == b"decode"
    assert found.specs == read_manifest(world).specs
    assert found.weights_hash == read_manifest(world).weights_hash and found.max_batch == 8
    assert [found.profile(batch) for batch in (1, 2, 8)] == [0, 1, 1]


def test_engines_of_tensorrt_for_rtx_run_on_any_card(world: Path):
    here = library("1.7.1", "tensorrt_rtx")
    add_engines(world, None, here)
    assert find_engines(world, RTX_4090, here).folder.name == "any-rtx1.7.1-fp16"


@pytest.mark.parametrize(
    "gpu, by", [(RTX_4090, library()), (H200, library("11.4.0")), (H200, library("1.7.1", "tensorrt_rtx"))]
)
def test_engines_of_another_gpu_or_version_are_refused_with_the_command(world: Path, gpu: Gpu, by: Library):
    add_engines(world, gpu, by)
    with pytest.raises(BackendUnavailableError) as refused:
        find_engines(world, H200, library())
    message = str(refused.value)
    assert "\n" not in message and f"worldgen export {world} --to tensorrt" in message
    assert engine_folder(world, gpu.slug, by, "fp16").name in message
    assert "NVIDIA H200 (sm_90)" in message and "10.13.3" in message


def test_engines_moved_from_another_machine_are_refused(world: Path):
    folder = add_engines(world, RTX_4090, library())
    folder.rename(engine_folder(world, H200.slug, library(), "fp16"))
    with pytest.raises(BackendUnavailableError, match="built for NVIDIA GeForce RTX 4090.*has NVIDIA H200.*--to"):
        find_engines(world, H200, library())


def test_a_world_without_engines_says_how_to_build_them(world: Path):
    with pytest.raises(BackendUnavailableError, match="no TensorRT engines.*--to tensorrt --precision bf16"):
        find_engines(world, H200, library(), "bf16")


def test_engines_of_other_weights_are_stale(world: Path):
    folder = add_engines(world, H200, library())
    raw = json.loads((folder / "manifest.json").read_text())
    raw.pop("sha256")
    write_sealed(folder / "manifest.json", raw | {"weights": raw["weights"] | {"dynamics": "0" * 64}})
    with pytest.raises(InputError, match="older than.*dynamics.*--to tensorrt --precision fp16"):
        find_engines(world, H200, library())


@pytest.mark.parametrize("damage", ["truncated", "missing", "manifest", "no list", "edited"])
def test_damaged_engines_are_named_with_the_command(world: Path, damage: str):
    folder = add_engines(world, H200, library())
    plan, manifest = folder / "frame_2.plan", folder / "manifest.json"
    if damage == "truncated":
        plan.write_bytes(plan.read_bytes()[:-1])
    elif damage == "missing":
        plan.unlink()
    elif damage == "manifest":
        manifest.write_text(manifest.read_text()[:100])
    elif damage == "no list":
        write_json(manifest, {**json.loads(manifest.read_text()), "graphs": {}})
    else:
        write_json(manifest, {**json.loads(manifest.read_text()), "profiles": [1, 99]})
    with pytest.raises(InputError, match="worldgen export .* --to tensorrt") as refused:
        find_engines(world, H200, library())
    assert str(plan if damage in ("truncated", "missing") else manifest) in str(refused.value)


# What is not there


def pretend(monkeypatch: pytest.MonkeyPatch, **modules: object) -> None:
    """Importing a TensorRT gives these modules or raises these errors; the other is not installed."""
    importing = importlib.import_module

    def import_module(name: str, package: str | None = None):
        if name not in tensorrt_library.MODULES:
            return importing(name, package)
        found = modules.get(name, ModuleNotFoundError(f"No module named {name!r}", name=name))
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(importlib, "import_module", import_module)


def test_tensorrt_is_preferred_to_tensorrt_for_rtx(monkeypatch: pytest.MonkeyPatch):
    one, other = (SimpleNamespace(__version__=v, Builder=object) for v in ("10.13", "1.7"))
    pretend(monkeypatch, tensorrt=one, tensorrt_rtx=other)
    assert find_library() == Library(one, "trt")
    pretend(monkeypatch, tensorrt_rtx=other)
    assert find_library().kind == "rtx"


@pytest.mark.parametrize(
    "tensorrt, named",
    [
        (None, "pip install 'worldgen.tensorrt.'"),
        (ImportError("libnvinfer.so.11: cannot open shared object file"), "incomplete.*libnvinfer.so.11.*NVIDIA"),
        (SimpleNamespace(__version__="11"), "no builder"),
    ],
)
def test_a_missing_or_incomplete_tensorrt_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tensorrt, named: str):
    pretend(monkeypatch, **({} if tensorrt is None else {"tensorrt": tensorrt}))
    with pytest.raises(BackendUnavailableError, match=f"{named}.*--backend onnxruntime"):
        find_library()


@pytest.mark.skipif(tensorrt_library.has_driver(), reason="this machine has an NVIDIA driver")
@pytest.mark.parametrize("is_installed", [False, True])
def test_without_a_gpu_the_command_line_says_so_in_one_line(
    world: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, is_installed: bool
):
    fake = SimpleNamespace(__version__="10.13", Builder=object, ILogger=object)
    pretend(monkeypatch, **({"tensorrt": fake} if is_installed else {}))
    wanted = "no NVIDIA driver" if is_installed else "not installed"
    for argv in (("bench", world, "--backend", "tensorrt"), ("export", world, "--to", "tensorrt")):
        assert main([str(word) for word in argv]) == 3
        error = capsys.readouterr().err.strip()
        assert wanted in error and "--backend onnxruntime" in error and "\n" not in error
    assert not (world / "tensorrt").exists()


# Building, where TensorRT for RTX is installed: pip install 'worldgen[rtx]' (95 MB)


@pytest.mark.slow
@pytest.mark.skipif(tensorrt_library.has_driver(), reason="builds with no GPU")
@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32", "fp8"])
def test_every_graph_is_accepted_and_its_engine_builds(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
):
    """Of a world with super-resolution and sound."""
    pytest.importorskip("tensorrt_rtx", reason="pip install 'worldgen[rtx]' to build every engine without a GPU")
    pytest.importorskip("torch")
    from worldgen.export import fp8
    from worldgen.export.to_tensorrt import export_tensorrt

    monkeypatch.setattr(fp8, "WIDE", 32)  # the world's width
    world = Path(shutil.copytree(request.getfixturevalue("loud_world"), tmp_path / "loud"))
    manifest = export_tensorrt(world, precision, max_batch=4, say=lambda text: None)
    assert manifest["gpu"] == ANY_GPU and set(manifest["graphs"]) == set(read_manifest(world).specs)
    found = find_engines(world, RTX_4090, find_library(), precision)
    assert all(found.plan(name).stat().st_size > 10_000 for name in found.specs)
