"""Out of memory: one line with the way out, whatever engine runs out of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from worldgen.backends import open_backend
from worldgen.backends.memory import refuse_out_of_memory
from worldgen.command import run
from worldgen.errors import RunError
from worldgen.world import World

SAID = [
    MemoryError(),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB"),
    RuntimeError("Failed to allocate memory for requested buffer of size 2147483648"),
    RuntimeError("Error Code 2: OutOfMemory (Requested size was 2147483648 bytes.)"),
    RuntimeError("std::bad_alloc"),
]


@pytest.mark.parametrize("error", SAID)
@pytest.mark.parametrize(
    "batch, way", [(1, "1 game needs.*the GPU.*--no-upscale"), (512, "512 games need.*play fewer")]
)
def test_however_it_is_said_it_becomes_one_line(error: Exception, batch: int, way: str):
    with pytest.raises(RunError, match=way), refuse_out_of_memory(batch, "the GPU"):
        raise error


def test_other_errors_stay_what_they_are():
    with pytest.raises(KeyError), refuse_out_of_memory(1, "the GPU"):
        raise KeyError("cache")


def test_torch_says_so_itself():
    torch = pytest.importorskip("torch")
    with pytest.raises(RunError, match="64 games need more memory"), refuse_out_of_memory(64, "this machine"):
        torch.empty(1 << 60)


def test_an_engine_that_runs_out_of_memory_in_a_frame_says_how_many_games_it_was(
    tiny_world: Path, backend: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """Where the engine itself asks for it."""
    engine = open_backend(tiny_world, backend)

    def fails(*_: object, **__: object) -> None:
        raise SAID[1]

    owner, name = {
        "onnxruntime": (engine, "_session"),
        "torch": (engine, "_modules"),
        "tensorrt": (engine, "_start"),
    }[backend]
    broken = {"_session": lambda *_: Broken(fails), "_modules": dict.fromkeys(engine.specs, fails), "_start": fails}
    monkeypatch.setattr(owner, name, broken[name])

    def command() -> int:
        engine.run("decode", {s.name: engine.asarray(s.zeros(3)) for s in engine.specs["decode"].inputs})
        return 0

    assert run("play", command) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("worldgen: 3 games need more memory") and "\n" not in said


class Broken:
    """A session of ONNX Runtime that finds no memory."""

    def __init__(self, fails):
        self.run_with_iobinding = fails

    def io_binding(self):
        return self

    def bind_ortvalue_input(self, *_: object) -> None: ...

    def bind_output(self, *_: object) -> None: ...

    def bind_ortvalue_output(self, *_: object) -> None: ...


def test_numpys_own_is_one_line_too(capsys: pytest.CaptureFixture):
    def command() -> int:
        np.empty(1 << 60, np.uint8)
        return 0

    assert run("play", command) == 1
    said = capsys.readouterr().err.strip()
    assert "out of memory" in said and "smaller batch" in said and "\n" not in said


def test_a_world_that_ran_out_of_memory_goes_on(tiny_world: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("onnxruntime")
    world = World.load(tiny_world, backend="onnxruntime:cpu")
    world.reset(0)
    with monkeypatch.context() as patch, pytest.raises(RunError, match="1 game needs more memory than this machine"):

        def fails(*_: object) -> None:
            raise SAID[2]

        patch.setattr(world._backend, "_session", lambda *_: Broken(fails))
        world.step(1)
    world.step(1)
