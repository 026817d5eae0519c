"""SB3VecEnv: generated games for stable-baselines3, as its own DummyVecEnv over single games gives them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from conftest import SIDE, build_tiny_world
from env_worlds import EndlessWorld, SoundingWorld
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from worldgen.envs import WorldEnv, WorldVectorEnv

pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
pytest.importorskip("onnxruntime")

from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor

from worldgen.envs import SB3VecEnv

N, LIMIT = 3, 5


def vector(world: Any, n: int = N, **options: Any) -> WorldVectorEnv:
    return WorldVectorEnv(world, n, autoreset_mode="SameStep", max_episode_steps=LIMIT, **options)


@pytest.fixture
def envs(tiny_world: Path) -> SB3VecEnv:
    return SB3VecEnv(vector(EndlessWorld.load(tiny_world, batch=N), render_mode="rgb_array"))


def assert_same_infos(got: list[dict], expected: list[dict]) -> None:
    for one, other in zip(got, expected, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert type(one[key]) is type(other[key]), key
            np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def test_trajectories_are_those_of_stable_baselines3s_loop_over_single_games(tiny_world: Path):
    """Infos with terminal_observation, TimeLimit.truncated, sound, drawn seeds and reset_infos included."""
    ours = SB3VecEnv(vector(SoundingWorld.load(tiny_world, batch=N), include_sound=True))
    theirs = DummyVecEnv(
        [lambda: WorldEnv(SoundingWorld.load(tiny_world), include_sound=True, max_episode_steps=LIMIT)] * N
    )
    for each in (ours, theirs):
        each.seed(3)
        each.set_options({"start": 1})
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    assert_same_infos(ours.reset_infos, theirs.reset_infos)
    ends = set()
    for action in np.random.default_rng(0).integers(0, 5, (40, N)):
        (got, expected) = (each.step(action) for each in (ours, theirs))
        for one, other in zip(got[:3], expected[:3], strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        assert_same_infos(got[3], expected[3])
        assert_same_infos(ours.reset_infos, theirs.reset_infos)
        ends |= {info["TimeLimit.truncated"] for info in got[3] if "terminal_observation" in info}
    assert ends == {True, False}
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space


def test_seeds_and_options_are_used_once(envs: SB3VecEnv):
    assert envs.seed(5) == [5, 6, 7]
    envs.set_options({"start": [2, 2, 2]})
    first = envs.reset()
    assert [info["seed"] for info in envs.reset_infos] == [5, 6, 7]
    assert len({frame.tobytes() for frame in first}) == 1
    envs.reset()
    assert not {info["seed"] for info in envs.reset_infos} & {5, 6, 7}
    with pytest.raises(gymnasium.error.Error, match="one dict"):
        envs.set_options([{"start": 0}] * N)


def test_methods_speak_to_single_games(envs: SB3VecEnv):
    envs.reset()
    envs.step(np.zeros(N, int))
    (state,) = envs.env_method("snapshot", indices=1)
    assert len(state) == 1
    after = [envs.step(np.full(N, a))[0][1] for a in (1, 2)]
    (frame,) = envs.env_method("restore", state, indices=[0])
    np.testing.assert_array_equal(frame, state.world.image[0])
    moved = [envs.step(np.full(N, a))[0][0] for a in (1, 2)]
    np.testing.assert_array_equal(moved, after)
    assert [picture.shape for picture in envs.env_method("render")] == [(SIDE, SIDE, 3)] * N
    with pytest.raises(AttributeError, match="step"):
        envs.env_method("step", 0)


def test_attributes_are_those_of_the_games(envs: SB3VecEnv):
    assert envs.get_attr("observation_space") == [envs.observation_space] * N
    assert envs.get_attr("max_episode_steps", indices=[0, 2]) == [LIMIT, LIMIT]
    assert envs.get_attr("render_mode") == ["rgb_array"] * N and envs.has_attr("world")
    assert not envs.has_attr("no_such_thing")
    envs.set_attr("max_episode_steps", 9)
    assert envs.get_attr("max_episode_steps") == [9] * N
    with pytest.raises(gymnasium.error.Error, match="max_episode_steps is set for all"):
        envs.set_attr("max_episode_steps", 9, indices=1)
    assert envs.env_is_wrapped(gymnasium.Wrapper) == [False] * N


def test_pictures_of_all_games_are_tiled(envs: SB3VecEnv):
    envs.reset()
    assert envs.render("rgb_array").shape == (2 * SIDE, 2 * SIDE, 3)


def test_wrappers_of_both_libraries_work(tiny_world: Path):
    inner = RecordEpisodeStatistics(vector(EndlessWorld.load(tiny_world, batch=N)))
    envs = VecFrameStack(SB3VecEnv(inner), n_stack=2)
    assert envs.reset().shape == (N, SIDE, SIDE, 6)
    for _ in range(LIMIT):
        _, _, dones, infos = envs.step(np.zeros(N, int))
    assert dones.all() and [info["episode"]["l"] for info in infos] == [LIMIT] * N
    monitored = VecMonitor(SB3VecEnv(vector(EndlessWorld.load(tiny_world, batch=N))))
    monitored.reset()
    for _ in range(LIMIT):
        infos = monitored.step(np.zeros(N, int))[-1]
    assert [info["episode"]["l"] for info in infos] == [LIMIT] * N


def test_ppo_learns_from_pictures(tmp_path: Path):
    from stable_baselines3 import PPO

    build_tiny_world(tmp_path, side=40)  # CnnPolicy wants 36 pixels at least
    envs = SB3VecEnv(vector(tmp_path, backend="torch", nfe=1))
    model = PPO("CnnPolicy", envs, n_steps=8, batch_size=12, n_epochs=1, seed=0, device="cpu")
    before = [p.detach().clone() for p in model.policy.parameters()]
    model.learn(2 * 8 * N)
    assert model.num_timesteps == 2 * 8 * N
    assert any((p != q).any() for p, q in zip(model.policy.parameters(), before, strict=True))


def test_what_cannot_be_adapted_is_refused(tiny_world: Path):
    with pytest.raises(gymnasium.error.Error, match='autoreset_mode="SameStep"'):
        SB3VecEnv(WorldVectorEnv(tiny_world, N))
    for wrong in (WorldEnv(tiny_world), "doom"):
        with pytest.raises(gymnasium.error.Error, match=f"takes a WorldVectorEnv.*{type(wrong).__name__}"):
            SB3VecEnv(wrong)


def test_without_stable_baselines3_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch):
    import worldgen.envs

    monkeypatch.delitem(sys.modules, "worldgen.envs.sb3_vec_env")
    monkeypatch.delattr(worldgen.envs, "sb3_vec_env", raising=False)
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.vec_env", None)
    with pytest.raises(ImportError, match=r"pip install 'worldgen\[rl\]'"):
        importlib.import_module("worldgen.envs").SB3VecEnv  # noqa: B018
