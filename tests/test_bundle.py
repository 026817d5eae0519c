"""A world's folder: whatever is damaged, missing, stale or foreign is named in one line with the way out."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import SIDE, TOY_ACTIONS, build_tiny_world

from worldgen import bundle
from worldgen.bundle import Starts, bundled_worlds, describe, find_world, read_manifest
from worldgen.config import WorldConfig
from worldgen.errors import InputError
from worldgen.files import file_hash, new_folder, write_bytes, write_json, write_sealed
from worldgen.world import World

WEIGHTS = bundle.WEIGHTS


@pytest.fixture
def folder(tiny_world: Path, tmp_path: Path) -> Path:
    """A copy of the tiny world that may be damaged."""
    return Path(shutil.copytree(tiny_world, tmp_path / "tiny"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """One bit, in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """change alters the JSON in place, or returns another."""
    raw = json.loads(path.read_text())
    changed = change(raw)
    path.write_text(json.dumps(raw if changed is None else changed))


def refusal(folder: Path, backend: str) -> str:
    with pytest.raises(InputError) as caught:
        World.load(folder, backend=backend)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ONNX graphs


@pytest.mark.parametrize("damage", [cut, flip, empty, remove])
@pytest.mark.parametrize("file", ["weights.bin", "denoise.onnx", "decode.onnx"])
@pytest.mark.parametrize("backend", ["onnxruntime", "auto"])
def test_a_damaged_graph_is_named_with_the_command_that_rebuilds_it(folder: Path, file: str, damage, backend: str):
    damage(folder / "onnx" / file)
    message = refusal(folder, backend)
    assert str(folder / "onnx" / file) in message
    assert f"worldgen export {folder} --to onnx" in message


def edit_manifest(change: Callable[[dict], object]) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "onnx" / "manifest.json", change)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: [],
        lambda raw: {},
        lambda raw: "manifest",
        lambda raw: raw.pop("weights") and None,
        lambda raw: raw.update(graphs=[1, 2]),
        lambda raw: raw.update(graphs={"denoise": 3}),
        lambda raw: raw.update(position_period="often"),
        lambda raw: raw["graphs"]["commit"].update(inputs=None),
        lambda raw: raw["graphs"]["commit"].update(file=7),
        lambda raw: raw["graphs"].pop("commit") and None,
    ],
)
def test_a_manifest_that_is_none_is_refused(folder: Path, change):
    edit_manifest(change)(folder)
    message = refusal(folder, "onnxruntime")
    assert "manifest.json" in message and "worldgen export" in message


def test_a_manifest_that_is_not_json_is_refused(folder: Path):
    cut(folder / "onnx" / "manifest.json")
    message = refusal(folder, "onnxruntime")
    assert "manifest.json" in message and "worldgen export" in message


@pytest.mark.parametrize("file", ["../tokenizer/config.json", "/etc/passwd", "..", "", "../onnx/commit.onnx"])
@pytest.mark.parametrize("which", ["graph", "weights"])
def test_a_manifest_does_not_lead_out_of_its_folder(folder: Path, file: str, which: str):
    def change(raw: dict) -> None:
        part = raw["graphs"]["commit"] if which == "graph" else raw["weights_file"]
        part["file"] = file

    edit_manifest(change)(folder)
    message = refusal(folder, "onnxruntime")
    assert "manifest.json" in message and repr(file) in message


def test_a_graph_that_is_none_is_refused_even_when_its_hash_fits(folder: Path):
    path = folder / "onnx" / "commit.onnx"
    path.write_bytes(b"no graph at all")
    raw = json.loads((folder / "onnx" / "manifest.json").read_text())
    del raw["sha256"]
    raw["graphs"]["commit"]["sha256"] = file_hash(path)
    write_sealed(folder / "onnx" / "manifest.json", raw)
    message = refusal(folder, "onnxruntime")
    assert str(path) in message


