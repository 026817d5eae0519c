"""Fixtures that several test files share: a tiny untrained world, exported, and a few short recordings that suit it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# before torch is imported: spinning threads starve a shared machine
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from worldgen.actions import ActionMap
from worldgen.bundle import NETWORKS, Starts, save_network
from worldgen.config import WorldConfig
from worldgen.data.recording import RecordingInfo, RecordingWriter
from worldgen.files import write_json
from worldgen.interrupts import HANGUP

SIDE = 16
FPS = 10
SCALE, SAMPLES, CHANNELS = 2, 800, 2  # of the loud world
TOY_ACTIONS = ActionMap.discrete(
    ["stay", "left", "right", "up", "down"], [(), ("left",), ("right",), ("up",), ("down",)]
)
PUSHES = np.array([[0, 0], [0, -2], [0, 2], [-2, 0], [2, 0]])
NUM_EPISODES, EPISODE = 4, 40


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory):
    """Caches of recordings go to a temporary folder, never to the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORLDGEN_CACHE", str(folder))
        yield folder


@pytest.fixture
def hangups_again() -> Iterator[None]:
    """SIGHUP, which is ignored once it has come, is heard: as from a terminal, also where nohup runs the tests."""
    before = signal.signal(HANGUP, signal.SIG_DFL) if HANGUP is not None else None
    yield
    if HANGUP is not None:
        signal.signal(HANGUP, before)


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world's folder: 16x16, 2 layers, untrained, TOY_ACTIONS, reward and terminated heads, 3 starts of 4 frames,
    networks and ONNX export. Read only: copy it to change it."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("worlds") / "tiny"
    folder.mkdir()
    build_tiny_world(folder)
    from worldgen.export.to_onnx import export_onnx

    export_onnx(folder, say=lambda text: None)
    return folder


