"""The optimisers that a stage can be trained with: AdamW, or Muon on matrices inside blocks and AdamW on the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from worldgen.training.sharding import shared_out, whole

OPTIMIZERS = ("adamw", "muon")
BETAS = (0.9, 0.95)
MOMENTUM = 0.95


def make_optimizer(network: nn.Module, name: str, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """name: one of OPTIMIZERS. Weight decay on matrices only."""
    trained = [p for p in network.parameters() if p.requires_grad]
    inside = {id(p) for p in _block_matrices(network)} if name == "muon" else set()
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.dim() >= 2 and id(p) not in inside], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS)
    groups.append({"params": [p for p in trained if id(p) in inside], "weight_decay": weight_decay, "is_muon": True})
    return Muon([g for g in groups if g["params"]], learning_rate)


def _block_matrices(network: nn.Module) -> list[Tensor]:
    """Weights of linear layers inside `blocks`: neither what reads the input nor what makes the output"""
    return [
        layer.weight
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and "blocks." in name and layer.weight.requires_grad
    ]


class Muon(torch.optim.Optimizer):
    """Muon (Jordan 2024): momentum whose singular values are all made one, for groups with is_muon; AdamW for the
    others. Updates are scaled to the size of AdamW's (Liu et al. 2025), so both have one learning rate."""

    def __init__(self, groups: list[dict[str, Any]], lr: float):
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, "is_muon": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                update = self._muon(p, p.grad) if group["is_muon"] else self._adam(p, p.grad)
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"])

    def _muon(self, p: Tensor, gradient: Tensor) -> Tensor:
        state = self.state[p]
        momentum = state.setdefault("momentum", torch.zeros_like(p))
        momentum.lerp_(gradient, 1 - MOMENTUM)
        nesterov = torch.lerp(gradient, momentum, MOMENTUM)
        # of the whole matrix, wherever its parts are
        return shared_out(0.2 * max(p.shape) ** 0.5 * orthogonalise(whole(nesterov)), p)

    def _adam(self, p: Tensor, gradient: Tensor) -> Tensor:
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
        state["step"] += 1
        state["mean"].lerp_(gradient, 1 - BETAS[0])
        state["square"].lerp_(gradient.square(), 1 - BETAS[1])
        mean, square = (
            state[k] / (1 - b ** state["step"].item()) for k, b in zip(("mean", "square"), BETAS, strict=True)
        )
        return mean / (square.sqrt() + 1e-8)


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """(n, m) -> its nearest matrix with all singular values about one: Newton-Schulz, Jordan's coefficients"""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x
