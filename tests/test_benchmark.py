"""Benchmarks and the cost of playing."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from worldgen.errors import InputError, RunError
from worldgen.export.benchmark import TimedBackend, benchmark, table
from worldgen.measure import measure_in_new_process, percentiles
from worldgen.world import World


@pytest.fixture(scope="module")
def figures(tiny_world) -> dict:
    return benchmark(tiny_world, backends=("auto", "onnxruntime", "torch"), frames=12, say=lambda text: None)


def test_every_engine_once_with_frames_and_graphs(figures):
    assert set(figures["engines"]) == {"onnxruntime", "torch"}  # auto is one of them
    for engine in figures["engines"].values():
        assert set(engine["frame"]) == {"1", "2", "4"}
        for timed in [*engine["frame"].values(), *engine["graphs"].values()]:
            assert 0 < timed["ms_p50"] <= timed["ms_p95"] <= timed["ms_p99"]
        assert set(engine["graphs"]) == {"encode", "denoise", "commit", "decode"}
        runs = {name: graph["a_frame"] for name, graph in engine["graphs"].items()}
        assert runs == {"encode": 0, "denoise": 2, "commit": 1, "decode": 1}  # nfe 2
        assert engine["peak_megabytes"] > 10 and engine["load_seconds"] > 0
    assert figures["engines"]["onnxruntime"]["engine"]["providers"] == ["CPUExecutionProvider"]
    json.dumps(figures, allow_nan=False)


def test_torch_needs_more_memory_and_its_figure_says_so(figures):
    onnx, torch = (figures["engines"][name]["peak_megabytes"] for name in ("onnxruntime", "torch"))
    assert torch > onnx + 50


def test_world_fps_counts_every_game(tiny_world_onnx):
    figures = benchmark(tiny_world_onnx, backends=("onnxruntime",), nfe=(1,), batch=4, frames=6, say=lambda text: None)
    frame = figures["engines"]["onnxruntime"]["frame"]["1"]
    assert frame["world_fps"] == pytest.approx(4 * frame["fps"], rel=1e-3)
    assert any("nfe 1" in line for line in table(figures))


def test_a_world_without_starts_can_be_timed(tiny_world_onnx, tmp_path):
    shutil.copytree(tiny_world_onnx, tmp_path / "w", ignore=shutil.ignore_patterns("starts"))
    assert benchmark(tmp_path / "w", nfe=(1,), frames=2, say=lambda text: None)["engines"]["onnxruntime"]["frame"]["1"]


def test_a_timed_backend_plays_the_same_frames(tiny_world_onnx):
    plain = World.load(tiny_world_onnx)
    timed = World(plain.config, TimedBackend(plain._backend), plain._starts)
    plain.reset(5), timed.reset(5)
    assert all((plain.step(a).image == timed.step(a).image).all() for a in (1, 2, 3))


def test_percentiles_are_in_order():
    figures = percentiles(np.arange(1, 101, dtype=float))
    assert figures == {"ms_p50": 50.5, "ms_p95": 95.05, "ms_p99": 99.01}


def test_wrong_counts_are_refused(tiny_world_onnx):
    with pytest.raises(InputError, match="--frames"):
        benchmark(tiny_world_onnx, frames=0)
    with pytest.raises(InputError, match="--batch"):
        benchmark(tiny_world_onnx, batch=0)


def test_a_world_that_cannot_be_played_fails_with_its_reason(tmp_path):
    with pytest.raises(RunError, match="no world"):
        measure_in_new_process(tmp_path / "missing")
