"""The critic: adversarial and perceptual losses of the stages that make pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import FPS, TOY_ACTIONS, move, toy_frame

from worldgen.data.recording import RecordingInfo, RecordingWriter
from worldgen.errors import InputError

torch = pytest.importorskip("torch")

from worldgen.bundle import load_network  # noqa: E402
from worldgen.models.tokenizer import Tokenizer  # noqa: E402
from worldgen.training.critic import Critic, Criticised, critic_loss, sharpness_loss  # noqa: E402
from worldgen.training.pipeline import train_world  # noqa: E402
from worldgen.training.recipe import Recipe  # noqa: E402


def pictures(count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Blurred and sharp ones, (n, 3, 16, 16)"""
    sharp = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(0)).sign()
    return torch.nn.functional.avg_pool2d(sharp, 3, stride=1, padding=1), sharp


def test_it_learns_to_tell_blurred_pictures_and_then_rewards_sharp_ones():
    torch.manual_seed(0)
    critic, (blurred, sharp) = Critic((8, 16, 16)), pictures()
    optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3)
    for _ in range(40):
        loss = critic_loss(critic, blurred, sharp)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5
    as_blurred, as_sharp = (sharpness_loss(critic, made, sharp) for made in (blurred, sharp))
    assert as_sharp[0] < as_blurred[0] and as_sharp[1] == 0 and as_blurred[1] > 0.1


def test_each_learns_from_its_own_loss_alone():
    critic, (made, real) = Critic((8, 8, 8)), pictures(2)
    made.requires_grad_()
    critic_loss(critic, made, real).backward()
    assert made.grad is None and all(p.grad is not None for p in critic.parameters())
    critic.zero_grad(set_to_none=True)
    sum(sharpness_loss(critic, made, real)).backward()
    assert made.grad.abs().sum() > 0 and all(p.grad is None for p in critic.parameters())


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for i in range(3):
        place = np.array([4, 6])
        with RecordingWriter(folder / f"{i}.mkv", RecordingInfo(FPS, TOY_ACTIONS, "toy", seed=i)) as writer:
            for _ in range(24):
                writer.write(toy_frame(place, i))
                action = int(rng.integers(5))
                place = move(place, action)
                writer.act(action, 0.0, False)
    return folder


def test_a_tokenizer_trained_with_it_is_saved_without_and_resumes_to_the_same(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from dataclasses import replace

    from worldgen.training import pipeline
    from worldgen.training.presets import tiny

    small = replace(tiny(), side=16, tokenizer={"token_dim": 8, "channels": [4, 4, 4]})
    monkeypatch.setattr(pipeline, "get_preset", lambda name: small)

    def train(world: str, **options) -> Tokenizer:
        train_world(
            Recipe(recordings, tmp_path / world, stages=("tokenizer",), **{"sharpen": 0.1, **options}),
            say=lambda text: None,
        )
        return load_network(tmp_path / world, "tokenizer")

    whole = train("whole", steps=4)
    monkeypatch.setattr("worldgen.training.fit._Run._is_over", lambda run, progress: progress.step >= 2)
    train("cut", steps=4)
    monkeypatch.undo()
    monkeypatch.setattr(pipeline, "get_preset", lambda name: small)
    resumed = train("cut", steps=4, resume=True)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not isinstance(whole, Criticised)
    with pytest.raises(InputError, match="tokenizer was trained with --sharpen: resume it with it"):
        train("cut", steps=4, resume=True, sharpen=0.0)


def test_a_weight_that_does_not_fit_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="between 0 and 1, got 3"):
        Recipe(tmp_path, tmp_path, sharpen=3)
    with pytest.raises(InputError, match="belongs to --stages tokenizer super_resolution"):
        Recipe(tmp_path, tmp_path, sharpen=0.1, stages=("dynamics",))
