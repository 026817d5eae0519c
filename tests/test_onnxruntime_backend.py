"""ONNX Runtime: which provider runs, and what is said where the one that was asked for does not."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

onnxruntime = pytest.importorskip("onnxruntime")

from worldgen.backends import onnxruntime_backend, open_backend  # noqa: E402
from worldgen.errors import BackendUnavailableError, InputError  # noqa: E402
from worldgen.world import World  # noqa: E402

CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"


def offer(monkeypatch: pytest.MonkeyPatch, *providers: str) -> None:
    """An onnxruntime that was built with these, on a machine where only the CPU works."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*providers])


def test_what_runs_is_said(tiny_world: Path):
    backend = open_backend(tiny_world, "onnxruntime:cpu")
    assert backend.name == "onnxruntime:cpu"
    assert backend.facts["providers"] == [CPU] and backend.facts["chosen"] == "asked for"
    assert 1 <= backend.facts["threads"] <= onnxruntime_backend.MAX_THREADS


@pytest.mark.parametrize("device, provider", [("cuda", CUDA), ("tensorrt", TENSORRT)])
def test_a_provider_that_is_not_installed_is_refused(
    tiny_world: Path, monkeypatch: pytest.MonkeyPatch, device: str, provider: str
):
    offer(monkeypatch, CPU)
    with pytest.raises(BackendUnavailableError, match=f"no {provider}.*pip install 'worldgen.gpu.'"):
        open_backend(tiny_world, f"onnxruntime:{device}")


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="this onnxruntime may run on a GPU")
def test_a_provider_that_does_not_start_is_never_replaced_without_a_word(
    tiny_world: Path, monkeypatch: pytest.MonkeyPatch
):
    offer(monkeypatch, CUDA, CPU)
    with pytest.raises(BackendUnavailableError, match=f"{CUDA} does not start.*run on {CPU}.*nvidia-smi"):
        open_backend(tiny_world, "onnxruntime:cuda")
    backend = open_backend(tiny_world, "onnxruntime")  # may choose, and says what it chose and why
    assert backend.facts["device"] == "cpu" and "CUDA" in backend.facts["chosen"]
    assert backend.run("decode", inputs(backend, "decode"))["frame"].device_name() == "cpu"


def test_both_packages_at_once_are_refused_with_the_repair(tiny_world: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata, "version", lambda name: "1.31.1")
    with pytest.raises(BackendUnavailableError) as refused:
        open_backend(tiny_world, "onnxruntime")
    repair = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    assert repair in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "name, named",
    [
        ("onnxruntime:gpu", "'gpu' of onnxruntime.*cuda.*int8"),
        ("torch:fp16", "'fp16' of torch.*compiled, bf16"),
        ("onnxruntime:fp16:int8", "'fp16' and 'int8' exclude each other"),
        ("coreml:fast", "'coreml'.*onnxruntime"),
    ],
)
def test_a_wrong_option_is_refused_with_those_there_are(tiny_world: Path, name: str, named: str):
    with pytest.raises(InputError, match=named):
        open_backend(tiny_world, name)


def test_a_frame_too_small_to_be_shared_runs_on_one_thread_and_gives_the_same(
    tiny_world: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(onnxruntime_backend, "usable_cores", lambda: 2)
    images, threads = [], []
    for limit in (onnxruntime_backend.LIGHT, 0):
        monkeypatch.setattr(onnxruntime_backend, "LIGHT", limit)
        world = World.load(tiny_world, backend="onnxruntime:cpu", batch=3)
        world.reset(1)
        images.append(np.stack([world.step([0, 1, 2]).image for _ in range(5)]))
        threads.append(world.engine["threads"])
    assert threads == [1, 2]
    np.testing.assert_array_equal(*images)


def test_rows_are_put_where_they_belong_without_a_copy(tiny_world: Path):
    backend = open_backend(tiny_world, "onnxruntime:cpu")
    outputs = backend.run("decode", inputs(backend, "decode", batch=4))
    before, values = backend.numpy(outputs["next_state"]), np.ones((2, *outputs["next_state"].shape()[1:]), np.float32)
    after = backend.put(outputs["next_state"], np.array([2, 0]), backend.asarray(values))
    assert after is outputs["next_state"]
    np.testing.assert_array_equal(backend.numpy(after)[[0, 2]], values)
    np.testing.assert_array_equal(backend.numpy(after)[[1, 3]], before[[1, 3]])


def inputs(backend, graph: str, batch: int = 1) -> dict:
    return {spec.name: backend.asarray(spec.zeros(batch)) for spec in backend.specs[graph].inputs}


@pytest.mark.parametrize("name", ["doom", "platformer"])
def test_a_bundled_world_is_on_torch_what_its_graphs_are(name: str):
    """Also of a kind that averages what it copies, which no other test exports."""
    pytest.importorskip("torch")
    played = []
    for backend in ("torch", "onnxruntime"):
        world = World.load(name, backend=backend, batch=2, upscale=False, between=False, sound="off")
        frames = [world.reset(seed=0).image, *(world.step([1, 2]).image for _ in range(4))]
        played.append(np.stack(frames).astype(int))
    assert np.abs(played[0] - played[1]).max() <= 2
