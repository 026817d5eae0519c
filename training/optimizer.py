"""The optimisers that a stage can be trained with: AdamW, or Muon on matrices inside blocks and AdamW on the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from worldgen.training.compiled import multiplies_bfloat16
from worldgen.training.sharding import shared_out, whole

OPTIMIZERS = ("adamw", "muon")
BETAS = (0.9, 0.95)
MOMENTUM = 0.95
MOST_AT_ONCE = 2**24  # numbers in the matrices that are made orthogonal together


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
            found = [(p, p.grad) for p in group["params"] if p.grad is not None]
            updates = self._muon(found) if group["is_muon"] else ((p, self._adam(p, g)) for p, g in found)
            for p, update in updates:
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"])

    def _muon(self, found: list[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """found: parameters and their gradients -> parameters and their updates. Matrices of one shape go together:
        each alone is small."""
        alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for p, gradient in found:
            momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
            momentum.lerp_(gradient, 1 - MOMENTUM)
            # of the whole matrix, wherever its parts are
            nesterov = whole(torch.lerp(gradient, momentum, MOMENTUM))
            wide = nesterov.T if nesterov.shape[0] > nesterov.shape[1] else nesterov
            alike.setdefault(wide.shape, []).append((p, wide))
            if len(alike[wide.shape]) * wide.numel() >= MOST_AT_ONCE:
                yield from _orthogonal_updates(alike.pop(wide.shape))
        for group in alike.values():
            yield from _orthogonal_updates(group)

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


def _orthogonal_updates(group: list[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """group: parameters, and of each a matrix (n, m), n <= m, of one shape"""
    updates = orthogonalise(torch.stack([matrix for _, matrix in group]))
    for (p, _), update in zip(group, updates, strict=True):
        update = update.T if p.shape[0] > p.shape[1] else update
        yield p, shared_out(0.2 * max(p.shape) ** 0.5 * update.contiguous(), p)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """(k, n, m), n <= m -> of each its nearest matrix with all singular values about one: Newton-Schulz, Jordan's
    coefficients, in bfloat16 as he does it where that is multiplied in hardware"""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices / (matrices.norm(dim=(1, 2), keepdim=True) + 1e-7)
    if matrices.is_cuda or multiplies_bfloat16():
        x = x.bfloat16()
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.to(matrices.dtype)
