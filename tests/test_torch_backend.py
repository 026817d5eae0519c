"""torch, compiled or in bfloat16: the same frames, or one line that says why not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from worldgen.backends import open_backend  # noqa: E402
from worldgen.command import run  # noqa: E402
from worldgen.world import World  # noqa: E402


def test_code_that_cannot_be_compiled_is_refused_in_one_line(
    tiny_world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def no_compiler(model, inputs):
        raise RuntimeError("no C++ compiler\nwas found")

    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **options: compile(module, backend=no_compiler, **options))
    engine = open_backend(tiny_world, "torch:compiled")

    def command() -> int:
        engine.run("decode", {s.name: engine.asarray(s.zeros(1)) for s in engine.specs["decode"].inputs})
        return 0

    assert run("play", command) == 3
    said = capsys.readouterr().err.strip()
    assert "cannot compile decode here" in said and "no C++ compiler" in said and "--backend torch" in said
    assert "\n" not in said


@pytest.mark.skipif(not os.environ.get("WORLDGEN_TEST_COMPILE"), reason="takes minutes: WORLDGEN_TEST_COMPILE=1")
def test_compiled_frames_are_those_of_eager_torch(tiny_world: Path):
    worlds = [World.load(tiny_world, backend=name, nfe=1) for name in ("torch", "torch:compiled")]
    for world in worlds:
        world.reset(0)
    for action in (1, 3, 0):
        images = [world.step(action).image.astype(int) for world in worlds]
        assert np.abs(images[0] - images[1]).max() <= 1


def test_bfloat16_frames_are_near_those_of_float32_and_what_comes_out_is_float32(tiny_world: Path):
    worlds = [World.load(tiny_world, backend=name, nfe=1) for name in ("torch", "torch:bf16")]
    assert [world.backend_name for world in worlds] == ["torch", "torch:bf16"]
    for world in worlds:
        world.reset(0)
    differences = []
    for action in (1, 3, 0):
        images = [world.step(action).image.astype(int) for world in worlds]
        differences.append(np.abs(images[0] - images[1]))
    assert 0 < np.mean(differences) < 2  # it does compute with fewer bits
    engine = open_backend(tiny_world, "torch:bf16")
    for graph, spec in engine.specs.items():
        out = engine.run(graph, {s.name: engine.asarray(s.zeros(2)) for s in spec.inputs})
        for part in spec.outputs:
            assert engine.numpy(out[part.name]).dtype == part.zeros(1).dtype, (graph, part.name)
