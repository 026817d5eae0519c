"""Heads: rewards as two-hot bins and back, and a loss that falls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from worldgen.bundle import load_network, save_network  # noqa: E402
from worldgen.models.heads import Heads, symexp, symlog  # noqa: E402
from worldgen.training.calibration import fit_sigmoid, threshold_of_best_f1  # noqa: E402
from worldgen.training.heads import heads_loss  # noqa: E402

REWARDS = [-147.0, -10.0, -1.0, -0.5, -0.01, 0.0, 0.003, 0.5, 1.0, 3.0, 100.0, 147.0]


def make() -> Heads:
    torch.manual_seed(0)
    return Heads(hidden_dim=16, dim=32)


def hidden(b: int = 4, t: int = 3) -> torch.Tensor:
    """(b, t, m, c)"""
    return torch.randn(b, t, 5, 16, generator=torch.Generator().manual_seed(1))


def test_symexp_undoes_symlog():
    x = torch.tensor(REWARDS)
    torch.testing.assert_close(symexp(symlog(x)), x, rtol=1e-5, atol=1e-6)


def test_the_mean_of_a_two_hot_reward_is_the_reward():
    heads = make()
    reward = torch.tensor(REWARDS)
    target = heads.two_hot(reward)
    assert target.shape == (len(REWARDS), len(heads.bins))
    torch.testing.assert_close(target.sum(-1), torch.ones(len(REWARDS)))
    assert (target >= 0).all() and ((target > 1e-6).sum(-1) <= 2).all()
    torch.testing.assert_close((target * heads.bins).sum(-1), reward, rtol=1e-4, atol=1e-5)


def test_every_bin_is_reached_by_its_own_reward():
    heads = make()
    target = heads.two_hot(heads.bins)
    torch.testing.assert_close(target, torch.eye(len(heads.bins)), atol=1e-4, rtol=0)


def test_rewards_beyond_the_bins_are_kept_at_the_last_one():
    heads = make()
    target = heads.two_hot(torch.tensor([-1e6, 1e6]))
    torch.testing.assert_close(target.argmax(-1), torch.tensor([0, len(heads.bins) - 1]))
    torch.testing.assert_close(target.max(-1).values, torch.ones(2))


def test_a_reward_that_comes_now_and_then_is_given_as_its_mean():
    """Not as what lies half way on the logarithmic scale, which is far less."""
    heads = make()
    chances = heads.two_hot(torch.tensor([0.0, 100.0])).mean(0)
    with torch.no_grad():
        heads.reward.bias.copy_(chances.clamp_min(1e-12).log())
    reward, _ = heads(hidden())
    torch.testing.assert_close(reward, torch.full((4, 3), 50.0), rtol=1e-3, atol=0)


def test_untrained_heads_say_no_reward_and_an_even_chance():
    reward, terminated = make()(hidden())
    torch.testing.assert_close(reward, torch.zeros(4, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(terminated, torch.full((4, 3), 0.5))


def test_a_frame_is_read_alone():
    heads = make()
    for parameter in heads.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = hidden()
    for whole, alone in zip(heads(x), heads(x[2:3, 1]), strict=True):
        torch.testing.assert_close(whole[2:3, 1], alone, atol=1e-5, rtol=1e-4)


def test_saved_is_loaded(tmp_path: Path):
    heads = make()
    heads.reward.weight.data.normal_()
    save_network(heads, tmp_path, "heads")
    for before, after in zip(heads(hidden()), load_network(tmp_path, "heads")(hidden()), strict=True):
        torch.testing.assert_close(after, before, atol=0, rtol=0)


def test_loss_falls_on_one_clip_until_the_rewards_are_read():
    heads, x = make(), hidden()
    reward = torch.zeros(4, 3)
    reward[0, 0], reward[2, 1] = 1.0, -5.0
    terminated = torch.zeros(4, 3, dtype=torch.bool)
    terminated[1, 2] = True
    optimizer = torch.optim.Adam(heads.parameters(), 1e-2)
    for _ in range(150):
        loss = sum(heads_loss(heads, x, reward, terminated))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    made_reward, made_end = heads(x)
    torch.testing.assert_close(made_reward, reward, atol=0.2, rtol=0.05)
    assert torch.equal(made_end > 0.5, terminated)


# Calibration


def test_a_head_that_overstates_is_brought_to_the_true_rate():
    rng = np.random.default_rng(0)
    logit = rng.normal(-2, 1.5, 20_000)
    true = 1 / (1 + np.exp(-(0.6 * logit - 3)))
    real = rng.random(20_000) < true
    scale, shift = fit_sigmoid(logit, real, np.ones(20_000))
    assert scale == pytest.approx(0.6, abs=0.15) and shift == pytest.approx(-3, abs=0.3)
    believed = 1 / (1 + np.exp(-(scale * logit + shift)))
    assert believed.mean() == pytest.approx(real.mean(), rel=0.1)


def test_with_few_ends_the_rate_alone_is_fitted():
    logit = np.linspace(-3, 3, 400)
    real = np.zeros(400, bool)
    real[[10, 390]] = True
    scale, shift = fit_sigmoid(logit, real, np.ones(400))
    assert scale == 1 and (1 / (1 + np.exp(-(logit + shift)))).mean() == pytest.approx(2 / 400, rel=0.6)


def test_a_logit_that_points_the_wrong_way_is_not_turned_round():
    real = np.arange(400) < 40
    scale, _ = fit_sigmoid(np.linspace(-3, 3, 400), real, np.ones(400))
    assert scale == 1


def test_the_threshold_lies_between_what_is_taken_and_what_is_not():
    p = np.array([0.9, 0.6, 0.3, 0.2, 0.1])
    threshold, f1, average = threshold_of_best_f1(p, np.array([1, 1, 0, 0, 0], bool))
    assert 0.3 < threshold < 0.6 and f1 == 1 and average == 1
    tied, f1, average = threshold_of_best_f1(np.full(4, 0.2), np.array([1, 0, 0, 0], bool))
    assert tied < 0.2 and f1 == pytest.approx(0.4) and average == 0.25  # equal ones are taken together
    weighted = threshold_of_best_f1(p, np.array([1, 0, 1, 0, 0], bool), np.array([1, 5, 1, 1, 1.0]))
    assert weighted[0] > 0.6  # one that stands for five is not worth taking
