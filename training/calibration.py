"""From what a head says of an end to a probability that can be believed, and from that to a decision."""

from __future__ import annotations

import numpy as np


def threshold_of_best_f1(
    probability: np.ndarray, real: np.ndarray, weights: np.ndarray | None = None
) -> tuple[float, float, float]:
    """probability (n,), real (n,) bool with some set, weights (n,): how many cases each stands for -> threshold in
    (0, 1), above which it is an end; F1 there; average precision over all thresholds.

    The threshold lies halfway between the last probability that is taken and the first that is not. Equal
    probabilities are taken together.
    """
    assert real.any(), "without an end there is nothing to find"
    weights = np.ones(len(real)) if weights is None else weights
    order = np.argsort(-probability, kind="stable")
    p = probability[order].astype(np.float64)
    taken, hits = np.cumsum(weights[order]), np.cumsum((weights * real)[order])
    last = np.flatnonzero(np.append(p[1:] < p[:-1], True))  # of each run of equal probabilities
    p, taken, hits = p[last], taken[last], hits[last]
    precision, recall = hits / taken, hits / hits[-1]
    f1 = 2 * hits / (taken + hits[-1])
    best = int(np.argmax(f1))
    below = p[best + 1] if best + 1 < len(p) else 0.0
    threshold = float(np.clip((p[best] + below) / 2, 1e-6, 1 - 1e-6))
    return threshold, float(f1[best]), float((np.diff(recall, prepend=0) * precision).sum())


FEW = 5  # ends: with fewer the slope is not fitted


def fit_sigmoid(logit: np.ndarray, real: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """logit (n,), real (n,) bool, weights (n,) -> scale > 0 and shift, so that sigmoid(scale * logit + shift) is the
    probability (Platt 1999, with his softened targets). With FEW ends or a logit that says nothing the scale is 1 and
    the shift alone makes the mean right."""
    num_real, num_other = float((weights * real).sum()), float((weights * ~real).sum())
    target = np.where(real, (num_real + 1) / (num_real + 2), 1 / (num_other + 2))
    if real.sum() >= FEW:
        scale, shift = _newton(np.stack([logit, np.ones_like(logit)], axis=1).astype(np.float64), target, weights)
        if scale > 1e-3:
            return float(scale), float(shift)
    (shift,) = _newton(np.ones((len(logit), 1)), target, weights, offset=logit.astype(np.float64))
    return 1.0, float(shift)


def _newton(x: np.ndarray, target: np.ndarray, weights: np.ndarray, offset: np.ndarray | float = 0.0) -> np.ndarray:
    """Weighted logistic regression of target (n,) in 0..1 on x (n, k), the linear part begun at offset (n,): (k,)"""

    def loss(w: np.ndarray) -> float:
        z = offset + x @ w
        return float((weights * (np.logaddexp(0, z) - target * z)).sum())

    w = np.zeros(x.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(offset + x @ w, -50, 50)))
        gradient = x.T @ (weights * (p - target))
        curvature = (x * (weights * p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(x.shape[1])
        step = np.linalg.solve(curvature, gradient)
        before = loss(w)
        while loss(w - step) > before and np.abs(step).max() > 1e-9:
            step = step / 2
        w = w - step
        if np.abs(step).max() < 1e-6:
            break
    return w