def test_a_graph_does_not_read_weights_from_outside_its_folder(folder: Path):
    onnx = pytest.importorskip("onnx")
    shutil.copy(folder / "onnx" / "weights.bin", folder / "secret.bin")
    path = folder / "onnx" / "decode.onnx"
    model = onnx.load(str(path), load_external_data=False)
    places = [entry for t in model.graph.initializer for entry in t.external_data if entry.key == "location"]
    for entry in places:
        entry.value = "../secret.bin"
    onnx.save(model, str(path))
    raw = json.loads((folder / "onnx" / "manifest.json").read_text())
    del raw["sha256"]
    raw["graphs"]["decode"]["sha256"] = file_hash(path)
    write_sealed(folder / "onnx" / "manifest.json", raw)
    assert places and str(path) in refusal(folder, "onnxruntime")


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.update(position_period=32),
        lambda raw: raw.update(parity={}),
        lambda raw: raw["graphs"]["decode"]["outputs"][0].update(shape=["batch", 32, 32, 3]),
        lambda raw: raw.pop("sha256") and None,
    ],
)
def test_an_edited_manifest_is_refused_with_the_command_that_rebuilds_it(folder: Path, change):
    edit_manifest(change)(folder)
    message = refusal(folder, "auto")
    assert "manifest.json was edited" in message and f"worldgen export {folder} --to onnx" in message


def test_a_world_without_graphs_says_how_to_make_them(folder: Path):
    shutil.rmtree(folder / "onnx")
    message = refusal(folder, "onnxruntime")
    assert f"worldgen export {folder} --to onnx" in message


@pytest.mark.parametrize("network", ["tokenizer", "dynamics", "heads"])
@pytest.mark.parametrize("backend", ["onnxruntime", "auto"])
def test_graphs_older_than_the_weights_are_refused(folder: Path, tmp_path: Path, network: str, backend: str):
    """And nothing falls back to torch in silence."""
    newer = tmp_path / "newer"
    newer.mkdir()
    build_tiny_world(newer, seed=1)
    shutil.copy(newer / network / WEIGHTS, folder / network / WEIGHTS)
    message = refusal(folder, backend)
    assert "older" in message and network in message and f"worldgen export {folder} --to onnx" in message
    World.load(folder, backend="torch")


def test_graphs_alone_are_enough_to_play(tiny_world_onnx: Path, tiny_world: Path):
    pytest.importorskip("onnxruntime")
    world = World.load(tiny_world_onnx, backend="onnxruntime")
    world.reset(0)
    world.step(1)
    assert world.hash == World.load(tiny_world, backend="torch").hash


# Networks


@pytest.mark.parametrize("damage", [cut, empty])
@pytest.mark.parametrize("network", ["tokenizer", "dynamics", "heads"])
def test_damaged_weights_are_named_with_the_way_out(folder: Path, network: str, damage):
    damage(folder / network / WEIGHTS)
    message = refusal(folder, "torch")
    assert str(folder / network) in message and "worldgen train" in message


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: shutil.copy(folder / "heads" / WEIGHTS, folder / "dynamics" / WEIGHTS),
        lambda folder: shutil.copy(folder / "heads" / "config.json", folder / "dynamics" / "config.json"),
        lambda folder: cut(folder / "dynamics" / "config.json"),
        lambda folder: (folder / "dynamics" / "config.json").write_text("[]"),
        lambda folder: edit(folder / "dynamics" / "config.json", lambda raw: raw.update(dim=48)),
        lambda folder: edit(folder / "dynamics" / "config.json", lambda raw: raw.update(dim="wide")),
        lambda folder: edit(folder / "dynamics" / "config.json", lambda raw: raw.update(num_heads=0)),
        lambda folder: edit(folder / "dynamics" / "config.json", lambda raw: raw.pop("grid") and None),
    ],
)
def test_foreign_weights_or_configs_are_refused(folder: Path, change):
    change(folder)
    message = refusal(folder, "torch")
    assert str(folder / "dynamics") in message and "worldgen train" in message


def test_weights_are_loaded_strictly(folder: Path):
    from safetensors.torch import load_file, save_file

    path = folder / "dynamics" / WEIGHTS
    weights = load_file(path)
    for changed in (
        {**weights, "stranger": weights["position"].clone()},
        {k: v for k, v in weights.items() if k != "position"},
        {**weights, "position": weights["position"][:-1].clone()},
    ):
        save_file(changed, path)
        assert "stranger" in (message := refusal(folder, "torch")) or "position" in message


def test_pickled_weights_are_never_opened(folder: Path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("code of a world's file was run",))

    path = folder / "dynamics" / WEIGHTS
    path.write_bytes(pickle.dumps(Trap()))
    refusal(folder, "torch")


@pytest.mark.parametrize("missing", ["tokenizer", "dynamics"])
@pytest.mark.parametrize("part", ["", "config.json", WEIGHTS])
def test_a_missing_stage_says_which_and_how_to_train_it(folder: Path, missing: str, part: str):
    shutil.rmtree(folder / "onnx")
    path = folder / missing / part
    path.unlink() if part else shutil.rmtree(path)
    for backend in ("torch", "auto"):
        message = refusal(folder, backend)
        assert f"has no {missing}" in message
        assert f"worldgen train DIR --out {folder} --stages {missing}" in message


