"""Export: graphs that agree with torch, one copy of the weights, published whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import build_tiny_world

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from worldgen.actions import ActionMap  # noqa: E402
from worldgen.bundle import Starts, read_manifest  # noqa: E402
from worldgen.config import WorldConfig  # noqa: E402
from worldgen.errors import InputError, RunError  # noqa: E402
from worldgen.export import to_onnx  # noqa: E402
from worldgen.export.publish import publish  # noqa: E402
from worldgen.export.shared_weights import SMALL, share_weights  # noqa: E402
from worldgen.export.verify import PIXEL_TOLERANCE, TOLERANCE  # noqa: E402
from worldgen.files import write_json  # noqa: E402
from worldgen.graphs import REQUIRED  # noqa: E402
from worldgen.world import World  # noqa: E402

ROWS = 48


def session(folder: Path, name: str):
    return onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def random_inputs(world: Path, name: str) -> dict[str, np.ndarray]:
    """ROWS of what each input may hold"""
    rng = np.random.default_rng(0)
    bounds = {"action": 6, "position": 64, "filled": 5}
    inputs = {}
    for spec in read_manifest(world).specs[name].inputs:
        shape = (ROWS, *spec.shape)
        if spec.dtype == "float32":
            is_level = spec.shape == ()
            inputs[spec.name] = (rng.random if is_level else rng.standard_normal)(shape, np.float32)
        else:
            inputs[spec.name] = rng.integers(0, bounds.get(spec.name, 256), shape).astype(spec.dtype)
    return inputs


@pytest.mark.parametrize("name", REQUIRED)
def test_graphs_pass_the_checker_and_are_what_the_manifest_says(tiny_world: Path, name: str):
    onnx.checker.check_model(str(tiny_world / "onnx" / f"{name}.onnx"), full_check=True)
    spec = read_manifest(tiny_world).specs[name]
    graph = session(tiny_world / "onnx", name)
    for given, wanted in ((graph.get_inputs(), spec.inputs), (graph.get_outputs(), spec.outputs)):
        assert {x.name: tuple(x.shape[1:]) for x in given} == {x.name: x.shape for x in wanted}
        assert not any(isinstance(x.shape[0], int) for x in given)  # the batch


@pytest.mark.parametrize("name", REQUIRED)
def test_any_batch_runs_and_every_row_is_computed_alone(tiny_world: Path, name: str):
    """Bit for bit: neither the size of a batch nor the place in it matters."""
    graph, inputs = session(tiny_world / "onnx", name), random_inputs(tiny_world, name)
    whole = graph.run(None, inputs)
    for batch in range(1, 9):
        for part, rows in zip(graph.run(None, {k: v[:batch] for k, v in inputs.items()}), whole, strict=True):
            np.testing.assert_array_equal(part, rows[:batch])
    for i in range(ROWS):
        for part, rows in zip(graph.run(None, {k: v[i : i + 1] for k, v in inputs.items()}), whole, strict=True):
            np.testing.assert_array_equal(part[0], rows[i])


def test_agreement_with_torch_was_measured(tiny_world: Path):
    parity = read_manifest(tiny_world).raw["parity"]
    assert set(parity) == set(REQUIRED)
    assert all(0 <= error <= TOLERANCE for error in parity.values())
    assert parity["denoise"] > 0  # not compared with itself


def test_weights_are_stored_once(tiny_world: Path):
    folder = tiny_world / "onnx"
    lengths, distinct = [], {}
    for name in REQUIRED:
        model = onnx.load(folder / f"{name}.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            where = {entry.key: entry.value for entry in tensor.external_data}
            if not where:
                assert len(tensor.SerializeToString()) < SMALL + 200, f"{tensor.name} lies in {name}.onnx"
                continue
            assert where["location"] == "weights.bin"
            lengths.append(int(where["length"]))
            distinct[where["offset"]] = int(where["length"])
    size = (folder / "weights.bin").stat().st_size
    assert size < 0.8 * sum(lengths)  # the dynamics is in two graphs
    assert size < sum(distinct.values()) + 4096 * len(distinct)  # each begins on a page
    content = (folder / "weights.bin").read_bytes()
    stored = [content[int(offset or 0) : int(offset or 0) + length] for offset, length in distinct.items()]
    assert len(set(stored)) == len(stored)


def test_graphs_hold_no_path_of_the_machine_that_made_them(tiny_world: Path):
    here = [str(Path(to_onnx.__file__).parents[1]), str(Path(torch.__file__).parents[1]), str(Path.home())]
    for name, content in files(tiny_world / "onnx").items():
        for path in here:
            assert path == "/" or path.encode() not in content, f"{name} holds {path}"


# Publishing


@pytest.fixture
def only_decode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports one graph: seconds less."""
    for function in ("step_modules", "step_specs"):
        build = getattr(to_onnx, function)
        monkeypatch.setattr(to_onnx, function, lambda *networks, build=build: {"decode": build(*networks)["decode"]})


def test_a_graph_that_disagrees_is_not_published(
    tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only_decode: None
):
    world = Path(shutil.copytree(tiny_world, tmp_path / "tiny"))
    before, share = files(world / "onnx"), to_onnx.share_weights

    def spoiled(models: dict, folder: Path) -> None:
        tensor = max(models["decode"].graph.initializer, key=lambda x: len(x.raw_data))
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.2), tensor.name))
        share(models, folder)

    monkeypatch.setattr(to_onnx, "share_weights", spoiled)
    with pytest.raises(RunError, match="decode.onnx.*differs from torch"):
        to_onnx.export_onnx(world, say=lambda text: None)
    assert files(world / "onnx") == before
    World.load(world, backend="onnxruntime").reset(0)
    assert PIXEL_TOLERANCE == 1


