"""Export: graphs that agree with torch, one copy of the weights, published whole or not at all."""

from __future__ import annotations

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
from worldgen.backends import open_backend  # noqa: E402
from worldgen.bundle import (  # noqa: E402
    TRAINED_ON,
    Starts,
    load_network,
    network_hashes,
    read_manifest,
    save_network,
)
from worldgen.config import NFE_CHOICES, WorldConfig  # noqa: E402
from worldgen.errors import InputError, RunError  # noqa: E402
from worldgen.export import to_onnx  # noqa: E402
from worldgen.export.precision import PRECISIONS, inner_products  # noqa: E402
from worldgen.export.publish import publish  # noqa: E402
from worldgen.export.quantise import quantised  # noqa: E402
from worldgen.export.ranges import check_half, find_ranges  # noqa: E402
from worldgen.export.shared_weights import SMALL, share_weights  # noqa: E402
from worldgen.files import write_json  # noqa: E402
from worldgen.graphs import REQUIRED, frame_graph  # noqa: E402
from worldgen.uncertainty import fit_uncertainty  # noqa: E402
from worldgen.world import World  # noqa: E402

ROWS = 48
GRAPHS = (*REQUIRED, *map(frame_graph, NFE_CHOICES))


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


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_pass_the_checker_and_are_what_the_manifest_says(tiny_world: Path, name: str):
    onnx.checker.check_model(str(tiny_world / "onnx" / f"{name}.onnx"), full_check=True)
    spec = read_manifest(tiny_world).specs[name]
    graph = session(tiny_world / "onnx", name)
    for given, wanted in ((graph.get_inputs(), spec.inputs), (graph.get_outputs(), spec.outputs)):
        assert {x.name: tuple(x.shape[1:]) for x in given} == {x.name: x.shape for x in wanted}
        assert not any(isinstance(x.shape[0], int) for x in given)  # the batch


@pytest.mark.parametrize("name", [*REQUIRED, "frame_2"])
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
    manifest, limits = read_manifest(tiny_world).raw, PRECISIONS["fp32"]
    assert set(manifest["parity"]) == set(GRAPHS)
    assert all(0 <= error <= 5 * limits.step_error for error in manifest["parity"].values())
    assert set(manifest["pictures"]) == {"decode", *map(frame_graph, NFE_CHOICES)}
    assert manifest["parity"]["denoise"] > 0  # not compared with itself
    assert 0 < manifest["rollout_error"] <= limits.rollout_error and manifest["rollout_psnr"] >= limits.psnr


@pytest.mark.parametrize("nfe", NFE_CHOICES)
def test_a_whole_frame_in_one_graph_is_the_same_frame_bit_for_bit(tiny_world: Path, nfe: int):
    worlds = [World.load(tiny_world, backend="onnxruntime", batch=3, nfe=nfe) for _ in range(2)]
    assert frame_graph(nfe) in worlds[0]._backend.specs
    worlds[1]._backend.specs = {name: worlds[1]._backend.specs[name] for name in REQUIRED}
    for world in worlds:
        world.reset(4)
    for i in range(2 * worlds[0].config.context):
        frames = [world.step([i % 5, 1, 2]) for world in worlds]
        np.testing.assert_array_equal(frames[0].image, frames[1].image)
        np.testing.assert_array_equal(frames[0].reward, frames[1].reward)
    states = [world.snapshot() for world in worlds]
    for name in ("cache", "previous", "decoder"):
        np.testing.assert_array_equal(getattr(states[0], name), getattr(states[1], name))