def test_missing_heads_are_missed_when_the_world_promises_them(folder: Path):
    shutil.rmtree(folder / "heads")
    assert "heads" in refusal(folder, "torch")
    edit(folder / "world.json", lambda raw: raw.update(has_reward=False, has_terminated=False))
    World.load(folder, backend="torch")


# Facts and starts


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '"world"', "\x00\xff"])
def test_a_world_json_that_is_none_is_refused(folder: Path, content: str):
    (folder / "world.json").write_bytes(content.encode("latin-1"))
    assert str(folder / "world.json") in refusal(folder, "auto")


@pytest.mark.parametrize(
    "change, named",
    [
        (lambda raw: raw.pop("height") and None, "height"),
        (lambda raw: raw.update(colour="blue"), "colour"),
        (lambda raw: raw.update(height="tall"), "height"),
        (lambda raw: raw.update(height=4), "16x4"),
        (lambda raw: raw.update(width=16.5), "width"),
        (lambda raw: raw.update(fps=0), "fps"),
        (lambda raw: raw.update(nfe=3), "nfe"),
        (lambda raw: raw.update(context_sigma=1.5), "context_sigma"),
        (lambda raw: raw.update(format_version=99), "99"),
        (lambda raw: raw.update(actions={}), "action"),
        (lambda raw: raw["actions"].update(kind="dance"), "dance"),
        (lambda raw: raw["actions"].update(names=["one"]), "names"),
        (lambda raw: raw.update(action_source="stolen"), "stolen"),
    ],
)
def test_wrong_facts_are_refused_with_their_name(folder: Path, change, named: str):
    edit(folder / "world.json", change)
    message = refusal(folder, "auto")
    assert named in message and str(folder / "world.json") in message


@pytest.mark.parametrize(
    "change, named",
    [
        (lambda raw: raw.update(height=32), "32"),
        (lambda raw: raw.update(context=9), "context"),
        (lambda raw: raw.update(actions={"kind": "multi_discrete", "sizes": [3, 2]}), "action"),
        (lambda raw: raw.update(actions={"kind": "box", "sizes": [0], "low": [0], "high": [1]}), "action"),
    ],
)
def test_facts_that_are_not_those_of_the_networks_are_refused(folder: Path, backend: str, change, named: str):
    edit(folder / "world.json", change)
    message = refusal(folder, backend)
    assert named in message and str(folder / "world.json") in message


def test_facts_saved_are_facts_loaded(tmp_path: Path):
    config = WorldConfig("toy", 48, 64, 17.5, TOY_ACTIONS, 16, nfe=4, context_sigma=0.05, action_source="latent")
    write_json(tmp_path / "world.json", config.to_json())
    assert WorldConfig.load(tmp_path / "world.json") == config


@pytest.mark.parametrize("damage", [cut, empty, lambda path: path.write_bytes(b"PK no zip")])
def test_damaged_starts_are_named(folder: Path, damage):
    damage(folder / "starts" / "starts.npz")
    assert "starts.npz" in refusal(folder, "auto")


@pytest.mark.parametrize(
    "arrays",
    [
        {"frames": np.zeros((2, 4, SIDE, SIDE, 3), np.uint8)},
        {"frames": np.zeros((2, 4, SIDE, SIDE, 3)), "actions": np.zeros((2, 4, 1), np.int64)},
        {"frames": np.zeros((2, 4, 8, 8, 3), np.uint8), "actions": np.zeros((2, 4, 1), np.int64)},
        {"frames": np.zeros((2, 4, SIDE, SIDE, 3), np.uint8), "actions": np.zeros((2, 3, 1), np.int64)},
        {"frames": np.zeros((2, 4, SIDE, SIDE, 3), np.uint8), "actions": np.zeros((2, 4, 2), np.int64)},
        {"frames": np.zeros((2, 4, SIDE, SIDE, 3), np.uint8), "actions": np.zeros((2, 4, 1), np.float32)},
        {"frames": np.zeros((2, 0, SIDE, SIDE, 3), np.uint8), "actions": np.zeros((2, 0, 1), np.int64)},
        {"frames": np.full((2, 4, SIDE, SIDE, 3), None), "actions": np.zeros((2, 4, 1), np.int64)},
    ],
)
def test_starts_of_another_world_are_refused(folder: Path, arrays: dict):
    np.savez(folder / "starts" / "starts.npz", **arrays)
    assert "starts.npz" in refusal(folder, "auto")