def test_an_export_that_dies_leaves_the_graphs_that_were_there(
    tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only_decode: None
):
    world = Path(shutil.copytree(tiny_world, tmp_path / "tiny"))
    before = files(world / "onnx")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(to_onnx, "share_weights", dies)
        to_onnx.export_onnx(world, say=lambda text: None)
    assert files(world / "onnx") == before
    to_onnx.export_onnx(world, say=lambda text: None)  # and the next try succeeds
    assert set(files(world / "onnx")) == {"decode.onnx", "weights.bin", "manifest.json"}


def test_graphs_of_weights_that_changed_meanwhile_are_stale(
    tiny_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only_decode: None
):
    """A training that saves while its world is being exported."""
    world, newer = Path(shutil.copytree(tiny_world, tmp_path / "tiny")), tmp_path / "newer"
    newer.mkdir()
    build_tiny_world(newer, seed=1)
    share = to_onnx.share_weights

    def saved_meanwhile(models: dict, folder: Path) -> None:
        shutil.copytree(newer / "tokenizer", world / "tokenizer", dirs_exist_ok=True)
        share(models, folder)

    monkeypatch.setattr(to_onnx, "share_weights", saved_meanwhile)
    manifest = to_onnx.export_onnx(world, say=lambda text: None)
    assert manifest["weights"] == json.loads((tiny_world / "onnx" / "manifest.json").read_text())["weights"]


def test_a_world_without_a_network_cannot_be_exported(tiny_world: Path, tmp_path: Path):
    world = Path(shutil.copytree(tiny_world, tmp_path / "tiny"))
    shutil.rmtree(world / "dynamics")
    with pytest.raises(InputError, match="no dynamics.*--stages dynamics"):
        to_onnx.export_onnx(world, say=lambda text: None)
    World.load(tiny_world, backend="onnxruntime")


def test_an_unknown_target_is_refused(tiny_world: Path):
    with pytest.raises(InputError, match="'coreml'.*onnx"):
        to_onnx.export_world(tiny_world, "coreml")


def test_a_published_world_of_floats_and_without_heads_plays_in_half_the_bytes(tmp_path: Path):
    """Box actions, no reward, weights rounded to half precision: all engines compute with the same numbers."""
    source, out = tmp_path / "source", tmp_path / "published"
    source.mkdir()
    actions = ActionMap("box", (0, 0), ("x", "y"), low=(-1.0, -1.0), high=(1.0, 1.0))
    build_tiny_world(source, actions=actions)
    shutil.rmtree(source / "heads")
    facts = WorldConfig.load(source / "world.json").to_json() | {"has_reward": False, "has_terminated": False}
    write_json(source / "world.json", facts)
    publish(source, out, say=lambda text: None)
    images = []
    for backend in ("onnxruntime", "torch"):
        world = World.load(out, backend=backend)
        world.reset(0)
        frames = [world.step(action) for action in ([0.5, -1.0], [0.0, 0.0], [1.0, 1.0]) * 2]
        assert {(frame.reward, frame.terminated) for frame in frames} == {(0.0, False)}
        images.append(np.stack([frame.image for frame in frames]).astype(int))
    assert np.abs(images[0] - images[1]).max() <= 1
    sizes = [sum(p.stat().st_size for p in (w / "dynamics").iterdir()) for w in (source, out)]
    assert sizes[1] < 0.6 * sizes[0]
    before = Starts.load(source)
    assert before is not None and (Starts.load(out).frames == before.frames).all()


def test_a_world_is_not_published_onto_itself(tiny_world: Path):
    with pytest.raises(InputError, match="itself"):
        publish(tiny_world, tiny_world)


# One copy of the weights


def two_models(weights: np.ndarray) -> dict[str, onnx.ModelProto]:
    """x @ weights, and x @ weights + x, with constants that no graph shares"""
    models = {}
    for name in ("plain", "residual"):
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", len(weights)])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", len(weights)])
        nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
        bias = np.full(1, len(models), np.float32)
        initializers = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")]
        graph = helper.make_graph(nodes, name, [x], [y], initializers)
        models[name] = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return models


@pytest.mark.parametrize("is_half", [False, True])
def test_equal_tensors_share_their_bytes_and_nothing_is_lost(tmp_path: Path, is_half: bool):
    weights = np.random.default_rng(0).standard_normal((40, 40)).astype(np.float32)
    if is_half:
        weights = weights.astype(np.float16).astype(np.float32)
    x = np.random.default_rng(1).standard_normal((3, 40)).astype(np.float32)
    expected = []
    for model in two_models(weights).values():
        expected.append(onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0])
    share_weights(two_models(weights), tmp_path)
    assert (tmp_path / "weights.bin").stat().st_size == weights.nbytes // (2 if is_half else 1)
    for name, want in zip(("plain", "residual"), expected, strict=True):
        onnx.checker.check_model(str(tmp_path / f"{name}.onnx"), full_check=True)
        np.testing.assert_array_equal(session(tmp_path, name).run(None, {"x": x})[0], want)
