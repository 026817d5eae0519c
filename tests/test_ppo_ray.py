"""The example of reinforcement learning on Ray: what it computes, and a tiny cluster of it."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch")

PATH = Path(__file__).parents[1] / "examples" / "ppo_ray.py"


@pytest.fixture(scope="module")
def ppo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ppo_ray", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ppo_ray"] = module
    spec.loader.exec_module(module)
    return module


def test_advantages_are_discounted_errors_up_to_the_end_of_an_episode(ppo):
    rewards, values = np.array([[1.0], [0.0], [2.0]]), np.array([[0.5], [0.2], [0.1]])
    is_over = np.array([[False], [True], [False]])
    g, el = ppo.GAMMA, ppo.LAMBDA
    last = 2.0 + g * 3.0 - 0.1
    second = 0.0 - 0.2
    first = 1.0 + g * 0.2 - 0.5 + g * el * second
    found = ppo.advantages(rewards, values, is_over, np.array([3.0]))
    np.testing.assert_allclose(found[:, 0], [first, second, last])


def test_a_player_tells_steps_from_beginnings(ppo, tiny_world_onnx):
    """With NEXT_STEP autoreset the action after an episode's end does nothing: nobody must learn from it."""
    player = ppo.Player(str(tiny_world_onnx), games=3, seed=0, max_episode_steps=4)
    weights = {k: v.clone() for k, v in player.policy.state_dict().items()}
    rollout = player.play(weights, 10)
    assert rollout.frames.shape == (10, 3, 16, 16, 3) and rollout.actions.shape == (10, 3)
    begun = ~rollout.is_step
    assert begun.any() and len(rollout.scores) >= 6
    again = player.play(weights, 3)
    assert again.frames.shape[0] == 3


def test_learning_makes_what_paid_likelier(ppo):
    torch.manual_seed(0)
    policy, rng = ppo.Policy(16, 16, 3), np.random.default_rng(0)
    frames = rng.integers(0, 256, (8, 4, 16, 16, 3), dtype=np.uint8)
    actions = rng.integers(0, 3, (8, 4))
    paid = (actions == 2).astype(np.float32)
    with torch.no_grad():
        before = policy(torch.from_numpy(frames.reshape(-1, 16, 16, 3)))[0].softmax(-1)
    log_probs = before.log().numpy().reshape(8, 4, 3)
    chosen = np.take_along_axis(log_probs, actions[..., None], -1)[..., 0]
    rollout = ppo.Rollout(frames, actions, chosen, paid, paid, np.ones((8, 4), bool), [])
    ppo.learn(policy, torch.optim.Adam(policy.parameters(), lr=1e-3), [rollout])
    with torch.no_grad():
        after = policy(torch.from_numpy(frames.reshape(-1, 16, 16, 3)))[0].softmax(-1)
    assert after[:, 2].mean() > before[:, 2].mean() + 0.02


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("WORLDGEN_TEST_RAY"), reason="a cluster takes a minute: set WORLDGEN_TEST_RAY=1")
def test_two_players_on_a_local_cluster(ppo, tiny_world_onnx, tmp_path):
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(ppo)  # it is no module that workers could import
    words = ["--world", str(tiny_world_onnx), "--players", "2", "--games", "2", "--steps", "6", "--episode", "4"]
    assert ppo.main([*words, "--iterations", "2", "--out", str(tmp_path / "policy.safetensors")]) == 0
    assert (tmp_path / "policy.safetensors").stat().st_size > 1000
