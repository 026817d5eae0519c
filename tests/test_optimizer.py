"""Muon: orthogonal updates inside blocks, AdamW elsewhere; a resumed run repeats an unbroken one."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from worldgen.errors import InputError  # noqa: E402
from worldgen.models.dynamics import Dynamics  # noqa: E402
from worldgen.training.checkpoint import (  # noqa: E402
    Progress,
    load_checkpoint,
    load_optimizer,
    save_checkpoint,
    state_tensors,
)
from worldgen.training.fit import Fit  # noqa: E402
from worldgen.training.optimizer import make_optimizer, orthogonalise  # noqa: E402


def network() -> Dynamics:
    torch.manual_seed(0)
    made = Dynamics(
        grid=[2, 2], patch=8, token_dim=8, action_kind="discrete", action_sizes=[3], dim=16, num_layers=2, num_heads=2
    )
    for parameter in made.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return made


def step(made: Dynamics, optimizer: torch.optim.Optimizer, seed: int) -> float:
    generator = torch.Generator().manual_seed(seed % 2)
    tokens = torch.randn(2, 3, 4, 8, generator=generator)
    level = torch.full((2, 3), 0.5)
    before = torch.zeros(2, 3, *made.previous_shape)
    out, _ = made(0.5 * tokens, level, level, before, level, torch.ones(2, 3, 1, dtype=torch.long))
    loss = (out - tokens).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def test_singular_values_become_about_one():
    for shape in ((24, 24), (40, 12), (12, 40)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        wide = matrix.T if shape[0] > shape[1] else matrix
        values = torch.linalg.svdvals(orthogonalise(torch.stack([wide, 3 * wide])))  # two at once, of whatever size
        assert values.min() > 0.4 and values.max() < 1.4


def test_each_matrix_gets_its_own_update_tall_or_wide():
    generator = torch.Generator().manual_seed(0)
    made = torch.nn.Module()
    made.blocks = torch.nn.ModuleList(
        torch.nn.Linear(*shape, bias=False) for shape in ((40, 12), (12, 40), (40, 12), (24, 24))
    )
    optimizer = make_optimizer(made, "muon", 1.0, 0.0)
    before = [p.detach().clone() for p in made.parameters()]
    for p in made.parameters():
        p.grad = torch.randn(p.shape, generator=generator)
    optimizer.step()
    for p, old in zip(made.parameters(), before, strict=True):
        is_tall = p.shape[0] > p.shape[1]
        alone = orthogonalise((p.grad.T if is_tall else p.grad)[None])[0]
        expected = 0.2 * max(p.shape) ** 0.5 * (alone.T if is_tall else alone)
        assert torch.allclose(old - p.detach(), expected, atol=0.05), p.shape


def test_the_loss_falls_with_either():
    for name in ("adamw", "muon"):
        made = network()
        optimizer = make_optimizer(made, name, 3e-3, 0.01)
        losses = [step(made, optimizer, i) for i in range(60)]
        assert sum(losses[-4:]) < 0.6 * sum(losses[:4]), name


def test_every_parameter_is_trained_once_and_only_matrices_in_blocks_by_muon():
    made = network()
    groups = make_optimizer(made, "muon", 1e-3, 0.01).param_groups
    counted = [id(p) for group in groups for p in group["params"]]
    assert sorted(counted) == sorted(id(p) for p in made.parameters())
    names = {id(p): name for name, p in made.named_parameters()}
    by_muon = {names[id(p)] for group in groups if group["is_muon"] for p in group["params"]}
    assert by_muon and all(name.startswith("blocks.") and name.endswith("weight") for name in by_muon)
    assert {"tokens_in.weight", "tokens_out.weight", "position"}.isdisjoint(by_muon)
    assert all(p.dim() == 2 for group in groups if group["is_muon"] for p in group["params"])


def test_a_checkpoint_goes_on_bit_for_bit(tmp_path):
    made, average = network(), network()
    optimizer = make_optimizer(made, "muon", 1e-3, 0.01)
    for i in range(3):
        step(made, optimizer, i)
    save_checkpoint(tmp_path, Progress(3, 1.0), state_tensors(made, average, optimizer))
    for i in range(3, 6):
        step(made, optimizer, i)
    other = network()
    second = make_optimizer(other, "muon", 1e-3, 0.01)
    loaded = load_checkpoint(tmp_path, other, average)
    assert loaded is not None and loaded[0] == Progress(3, 1.0)
    load_optimizer(second, loaded[1])
    for i in range(3, 6):
        step(other, second, i)
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), other.parameters(), strict=True))


def test_an_unknown_one_is_refused():
    with pytest.raises(InputError, match="'sgd'; choose adamw or muon"):
        Fit(steps=1, batch=1, length=2, learning_rate=1e-3, optimizer="sgd")
