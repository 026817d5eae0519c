"""What an environment can be asked for: observations, tensors, noise against exploitation, a judge; and its speed."""

from __future__ import annotations

import warnings
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from conftest import SIDE
from env_worlds import EndlessWorld, MortalWorld, headless
from gymnasium.utils.env_checker import check_env

from worldgen.envs import WorldEnv, WorldVectorEnv
from worldgen.envs.speed import SpeedOptions, measure_speed, soak
from worldgen.errors import InputError
from worldgen.world import World

pytest.importorskip("onnxruntime")

ACTIONS = [1, 4, 0, 2, 3]
SHAPES = {"frames": (SIDE, SIDE, 3), "tokens": (4, 8), "hidden": (5, 32)}


def vector(folder: Path, num_envs: int = 3, backend: str = "auto", **choices) -> WorldVectorEnv:
    return WorldVectorEnv(EndlessWorld.load(folder, batch=num_envs, backend=backend), num_envs, **choices)


@pytest.mark.parametrize("observation", SHAPES)
def test_each_observation_is_of_its_space_and_of_its_game_alone(tiny_world: Path, observation: str):
    envs = vector(tiny_world, observation=observation)
    env = WorldEnv(EndlessWorld.load(tiny_world), observation=observation)
    seen, _ = envs.reset(seed=5)
    alone, _ = env.reset(seed=6)
    for action in ACTIONS:
        assert alone.shape == SHAPES[observation] and env.observation_space.contains(alone)
        assert envs.observation_space.contains(seen)
        assert np.array_equal(seen[1], alone)
        seen, alone = envs.step(np.full(3, action))[0], env.step(action)[0]
    state = env.snapshot()
    later = env.step(1)[0]
    assert np.array_equal(env.restore(state), alone) and np.array_equal(env.step(1)[0], later)


