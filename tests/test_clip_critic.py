"""The critic of clips: frames that the dynamics makes learn to pass for recorded ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from worldgen.bundle import load_network  # noqa: E402
from worldgen.models.dynamics import Dynamics  # noqa: E402
from worldgen.training.clip_critic import (  # noqa: E402
    FRAMES,
    ClipCritic,
    ClipCriticStage,
    clip_critic_loss,
    realism_loss,
    windows_of,
)
from worldgen.training.dynamics import DynamicsLoss, Made  # noqa: E402
from worldgen.training.optimizer import make_optimizer  # noqa: E402
from worldgen.training.pipeline import train_world  # noqa: E402
from worldgen.training.recipe import Recipe  # noqa: E402

B, T = 4, 8


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sharp_windows(count: int = 24) -> torch.Tensor:
    return torch.randn(count, 3 * FRAMES, 16, 16, generator=generator()).sign()


def faded(windows: torch.Tensor) -> torch.Tensor:
    """The last frame of each blurred"""
    last = nn.functional.avg_pool2d(windows[:, -3:], 3, stride=1, padding=1)
    return torch.cat([windows[:, :-3], last], dim=1)


def learn(critic: ClipCritic, made: torch.Tensor, real: torch.Tensor, steps: int) -> None:
    optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3)
    for i in range(steps):
        loss, _ = clip_critic_loss(critic, made, real, generator(i))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_it_learns_to_tell_a_frame_that_fades_from_the_recorded_one():
    torch.manual_seed(0)
    critic, real = ClipCritic((8, 16, 16)), sharp_windows()
    learn(critic, faded(real), real, 40)
    _, right = clip_critic_loss(critic, faded(real), real, generator())
    assert right == 1
    assert realism_loss(critic, real, real) < realism_loss(critic, faded(real), real)


def test_each_learns_from_its_own_loss_alone():
    critic, real = ClipCritic((8, 8, 8)), sharp_windows(2)
    made = faded(real).requires_grad_()
    clip_critic_loss(critic, made, real, generator())[0].backward()
    assert made.grad is None and all(p.grad is not None for p in critic.parameters())
    critic.zero_grad(set_to_none=True)
    realism_loss(critic, made, real).backward()
    assert made.grad is not None and made.grad.abs().sum() > 0 and all(p.grad is None for p in critic.parameters())


def test_windows_end_at_the_frame_that_is_judged():
    pictures = torch.arange(2.0 * 6).reshape(2, 6, 1, 1, 1).expand(2, 6, 3, 2, 2)
    windows = windows_of(pictures, torch.tensor([0, 1]), torch.tensor([3, 5]))
    assert windows[:, ::3, 0, 0].tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]


class Network(nn.Module):
    """What a ClipCriticStage needs of a dynamics: tokens are pixels, one a token."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Parameter(torch.zeros(B, T, 16 * 16, 3))
        self.motion = self

    def picture(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.unflatten(-2, (16, 16)).movedim(-1, -3)


class Stage:
    """A dynamics stage whose frames are parameters, and whose own loss draws them to the mean"""

    recipe = DynamicsLoss(own_past_from=0.5)

    def __init__(self, recorded: torch.Tensor, is_own: bool = False, strength: float = 1.0):
        self.network, self.is_own, self.strength = Network(), is_own, strength
        self._recorded = recorded

    def recorded(self, batch) -> torch.Tensor:
        return self._recorded

    def make(self, network, batch, generator, progress):
        clean = network.tokens * 1.0
        is_pure = torch.ones(B, T, dtype=torch.bool)
        loss = self.strength * (clean - 0.1).square().mean()
        return loss, {}, Made(clean, self._recorded, is_pure, self.is_own)


def recorded() -> torch.Tensor:
    return torch.randn(B, T, 16 * 16, 3, generator=generator(1)).sign()


def pull(stage: ClipCriticStage, progress: float = 1.0) -> torch.Tensor:
    """What the frames are drawn by, the critic's share and their own"""
    stage.network.zero_grad(set_to_none=True)
    loss, _ = stage.loss(stage.network, {}, generator(), progress)
    loss.backward()
    gradient = stage.network.network.tokens.grad
    assert gradient is not None
    return gradient.clone()


def own_pull(stage: Stage) -> torch.Tensor:
    return stage.strength * 2 * (stage.network.tokens.detach() - 0.1) / stage.network.tokens.numel()


def test_it_pulls_as_strongly_as_asked_once_it_can_tell_and_not_before_own_past_begins():
    torch.manual_seed(0)
    plain = Stage(recorded())
    stage = ClipCriticStage(plain, weight=0.5)
    own = own_pull(plain)
    assert torch.allclose(pull(stage, progress=0.4), own)
    optimizer = torch.optim.Adam(stage.network.critic.parameters(), lr=3e-3)
    for _ in range(30):
        pull(stage)
        optimizer.step()
    by_critic = pull(stage) - own
    assert by_critic.norm() == pytest.approx(0.5 * float(own.norm()), rel=1e-3)
    # a critic that finds recorded frames the worse ones is not listened to
    with torch.no_grad():
        stage.network.critic.score.weight.neg_()
    assert torch.allclose(pull(stage), own)


def test_frames_on_its_own_past_are_pulled_no_harder_than_on_a_recorded_one():
    torch.manual_seed(0)
    plain = Stage(recorded())
    stage = ClipCriticStage(plain, weight=0.5)
    own = own_pull(plain)
    pull(stage)
    assert float(stage.network.critic.reference) == pytest.approx(float(own.norm()), rel=1e-3)
    plain.is_own, plain.strength = True, 10.0
    assert pull(stage).norm() <= 1.5 * own.norm() * 1.001


def test_its_learning_rate_is_its_own():
    from worldgen.training.critic import Criticised

    critic = ClipCritic((8, 8, 8))
    for name in ("adamw", "muon"):
        groups = make_optimizer(Criticised(nn.Linear(4, 4), critic), name, 1e-3, 0.01).param_groups
        fast = [g for g in groups if g.get("rate", 1.0) == ClipCritic.rate]
        assert len(fast) == 1 and {id(p) for p in fast[0]["params"]} == {id(p) for p in critic.parameters()}
        assert sum(len(g["params"]) for g in groups) == 2 + len(list(critic.parameters()))


def test_a_dynamics_trained_with_it_is_saved_without_and_resumes_to_the_same(
    toy_recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from worldgen.training import pipeline
    from worldgen.training.dynamics import DynamicsStage
    from worldgen.training.presets import tiny

    preset = replace(
        tiny(), side=16, context=4, tokenizer={"token_dim": 8, "channels": [4, 4, 4]},
        dynamics={"dim": 16, "num_layers": 2, "num_heads": 2, "cubic": True, "blank": True},
    )  # fmt: skip
    monkeypatch.setattr(pipeline, "get_preset", lambda name: preset)
    begin = DynamicsStage.__init__

    def early(self, *arguments, **named) -> None:
        begin(self, *arguments, **named)
        self.recipe = replace(self.recipe, own_past_from=0.0, own_past=0.5)

    monkeypatch.setattr(DynamicsStage, "__init__", early)

    def train(world: str, stages: tuple[str, ...] = ("dynamics",), **options) -> Dynamics:
        recipe = Recipe(toy_recordings, tmp_path / world, stages=stages, **{"steps": 6, "sharpen": 0.5, **options})
        train_world(recipe, say=lambda text: None)
        return load_network(tmp_path / world, "dynamics")

    is_over = "worldgen.training.fit._Run._is_over"
    both = ("tokenizer", "dynamics")
    whole = train("whole", both)
    with monkeypatch.context() as patch:
        patch.setattr(is_over, lambda run, progress: run.stage.name == "dynamics" and progress.step >= 3)
        train("cut", both)
    resumed = train("cut", resume=True)
    plain = train("plain", both, sharpen=0.0)
    assert type(whole) is Dynamics
    same = [torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)]
    assert all(same)
    assert any(not torch.equal(a, b) for a, b in zip(whole.parameters(), plain.parameters(), strict=True))