def test_a_world_without_starts_begins_from_given_frames(folder: Path, backend: str):
    shutil.rmtree(folder / "starts")
    world = World.load(folder, backend=backend)
    assert world.num_starts == 0
    with pytest.raises(InputError, match=r"no starts.*reset\(start="):
        world.reset(0)
    world.reset(0, start=np.zeros((SIDE, SIDE, 3), np.uint8))
    world.step(1)


def test_starts_saved_are_starts_loaded(tmp_path: Path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 4, 8, 8, 3), dtype=np.uint8)
    Starts(frames, TOY_ACTIONS.null(3, 4)).save(tmp_path)
    loaded = Starts.load(tmp_path)
    np.testing.assert_array_equal(loaded.frames, frames)
    np.testing.assert_array_equal(loaded.actions, TOY_ACTIONS.null(3, 4))


# Finding


def test_a_folder_that_is_no_world_says_what_to_do(tmp_path: Path):
    with pytest.raises(InputError, match="world.json.*worldgen train"):
        find_world(tmp_path)


def test_a_name_that_is_no_world_lists_those_there_are():
    with pytest.raises(InputError) as caught:
        find_world("atlantis")
    assert "'atlantis'" in str(caught.value)
    for name in bundled_worlds():
        assert name in str(caught.value)


def test_a_folder_comes_before_a_bundled_name(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder.parent)
    assert find_world("tiny") == Path("tiny")


def test_a_world_is_described(folder: Path, tmp_path: Path):
    facts = describe(folder)
    assert (facts["width"], facts["height"], facts["fps"]) == (SIDE, SIDE, 10)
    assert facts["actions"] == list(TOY_ACTIONS.names)
    assert facts["networks"] == ["tokenizer", "dynamics", "heads"]
    assert facts["graphs"] == ["commit", "decode", "denoise", "encode", "frame_1", "frame_2", "frame_4"]
    moved = tmp_path / "training" / "tiny"  # what lies in WORLD/training is not counted, what lies above is no matter
    shutil.copytree(folder, moved)
    (moved / "training").mkdir()
    (moved / "training" / "state").write_bytes(b"0" * 10**6)
    assert describe(moved)["megabytes"] == facts["megabytes"]
    assert 0.1 < facts["megabytes"] < 2


# Writing


class HalfWritten:
    """A network whose saving dies half way."""

    def save_pretrained(self, path: Path, **_: object) -> None:
        path.mkdir(exist_ok=True)
        (path / "config.json").write_text("{")
        raise KeyboardInterrupt


def test_a_network_is_saved_whole_or_not_at_all(folder: Path):
    before = {p.name: p.read_bytes() for p in (folder / "tokenizer").iterdir()}
    with pytest.raises(KeyboardInterrupt):
        bundle.save_network(HalfWritten(), folder, "tokenizer")
    assert {p.name: p.read_bytes() for p in (folder / "tokenizer").iterdir()} == before
    World.load(folder, backend="torch")
    bundle.save_network(bundle.load_network(folder, "tokenizer"), folder, "tokenizer")  # and the next try succeeds
    assert {p.name: p.read_bytes() for p in (folder / "tokenizer").iterdir()} == before
    assert not [p.name for p in folder.iterdir() if p.name.startswith(".")]


def write_folder(folder: Path, content: str) -> None:
    with new_folder(folder) as building:
        (building / "file").write_text(content)


def test_a_new_folder_takes_the_place_of_the_old_one(tmp_path: Path):
    for content in ("old", "new"):
        write_folder(tmp_path / "folder", content)
        assert (tmp_path / "folder" / "file").read_text() == content
        assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_an_error_between_the_two_renames_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_folder(tmp_path / "folder", "old")
    rename = Path.rename

    def dies(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", dies)
    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "folder", "new")
    monkeypatch.undo()
    assert (tmp_path / "folder" / "file").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
    write_folder(tmp_path / "folder", "new")
    assert (tmp_path / "folder" / "file").read_text() == "new"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "facts.json"
    write_json(path, {"a": 1})

    def dies(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", dies)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"half")
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["facts.json"]


def test_what_is_loaded_is_checked_against_the_manifest_of_this_folder(folder: Path):
    manifest = read_manifest(folder)
    assert set(manifest.paths) == {"encode", "denoise", "commit", "decode", "frame_1", "frame_2", "frame_4"}
    assert manifest.position_period == 64
    assert all(path.parent == folder / "onnx" for path in manifest.paths.values())
