"""Benchmarks and the cost of playing."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from worldgen.errors import InputError, RunError
from worldgen.export.bench_plot import plot
from worldgen.export.benchmark import TimedBackend, benchmark, table
from worldgen.measure import measure, measure_in_new_process, percentiles
from worldgen.training import report_tables
from worldgen.training.findings import _cost
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
        assert runs == {"encode": 0, "denoise": 1, "commit": 1, "decode": 1}  # nfe 1
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


@pytest.fixture(scope="module")
def swept(tiny_world_onnx) -> dict:
    return benchmark(
        tiny_world_onnx, backends=("onnxruntime",), batch=(1, 3), frames=4, long=150, say=lambda text: None
    )


def test_several_sizes_are_compared(swept):
    assert set(swept["sweep"]) == {"1", "3"} and swept["batch"] == 1
    for size, timed in swept["sweep"].items():
        for frame in timed["onnxruntime"].values():
            assert frame["world_fps"] == pytest.approx(int(size) * frame["fps"], rel=1e-2)
    assert any("3 games" in line for line in table(swept))


def test_a_long_game_is_compared_with_a_short_one(swept):
    long = swept["engines"]["onnxruntime"]["long_game"]
    assert long["frames"] == 150 and long["ratio"] == pytest.approx(long["old_ms"] / long["young_ms"], abs=0.01)
    assert 10 < long["young_megabytes"] < long["old_megabytes"] + 50
    assert any("frame 150" in line for line in table(swept))


def test_engines_are_compared_with_torch(figures, swept):
    engines = figures["engines"]
    assert engines["torch"]["frame"]["2"]["against_torch"] == 1
    speedup = engines["torch"]["frame"]["2"]["ms_p50"] / engines["onnxruntime"]["frame"]["2"]["ms_p50"]
    assert engines["onnxruntime"]["frame"]["2"]["against_torch"] == pytest.approx(speedup, abs=0.02)
    assert "against_torch" not in swept["engines"]["onnxruntime"]["frame"]["2"]


def test_figures_are_drawn(figures, swept, tmp_path):
    pytest.importorskip("matplotlib")
    from PIL import Image

    widths = []
    for name, drawn in (("one", figures), ("several", swept)):
        plot(drawn, tmp_path / "new" / f"{name}.png")
        with Image.open(tmp_path / "new" / f"{name}.png") as picture:
            widths.append(picture.width)
            assert np.asarray(picture.convert("L")).std() > 5
    assert widths[1] > widths[0]


def test_a_world_without_starts_can_be_timed(tiny_world_onnx, tmp_path):
    shutil.copytree(tiny_world_onnx, tmp_path / "w", ignore=shutil.ignore_patterns("starts"))
    assert benchmark(tmp_path / "w", nfe=(1,), frames=2, say=lambda text: None)["engines"]["onnxruntime"]["frame"]["1"]


def test_a_timed_backend_plays_the_same_frames(tiny_world_onnx):
    plain = World.load(tiny_world_onnx)
    timed = World(plain.config, TimedBackend(plain._backend), plain._starts)
    plain.reset(5), timed.reset(5)
    assert all((plain.step(a).image == timed.step(a).image).all() for a in (1, 2, 3))


def test_a_timed_backend_waits_for_a_gpu(tiny_world_onnx):
    plain = World.load(tiny_world_onnx, backend="onnxruntime:cpu")
    backend = TimedBackend(plain._backend)
    backend.facts = {**backend.facts, "device": "cuda"}
    timed = World(plain.config, backend, plain._starts)
    plain.reset(5), timed.reset(5)
    assert (plain.step(1).image == timed.step(1).image).all() and all(backend.ms.values())


def test_percentiles_are_in_order():
    figures = percentiles(np.arange(1, 101, dtype=float))
    assert figures == {"ms_p50": 50.5, "ms_p95": 95.05, "ms_p99": 99.01}


def test_a_frame_is_timed_without_and_with_its_in_between_one(loud_world, tiny_world_onnx):
    cost = measure(loud_world, backend="onnxruntime", nfe=1, batch=None, frames=12, between=True)
    assert 0 < cost["with_between"]["ms_p50"] <= cost["with_between"]["ms_p95"] and cost["with_between"]["fps"] > 0
    assert "With an in-between one" in _cost(cost, 15.0)[0]
    assert "with an in-between frame" in report_tables.cost(cost)
    assert measure(loud_world, backend="onnxruntime", nfe=1, batch=None, frames=2)["with_between"] is None
    plain = measure(tiny_world_onnx, backend="onnxruntime", nfe=1, batch=None, frames=2, between=True)
    assert plain["with_between"] is None and "in-between" not in _cost(plain, 15.0)[0] + report_tables.cost(plain)


def test_wrong_counts_are_refused(tiny_world_onnx):
    with pytest.raises(InputError, match="--frames"):
        benchmark(tiny_world_onnx, frames=0)
    for batch in (0, (1, 0), ()):
        with pytest.raises(InputError, match="--batch"):
            benchmark(tiny_world_onnx, batch=batch)
    for long in (-1, 100):
        with pytest.raises(InputError, match="--long"):
            benchmark(tiny_world_onnx, long=long)


def test_a_world_that_cannot_be_played_fails_with_its_reason(tmp_path):
    with pytest.raises(RunError, match="no world"):
        measure_in_new_process(tmp_path / "missing")
