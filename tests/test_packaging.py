"""The package holds all of the project, and a wheel of it plays with no torch installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "envs": "worldgen.envs",
    "play": "worldgen.play",
    "training": "worldgen.training",
    "export": "worldgen.export",
}


@pytest.fixture(scope="module")
def settings() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a copy without what earlier builds left: setuptools packs whatever it finds in build/."""
    out, source = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("source") / "worldgen"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns("build", "dist", "*.egg-info", ".*", "__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(out.glob("*.whl"))


def test_every_folder_with_code_is_listed_as_a_package(settings):
    """A folder missing from the list works when installed with -e and is silently absent from the wheel."""
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("worldgen", *FOLDERS)
        for path in (ROOT / top).rglob("__init__.py")
    }
    found = {FOLDERS.get(name, name) for name in found}
    assert found == set(settings["tool"]["setuptools"]["packages"])


def test_every_python_file_is_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for top in ("worldgen", *FOLDERS):
        for path in (ROOT / top).rglob("*.py"):
            inside = path.relative_to(ROOT).as_posix()
            assert (inside if top == "worldgen" else f"worldgen/{inside}") in names, inside


def test_the_wheel_adds_only_worldgen_to_site_packages(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"worldgen"}


def test_bundled_worlds_are_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "worldgen" / "worlds").rglob("*"):
        if path.is_file():
            assert path.relative_to(ROOT).as_posix() in names, path


def test_only_the_engine_extras_bring_an_onnxruntime(settings):
    """onnxruntime and onnxruntime-gpu own the same module: any extra but these two goes with either."""
    extras = settings["project"]["optional-dependencies"]
    bringing = {name: [n for n in needs if n.startswith("onnxruntime")] for name, needs in extras.items()}
    assert {name for name, needs in bringing.items() if needs} == {"cpu", "gpu"}
    assert not bringing["cpu"][0].startswith("onnxruntime-gpu") and bringing["gpu"][0].startswith("onnxruntime-gpu")
    assert not [n for name, needs in extras.items() if name != "gpu" for n in needs if "[" in n and "gpu" in n]


@pytest.mark.slow
def test_the_wheel_plays_in_an_empty_environment_without_torch(wheel, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = next(p for p in (tmp_path / "env").glob("*/python*") if p.name in ("python", "python.exe"))
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[cpu]"]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    packages = subprocess.run([python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True).stdout
    assert "torch==" not in packages.lower()
    worldgen = python.parent / "worldgen"
    clip, stats = tmp_path / "clip.mp4", tmp_path / "stats.json"
    arguments = ["play", "doom", "--headless", "--frames", "30", "--out", str(clip), "--json", str(stats)]
    done = subprocess.run([worldgen, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(stats.read_text())["frames"] == 30
    assert clip.stat().st_size > 1000