def test_gymnasium_finds_nothing_to_say_about_tokens(tiny_world: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(WorldEnv(tiny_world, observation="tokens"), skip_render_check=True)


def test_the_tokens_are_those_that_the_picture_is_made_from(tiny_world: Path):
    world = World.load(tiny_world)
    world.reset(0)
    before = world.observe("tokens")
    world.step(1)
    assert not np.array_equal(before, world.observe("tokens"))
    assert np.array_equal(world.observe(), world.image)


def test_larger_frames_are_observed_where_the_world_has_them(tiny_world: Path):
    env = gymnasium.make("worldgen.envs:worldgen/World-v0", world="doom", observation="upscaled")
    assert env.reset(seed=0)[0].shape == env.observation_space.shape == (192, 256, 3)
    with pytest.raises(gymnasium.error.Error, match="no super-resolution"):
        WorldEnv(tiny_world, observation="upscaled")


def test_frames_of_a_world_that_was_loaded_to_show_larger_ones_are_refused():
    for make, batch in ((WorldEnv, None), (lambda world: WorldVectorEnv(world, 2), 2)):
        with pytest.raises(gymnasium.error.Error, match='upscale=False, or choose observation="upscaled"'):
            make(World.load("doom", batch=batch))


def test_a_snapshot_without_the_hidden_state_is_refused_where_it_is_observed(tiny_world: Path):
    world = World.load(tiny_world)
    world.reset(0)
    env = WorldEnv(tiny_world, observation="hidden")
    with pytest.raises(gymnasium.error.Error, match="without the hidden state"):
        env.reset(options={"state": world.snapshot()})
    with pytest.raises(InputError, match="keeps_hidden"):
        world.observe("hidden")


@pytest.mark.parametrize("observation", SHAPES)
def test_tensors_hold_what_arrays_do_and_are_the_callers_own(tiny_world: Path, backend: str, observation: str):
    torch = pytest.importorskip("torch")
    arrays = vector(tiny_world, backend=backend, observation=observation, autoreset_mode="Disabled")
    tensors = vector(tiny_world, backend=backend, observation=observation, autoreset_mode="Disabled", as_torch=True)
    seen, _ = arrays.reset(seed=0)
    first, _ = tensors.reset(seed=0)
    kept = first.clone()
    for action in ACTIONS:
        assert np.array_equal(first.numpy(), seen)
        seen, rewards = arrays.step(np.full(3, action))[:2]
        first, same, terminations, _, _ = tensors.step(torch.full((3,), action))
        assert np.array_equal(same.numpy(), rewards) and terminations.dtype == torch.bool
    last = first.clone()
    tensors.reset(options={"reset_mask": np.array([True, False, True])})
    assert torch.equal(first, last) and not torch.equal(first, kept)
    weights = torch.ones(1, requires_grad=True)
    (first.float() * weights).sum().backward()  # a policy can be trained on it


def test_with_torch_no_picture_goes_through_numpy(tiny_world: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch")
    from worldgen.backends.torch_backend import TorchBackend

    envs = vector(tiny_world, backend="torch", as_torch=True)
    envs.reset(seed=0)
    copied = []
    plain = TorchBackend.numpy
    monkeypatch.setattr(TorchBackend, "numpy", lambda self, x: copied.append(tuple(x.shape)) or plain(self, x))
    envs.step(np.ones(3, int))
    assert max((np.prod(shape) for shape in copied), default=0) <= 3, copied


def test_a_final_observation_is_a_tensor_too(tiny_world: Path):
    torch = pytest.importorskip("torch")
    envs = vector(tiny_world, as_torch=True, max_episode_steps=2, autoreset_mode="SameStep")
    envs.reset(seed=0)
    before = envs.step(np.zeros(3, int))[0]
    after, _, _, truncations, infos = envs.step(np.zeros(3, int))
    assert bool(truncations.all())
    assert torch.is_tensor(infos["final_obs"][0]) and not torch.equal(infos["final_obs"][0], after[0])
    assert before.shape == after.shape


def frames_of(world: World, seed: int = 0) -> np.ndarray:
    world.reset(seed, start=0)
    return np.stack([world.step(action).image for action in ACTIONS])


def test_drawn_ends_are_as_frequent_as_they_are_probable(tiny_world: Path):
    envs = WorldVectorEnv(tiny_world, 64, draw_ends=True)
    world = envs.world
    world.reset(0, start=0)
    frames = [world.step(np.zeros(64, int)) for _ in range(12)]
    likely = np.stack([frame.end_probability for frame in frames])
    ended = np.stack([frame.terminated for frame in frames])
    spread = np.sqrt((likely * (1 - likely)).sum())
    assert spread > 1 and abs(ended.sum() - likely.sum()) < 3 * spread
    assert 0 < ended.mean() < 1 and not np.array_equal(ended, likely > world.config.end_threshold)
    world.reset(0, start=0)
    assert np.array_equal(world.step(np.zeros(64, int)).terminated, ended[0])


def test_ignored_ends_end_no_game_and_are_told(tiny_world: Path):
    mortal = [MortalWorld.load(tiny_world, batch=8) for _ in range(2)]
    ending, endless = (WorldVectorEnv(w, 8, ignore_ends=i) for w, i in zip(mortal, (False, True), strict=True))
    alone = WorldEnv(MortalWorld.load(tiny_world), ignore_ends=True)
    alone.reset(seed=3)
    for envs in (ending, endless):
        envs.reset(seed=3)
    any_ended = False
    for _ in range(12):
        any_ended |= ending.step(np.zeros(8, int))[2].any()
        _, _, terminated, _, infos = endless.step(np.zeros(8, int))
        info = alone.step(0)[4]
        assert not terminated.any() and infos["_end_probability"].all()
        assert ((infos["end_probability"] > 0) & (infos["end_probability"] < 1)).all()
        assert info["end_probability"] == infos["end_probability"][0]
    assert any_ended


def test_temperature_spreads_what_comes(tiny_world: Path):
    usual, cold, hot = (World.load(tiny_world, nfe=2) for _ in range(3))
    env = WorldEnv(cold, temperature=0)
    assert env.world is cold and cold.temperature == 0
    hot.temperature = 1.5
    of_two_seeds = {
        name: np.abs(frames_of(world, 0).astype(int) - frames_of(world, 9)).mean()
        for name, world in {"usual": usual, "cold": cold, "hot": hot}.items()
    }
    assert of_two_seeds["cold"] < of_two_seeds["usual"] < of_two_seeds["hot"]
    usual.temperature = 1
    assert np.array_equal(frames_of(usual), frames_of(World.load(tiny_world, nfe=2)))


def test_a_vaguer_memory_changes_what_comes(tiny_world: Path):
    vague = WorldEnv(tiny_world, context_sigma=0.6).world
    assert not np.array_equal(frames_of(vague), frames_of(World.load(tiny_world)))


def red_is_good(before: np.ndarray, after: np.ndarray) -> tuple[float, bool]:
    return float(after[..., 0].mean() - before[..., 0].mean()), bool(after.sum() % 3 == 0)


def test_a_judge_gives_reward_and_end_instead_of_the_heads(tiny_world: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nobody misses heads that are not asked
        env = WorldEnv(headless(tiny_world, has_reward=False), judge=red_is_good)
    before, _ = env.reset(seed=1)
    for action in ACTIONS:
        after, reward, terminated, _, _ = env.step(action)
        assert (reward, terminated) == red_is_good(before, after)
        before = env.reset(seed=1)[0] if terminated else after
    envs = WorldVectorEnv(tiny_world, 3, judge=red_is_good, observation="tokens", autoreset_mode="SameStep")
    envs.reset(seed=0)
    single = WorldEnv(tiny_world, judge=red_is_good)
    single.reset(seed=2)
    _, rewards, terminations, _, _ = envs.step([1, 1, 1])
    assert (rewards[2], terminations[2]) == single.step(1)[1:3]


@pytest.mark.parametrize(
    "choices, said",
    [
        ({"observation": "pixels"}, "unknown observation 'pixels'; choose frames, upscaled, tokens, hidden"),
        ({"temperature": -1.0}, "temperature is between 0 and 10, got -1"),
        ({"context_sigma": 1.0}, "context_sigma is a noise level"),
    ],
)
def test_wrong_choices_are_refused(tiny_world: Path, choices: dict, said: str):
    for make in (WorldEnv, WorldVectorEnv):
        with pytest.raises(gymnasium.error.Error, match=said):
            make(tiny_world, **choices)


@pytest.mark.parametrize("given, said", [(1.0, "gives .reward, whether"), ((float("nan"), False), "reward of nan")])
def test_a_judge_that_gives_something_else_is_told_so(tiny_world: Path, given: object, said: str):
    env = WorldEnv(tiny_world, judge=lambda before, after: given)
    env.reset(seed=0)
    with pytest.raises(gymnasium.error.Error, match=said):
        env.step(0)


def test_speed_and_soak_say_what_they_measured(tiny_world: Path):
    said: list[str] = []
    figures = measure_speed(SpeedOptions(str(tiny_world), worlds=4, steps=3), said.append)
    assert figures["tokens"] > 0 and figures["ratio"] > 0 and "times" in said[-1]
    figures = soak(SpeedOptions(str(tiny_world), worlds=3, soak=40), said.append)
    assert figures["steps"] == 40 and "nothing that is not finite" in said[-1]
    with pytest.raises(InputError, match="--worlds"):
        SpeedOptions(worlds=0)