@pytest.mark.parametrize("name", ["commit", "frame_1", "frame_2", "frame_4"])
def test_nothing_reads_the_ring_once_its_slot_may_have_been_written(tiny_world: Path, tmp_path: Path, name: str):
    """In the graph as ONNX Runtime has optimised it: all that reads the ring comes before the write, by its inputs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimised.onnx"), 3
    onnxruntime.InferenceSession(tiny_world / "onnx" / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
    graph = onnx.load(tmp_path / "optimised.onnx", load_external_data=False).graph
    makes = {value: node for node in graph.node for value in node.output}
    (write,) = (node for node in graph.node if node.op_type == "TensorScatter")
    assert write.input[0] == "cache"
    before, waiting = set(), [*write.input[1:]]
    while waiting:
        value = waiting.pop()
        if value in makes and value not in before:
            before |= set(makes[value].output)
            waiting += makes[value].input
    derived = {"cache"}  # the ring and what shares its memory: slices of it may be views
    for node in graph.node:
        if derived & set(node.input) and node.op_type in ("Split", "Slice", "Squeeze", "Gather", "Reshape", "Identity"):
            derived |= set(node.output)
    readers = [node for node in graph.node if derived & set(node.input) and node is not write]
    assert readers and all(set(node.output) <= before for node in readers if set(node.output) - derived)


@pytest.mark.parametrize("name", ["commit", "frame_2"])
def test_a_ring_written_where_it_lies_is_the_ring_that_a_copy_gives(tiny_world: Path, name: str):
    """The slot is written last, after all that reads it."""
    inputs = random_inputs(tiny_world, name)
    graph = session(tiny_world / "onnx", name)
    expected = dict(zip((x.name for x in graph.get_outputs()), graph.run(None, inputs), strict=True))
    engine = open_backend(tiny_world, "onnxruntime:cpu")
    given = {key: engine.asarray(value.copy()) for key, value in inputs.items()}
    got = engine.run(name, given)
    assert got["next_cache"].data_ptr() == given["cache"].data_ptr()
    for key, value in expected.items():
        np.testing.assert_array_equal(engine.numpy(got[key]), value)
    changed = (expected["next_cache"] != inputs["cache"]).any(axis=(1, 2, 3, 4, 6))  # (b, s)
    np.testing.assert_array_equal(np.flatnonzero(changed), np.arange(ROWS) * 4 + inputs["position"] % 4)


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
def quick_export(tiny_world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the tiny world's graphs for those that torch exports: half a minute less."""
    exported = {name: onnx.load(tiny_world / "onnx" / f"{name}.onnx") for name in REQUIRED}
    monkeypatch.setattr(to_onnx, "_export", lambda module, spec, *_: exported[spec.name])


@pytest.fixture
def copied(tiny_world: Path, tmp_path: Path, quick_export: None) -> Path:
    return Path(shutil.copytree(tiny_world, tmp_path / "tiny"))


def spoil(models: dict, name: str) -> None:
    tensor = max(models[name].graph.initializer, key=lambda x: len(x.raw_data))
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.2), tensor.name))


