"""Games on TensorRT, on a stand-in that executes its graphs: addresses, rings, their order and CUDA graphs are real."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

import tensorrt_stand_in as stand_in  # noqa: E402

from worldgen.backends import open_backend  # noqa: E402
from worldgen.backends.engine_folder import engine_folder, engine_shape  # noqa: E402
from worldgen.bundle import Starts, read_manifest  # noqa: E402
from worldgen.config import WorldConfig  # noqa: E402
from worldgen.errors import InputError  # noqa: E402
from worldgen.export.precision import PRECISIONS  # noqa: E402
from worldgen.export.tensorrt_graph import for_tensorrt  # noqa: E402
from worldgen.world import World  # noqa: E402


@pytest.fixture
def engines(tiny_engines: Path) -> Path:
    """The tiny world with float32 engines for up to 16 games. Read only."""
    return tiny_engines.parent


@pytest.fixture
def gpu() -> Iterator[None]:
    with stand_in.no_gpu_but_this_one():
        yield


def same_games(worlds: list[World], frames: int = 10) -> None:
    batch = worlds[0].batch or 1
    for world in worlds:
        world.reset(3)
    for i in range(frames):
        actions = [(i + slot) % 5 for slot in range(batch)]
        images = [world.step(actions if world.batch else actions[0]).image for world in worlds]
        assert np.abs(images[0].astype(int) - images[1]).max() <= 1
    states = [world.snapshot() for world in worlds]
    np.testing.assert_allclose(states[0].cache, states[1].cache, atol=1e-5)


def test_the_engines_of_a_world_play_its_games(engines: Path, gpu: None):
    """A ring that is read after its slot was written, or a frame that is not copied, shows at once."""
    stand_in.CUDAGraph.replays = 0
    world = World.load(engines, backend="tensorrt:fp32", batch=3)
    same_games([World.load(engines, backend="onnxruntime", batch=3), world])
    assert stand_in.CUDAGraph.replays >= 8  # all but the first frames
    assert world.engine["device"] == "Stand-in" and world.engine["version"] == f"tensorrt {stand_in.VERSION}"


def test_a_ring_is_written_where_it_lies(engines: Path, gpu: None):
    world = World.load(engines, backend="tensorrt")
    world.reset(0)
    ring = world._state.cache
    before, address = ring.clone(), ring.data_ptr()
    for _ in range(3):
        world.step(1)
        assert world._state.cache.data_ptr() == address
    assert (ring != before).any()


def test_games_of_several_sizes_share_an_engine_and_do_not_disturb_each_other(engines: Path, gpu: None):
    backend = open_backend(engines, "tensorrt")
    config, starts = WorldConfig.load(engines / "world.json"), Starts.load(engines)
    sizes = (1, 3, 1, 5, 9)
    apart = [World.load(engines, backend="onnxruntime", batch=size) for size in sizes]
    together = [World(config, backend, starts, size) for size in sizes]
    for world in (*apart, *together):
        world.reset(7)
    for i in range(6):
        for one, other in zip(apart, together, strict=True):
            actions = [(i + slot) % 5 for slot in range(one.batch)]
            assert np.abs(one.step(actions).image.astype(int) - other.step(actions).image).max() <= 1


def test_what_was_shown_stays_while_the_game_goes_on(engines: Path, gpu: None):
    """Of what a CUDA graph writes anew in every frame, a world gets copies."""
    world = World.load(engines, backend="tensorrt")
    world.reset(0)
    states = [world._state]
    for i in range(4):
        world.step(i)
        states.append(world._state)
    kept = [state.previous.clone() for state in states]
    world.step(2)
    for state, before in zip(states, kept, strict=True):
        assert (state.previous == before).all()
    assert all((a != b).any() for a, b in itertools.pairwise(kept))


def test_more_games_than_the_engines_run_are_refused_with_the_command(engines: Path, gpu: None):
    with pytest.raises(InputError, match="up to 16 games.*asked for 17.*--to tensorrt --precision fp32 --batch 17"):
        World.load(engines, backend="tensorrt", batch=17).reset(0)


def test_a_tensorrt_without_caches_copies_the_ring(engines: Path, tmp_path: Path):
    graphs = {name: onnx.load(engines / "onnx" / f"{name}.onnx") for name in ("commit", "frame_2")}
    specs = read_manifest(engines).specs
    for name, model in graphs.items():
        flat, copied = (for_tensorrt(model, specs[name], is_in_place) for is_in_place in (True, False))
        onnx.checker.check_model(copied, full_check=True)
        assert [n.op_type for n in flat.graph.node].count("TensorScatter") == 1
        assert "TensorScatter" not in {n.op_type for n in copied.graph.node}
        inputs = {spec.name: random_input(spec) for spec in specs[name].inputs}
        expected = run_onnx(copied, inputs)
        got = run_onnx(
            flat, inputs | {"cache": inputs["cache"].reshape(engine_shape(specs[name].input("cache"), 2, True))}
        )
        for key, value in expected.items():
            np.testing.assert_array_equal(got[key].reshape(value.shape), value)


def random_input(spec) -> np.ndarray:
    rng = np.random.default_rng(0)
    whole = spec.dtype != "float32"
    return (rng.integers(0, 4, (2, *spec.shape)) if whole else rng.standard_normal((2, *spec.shape))).astype(spec.dtype)


def run_onnx(model, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip((x.name for x in session.get_outputs()), session.run(None, inputs), strict=True))


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
def test_engines_of_fewer_bits_are_published_where_they_agree(
    engines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
):
    from worldgen.export import fp8

    monkeypatch.setattr(fp8, "WIDE", 32)  # the tiny world's width
    world = Path(shutil.copytree(engines, tmp_path / "tiny"))
    manifest = stand_in.build_engines(world, precision, max_batch=3, is_verified=True)
    limits = PRECISIONS[precision]
    assert manifest["precision"] == precision and manifest["profiles"] == [1, 3]
    assert 1e-5 < manifest["parity"]["denoise"] <= limits.step_error
    assert limits.psnr <= min(manifest["pictures"].values()) and manifest["rollout_psnr"] >= limits.psnr
    plan = (engine_folder(world, stand_in.GPU.slug, stand_in.LIBRARY, precision) / "denoise.plan").read_bytes()
    assert (b"DequantizeLinear" in plan) == (precision == "fp8")