@pytest.fixture(scope="session")
def tiny_world_onnx(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world as one without torch gets it: graphs and starts, no networks."""
    folder = tmp_path_factory.mktemp("onnx") / "tiny"
    shutil.copytree(tiny_world, folder, ignore=shutil.ignore_patterns(*NETWORKS, "training"))
    return folder


@pytest.fixture(params=["onnxruntime", "torch", "tensorrt"])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every engine: a test that takes this runs on each, skipped where it is not installed. TensorRT is the stand-in
    that executes its graphs on the CPU; the worlds that the test takes have engines meanwhile."""
    if request.param != "tensorrt":
        pytest.importorskip(request.param)
        yield request.param
        return
    from tensorrt_stand_in import no_gpu_but_this_one

    owners = {"tiny_world": "tiny_engines", "loud_world": "loud_engines", "folder": "tiny_engines"}
    taken = [name for name in owners if name in request.fixturenames]
    engines = {request.getfixturevalue(name) / "tensorrt": request.getfixturevalue(owners[name]) for name in taken}
    for link, target in engines.items():
        link.symlink_to(target)
    with no_gpu_but_this_one():
        yield request.param
    for link in engines:
        link.unlink()


@pytest.fixture(scope="session")
def tiny_engines(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in's engines of the tiny world, for up to 16 games: the folder beside its others"""
    return _engines(tiny_world, tmp_path_factory)


@pytest.fixture(scope="session")
def loud_engines(loud_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _engines(loud_world, tmp_path_factory)


def _engines(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    from tensorrt_stand_in import build_engines

    folder = Path(shutil.copytree(world, tmp_path_factory.mktemp("engines") / world.name))
    build_engines(folder)
    return folder / "tensorrt"


@pytest.fixture(scope="session")
def loud_world(tiny_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny world with untrained super-resolution, in-between frames and sound, exported. Read only."""
    torch = pytest.importorskip("torch")
    from worldgen.export.to_onnx import export_onnx
    from worldgen.models.between import Between
    from worldgen.models.sound import SoundHead
    from worldgen.models.sound_codec import SoundCodec
    from worldgen.models.super_resolution import SuperResolution

    folder = tmp_path_factory.mktemp("worlds") / "loud"
    shutil.copytree(tiny_world, folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        enlarge = SuperResolution(scale=SCALE, channels=8, num_layers=1)
        enlarge.fold()
        between = Between(channels=8, num_layers=2)
        codec = SoundCodec(
            samples=SAMPLES, channels=CHANNELS, sample_rate=SAMPLES * FPS, latent_dim=6, dim=16, num_atoms=8
        )
        head = SoundHead(hidden_dim=32, latent_dim=6, action_kind="discrete", action_sizes=[5], dim=16)
        for network in (enlarge, head, between):
            for parameter in network.parameters():
                parameter.data += 0.05 * torch.randn_like(parameter)
        networks = {"super_resolution": enlarge, "between": between, "sound_codec": codec, "sound": head}
        for name, network in networks.items():
            save_network(network, folder, name)
    config = WorldConfig.load(folder / "world.json")
    write_json(folder / "world.json", replace(config, sound="generated").to_json())
    export_onnx(folder, say=lambda text: None)
    return folder


@pytest.fixture(scope="session")
def toy_recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NUM_EPISODES of EPISODE frames, 16x16 at 10 fps: toy0.mkv and on, with TOY_ACTIONS, rewards and an end each."""
    folder = tmp_path_factory.mktemp("toy")
    for i in range(NUM_EPISODES):
        record_toy(folder / f"toy{i}.mkv", seed=i)
    return folder


# what the presets have, as small as can be
TINY_DYNAMICS = {
    "dim": 32, "num_layers": 2, "num_heads": 2, "history": 2, "stem_channels": 4, "warp": True, "blank": True,
    "grain": 0.2,
}  # fmt: skip


def build_tiny_world(
    folder: Path, actions: ActionMap = TOY_ACTIONS, seed: int = 0, side: int = SIDE, **dynamics: Any
) -> None:
    """dynamics: what its network has besides TINY_DYNAMICS"""
    import torch

    from worldgen.models.dynamics import Dynamics
    from worldgen.models.heads import Heads
    from worldgen.models.tokenizer import Tokenizer

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = Tokenizer(height=side, width=side, token_dim=8, channels=[8, 16])
        dynamics = Dynamics.of_tokens(
            tokenizer, action_kind=actions.kind, action_sizes=list(actions.sizes), context=4,
            **TINY_DYNAMICS | dynamics,
        )  # fmt: skip
        networks = {"tokenizer": tokenizer, "dynamics": dynamics, "heads": Heads(hidden_dim=32)}
        for network in networks.values():
            for parameter in network.parameters():  # away from the zeros that some layers begin with
                parameter.data += 0.05 * torch.randn_like(parameter)
        for name, network in networks.items():
            save_network(network, folder, name)
    config = WorldConfig(
        name="tiny", height=side, width=side, fps=FPS, actions=actions, context=4, has_reward=True, has_terminated=True
    )
    write_json(folder / "world.json", config.to_json())
    frames = np.random.default_rng(seed).integers(0, 256, (3, 4, side, side, 3), dtype=np.uint8)
    Starts(frames, actions.null(3, 4)).save(folder)


def record_toy(path: Path, num_frames: int = EPISODE, seed: int = 0) -> None:
    """A square that a random-sticky player pushes over a floor of this seed's colour; 1 point in the top left quarter;
    the last step ends the game."""
    rng = np.random.default_rng(seed)
    place, action = rng.integers(0, 8, 2) * 2, 0
    with RecordingWriter(path, RecordingInfo(FPS, TOY_ACTIONS, "toy", seed=seed, licence="CC0-1.0")) as writer:
        for t in range(num_frames):
            writer.write(toy_frame(place, seed), None, {"row": int(place[0])})
            action = action if rng.random() < 0.6 else int(rng.integers(5))
            place = move(place, action)
            writer.act(action, reward=float((place < 7).all()), terminated=t == num_frames - 2)


def move(place: np.ndarray, action: int) -> np.ndarray:
    return np.clip(place + PUSHES[action], 0, SIDE - 4)


def toy_frame(place: np.ndarray, seed: int) -> np.ndarray:
    """(16, 16, 3) uint8"""
    frame = np.zeros((SIDE, SIDE, 3), np.uint8)
    frame[:] = (40, 60 + 30 * (seed % 4), 90)
    y, x = place
    frame[y : y + 4, x : x + 4] = (240, 220, 60)
    return frame