@pytest.mark.parametrize("name", ["encode", "denoise", "frame_4"])
def test_a_graph_that_disagrees_is_not_published(copied: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    before, share = files(copied / "onnx"), to_onnx.share_weights

    def spoiled(models: dict, folder: Path) -> None:
        spoil(models, name)
        share(models, folder)

    monkeypatch.setattr(to_onnx, "share_weights", spoiled)
    with pytest.raises(RunError, match=f"{name}.*differs from torch.*nothing was published"):
        to_onnx.export_onnx(copied, say=lambda text: None)
    assert files(copied / "onnx") == before and not list(copied.glob(".*"))
    World.load(copied, backend="onnxruntime").reset(0)


def test_an_export_that_dies_leaves_the_graphs_that_were_there(copied: Path, monkeypatch: pytest.MonkeyPatch):
    before = files(copied / "onnx")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(to_onnx, "share_weights", dies)
        to_onnx.export_onnx(copied, say=lambda text: None)
    assert files(copied / "onnx") == before
    to_onnx.export_onnx(copied, say=lambda text: None)  # and the next try succeeds
    assert set(files(copied / "onnx")) == set(before)


def test_graphs_of_weights_that_changed_meanwhile_are_stale(
    tiny_world: Path, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A training that saves while its world is being exported."""
    newer = tmp_path / "newer"
    newer.mkdir()
    build_tiny_world(newer, seed=1)
    share = to_onnx.share_weights

    def saved_meanwhile(models: dict, folder: Path) -> None:
        share(models, folder)
        shutil.copytree(newer / "tokenizer", copied / "tokenizer", dirs_exist_ok=True)

    monkeypatch.setattr(to_onnx, "share_weights", saved_meanwhile)
    with pytest.raises(InputError, match="older than.*tokenizer"):
        to_onnx.export_onnx(copied, say=lambda text: None)


def test_what_reads_the_tokens_and_what_makes_them_keep_their_bits(tiny_world: Path):
    graph = onnx.load(tiny_world / "onnx" / "denoise.onnx", load_external_data=False).graph
    weights = {x.name: tuple(x.dims) for x in graph.initializer}
    kinds = [n.op_type for n in graph.node]
    last_convolution = max(i for i, kind in enumerate(kinds) if kind == "Conv")
    products = [i for i, n in enumerate(graph.node) if n.op_type == "MatMul" and len(weights.get(n.input[1], ())) == 2]
    _, *inner = [i for i in products if i > last_convolution]  # the first is the stem's last
    # the last six: two say where pixels of blocks come from, two turn tokens into them and back, two draw over them;
    # with cubic kernels there is one more
    assert [n.output for n in inner_products(graph)] == [graph.node[i].output for i in inner[:-7]]
    assert len(inner) == 2 * 4 + 6  # four at least a block


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_fewer_bits_are_published_beside_the_others_and_play(copied: Path, precision: str):
    said: list[str] = []
    manifest = to_onnx.export_onnx(copied, say=said.append, precision=precision)
    limits = PRECISIONS[precision]
    assert manifest["precision"] == precision and set(manifest["parity"]) == set(GRAPHS)
    assert 1e-5 < manifest["parity"]["frame_2"] <= 3 * limits.step_error  # two steps and the commit
    assert limits.psnr <= min(manifest["pictures"].values())
    assert limits.psnr <= manifest["rollout_psnr"] and any("dB" in line for line in said)
    if precision == "fp16":
        sizes = [(copied / f / "weights.bin").stat().st_size for f in ("onnx-fp16", "onnx")]
        assert sizes[0] < 0.8 * sizes[1]
    world = World.load(copied, backend=f"onnxruntime:cpu:{precision}")
    reference = World.load(copied, backend="onnxruntime:cpu")
    assert world.backend_name == f"onnxruntime:cpu:{precision}" and world.engine["precision"] == precision
    world.reset(0), reference.reset(0)
    frame, wanted = world.step(1).image, reference.step(1).image
    assert np.abs(frame.astype(int) - wanted).max() <= 16
    world.restore(reference.snapshot())  # states are the same in all precisions


def test_a_precision_that_was_not_exported_is_refused_with_the_command(tiny_world: Path):
    with pytest.raises(InputError, match="--to onnx --precision fp16"):
        World.load(tiny_world, backend="onnxruntime:fp16")


def test_an_unknown_precision_is_refused(tiny_world: Path):
    for target, wrong in (("onnx", "fp8"), ("onnx", "bf16"), ("tensorrt", "int4")):
        with pytest.raises(InputError, match=f"unknown precision '{wrong}'.*fp16"):
            to_onnx.export_world(tiny_world, target, wrong)


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
    hidden = np.random.default_rng(0).normal(size=(50, 5, 32))
    fit_uncertainty(hidden, hidden, network_hashes(source)).save(source)
    write_json(source / TRAINED_ON, {"is_complete": True, "recordings": {}})
    publish(source, out, say=lambda text: None)
    assert (out / TRAINED_ON).read_bytes() == (source / TRAINED_ON).read_bytes()
    images = []
    for backend in ("onnxruntime", "torch"):
        world = World.load(out, backend=backend)
        assert world.reset(0).uncertainty > 0  # of the rounded weights now
        frames = [world.step(action) for action in ([0.5, -1.0], [0.0, 0.0], [1.0, 1.0]) * 2]
        assert {(frame.reward, frame.terminated) for frame in frames} == {(0.0, False)}
        images.append(np.stack([frame.image for frame in frames]).astype(int))
    assert np.abs(images[0] - images[1]).max() <= 1
    sizes = [sum(p.stat().st_size for p in (w / "dynamics").iterdir()) for w in (source, out)]
    whole, rounded = (load_network(w, "dynamics") for w in (source, out))
    exact = whole.motion.basis.numel() * 4
    assert sizes[1] - exact < 0.6 * (sizes[0] - exact)
    assert torch.equal(whole.motion.basis, rounded.motion.basis)  # copies of copies are made in it
    assert not torch.equal(whole.tokens_in.weight, rounded.tokens_in.weight)
    before = Starts.load(source)
    assert before is not None and (Starts.load(out).frames == before.frames).all()


def test_a_world_of_whole_pixels_is_exported_and_plays_as_torch_does(tmp_path: Path):
    """Blocks of different tokens move in different directions, as the action says."""
    build_tiny_world(tmp_path, warp=False, whole=True)
    dynamics = load_network(tmp_path, "dynamics")
    generator = torch.Generator().manual_seed(0)
    motion = dynamics.motion
    with torch.no_grad():
        motion.kernels.bias.normal_(0, 30, generator=generator)
        motion.camera.weight.normal_(0, 2, generator=generator)
    save_network(dynamics, tmp_path, "dynamics")
    moved = motion.log_odds(torch.randn(50, 5, 32, generator=generator)).argmax(-1) != motion.reach
    assert moved.float().mean((1, 2, 3)).min() > 0.5  # on both axes
    to_onnx.export_onnx(tmp_path, say=lambda text: None)
    images = []
    for backend in ("onnxruntime", "torch"):
        world = World.load(tmp_path, backend=backend)
        world.reset(0)
        images.append(np.stack([world.step(action).image for action in (1, 2, 3, 4) * 3]).astype(int))
    assert np.abs(images[0] - images[1]).max() <= 1 and np.abs(np.diff(images[0], axis=0)).max() > 5


def test_a_world_is_not_published_onto_itself(tiny_world: Path):
    with pytest.raises(InputError, match="itself"):
        publish(tiny_world, tiny_world)


@pytest.mark.parametrize("name", [".", "worlds", "worlds/mine", "photos", "photos/cat.jpg"])
def test_publishing_replaces_nothing_but_an_older_world(tiny_world: Path, tmp_path: Path, name: str):
    world, out = tmp_path / "worlds" / "mine" / "better", tmp_path / name
    shutil.copytree(tiny_world, world)
    files = [tmp_path / "worlds" / "mine" / "world.json", tmp_path / "photos" / "cat.jpg"]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_text("precious")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=f"{out} .*would be replaced: choose") as caught:
        publish(world, out, say=lambda text: None)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before and [file.read_text() for file in files] == ["precious"] * 2


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


@pytest.mark.parametrize("num_bytes", [4, 2, 1])
def test_equal_tensors_share_their_bytes_and_nothing_is_lost(tmp_path: Path, num_bytes: int):
    weights = np.random.default_rng(0).standard_normal((40, 40)).astype(np.float32)
    if num_bytes == 2:
        weights = weights.astype(np.float16).astype(np.float32)
    if num_bytes == 1:
        weights = quantised(torch.from_numpy(weights)).numpy()
    x = np.random.default_rng(1).standard_normal((3, 40)).astype(np.float32)
    expected = []
    for model in two_models(weights).values():
        expected.append(onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0])
    share_weights(two_models(weights), tmp_path)
    assert (tmp_path / "weights.bin").stat().st_size == num_bytes * weights.size
    for name, want in zip(("plain", "residual"), expected, strict=True):
        onnx.checker.check_model(str(tmp_path / f"{name}.onnx"), full_check=True)
        np.testing.assert_array_equal(session(tmp_path, name).run(None, {"x": x})[0], want)


def test_many_scales_are_stored_as_weights_are(tmp_path: Path):
    """Those of 600 rows are too large to stay in the graph: half-precision numbers, or bytes where they can be."""
    weights = quantised(torch.randn(600, 600, generator=torch.Generator().manual_seed(0))).numpy()
    share_weights(two_models(weights), tmp_path)
    assert (tmp_path / "weights.bin").stat().st_size - weights.size in range(600, 1300)
    assert (tmp_path / "plain.onnx").stat().st_size < SMALL


def test_a_matrix_and_its_transpose_share_their_bytes(tmp_path: Path):
    weights = np.random.default_rng(0).standard_normal((40, 40)).astype(np.float32)
    x = np.random.default_rng(1).standard_normal((3, 40)).astype(np.float32)
    models = {"plain": two_models(weights)["plain"], "flipped": two_models(weights.T.copy())["plain"]}
    expected = [onnxruntime.InferenceSession(m.SerializeToString()).run(None, {"x": x})[0] for m in models.values()]
    share_weights(models, tmp_path)
    assert (tmp_path / "weights.bin").stat().st_size == weights.nbytes
    for name, want in zip(("plain", "flipped"), expected, strict=True):
        np.testing.assert_array_equal(session(tmp_path, name).run(None, {"x": x})[0], want)


def test_numbers_that_float16_cannot_hold_are_found_before_anything_is_published():
    """On a CPU they would pass: there ONNX Runtime computes in float32."""
    model = two_models(np.eye(40, dtype=np.float32))["residual"]
    x = np.ones((3, 40), np.float32)
    check_half("residual", model, [{"x": 65504 * x}])
    with pytest.raises(RunError, match=r"residual: m reaches 70000, more than float16 holds.*bf16"):
        check_half("residual", two_models(7 * np.eye(40, dtype=np.float32))["residual"], [{"x": x}, {"x": 10000 * x}])


def test_the_range_of_a_value_is_that_of_all_runs():
    model = two_models(np.eye(40, dtype=np.float32))["residual"]
    runs = [{"x": np.full((2, 40), value, np.float32)} for value in (1, -5, 3)]
    assert find_ranges(model, ["x", "m", "y"], runs) == {"x": 5, "m": 5, "y": 4}  # y is one more than m
