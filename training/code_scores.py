"""How well codes agree with the actions that were really pressed. The actions are used to score, never to train.

Accuracies are the mean recall over the actions that occur, so that frequent ones do not count for more. What is fitted
(which action a code stands for, the probe) is fitted on some episodes and scored on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worldgen.actions import ActionMap

MAX_KINDS = 64  # of actions: more are not told apart by a few codes
KEYS = {
    "perplexity": "how many codes are in use, as the exponential of their entropy: 1 to the number of codes",
    "usage": "share of the frames that each code explains",
    "unused": "codes that explain none",
    "nmi": "mutual information of codes and recorded actions over the geometric mean of their entropies: 0 says "
    "nothing, 1 everything",
    "accuracy": "share of recorded actions that are right when each code stands for one action (several codes may "
    "stand for the same), fitted on other episodes; the mean over the actions that occur",
    "probe": "the same of a linear probe of how well every code explains a frame: what keeping the best alone loses is "
    "the difference",
    "chance": "what guessing would give",
    "labelled": "the same of a small network that was trained on the recorded actions themselves: what can be seen",
    "probe_ratio": "probe / labelled",
    "meaning": "of each code: the action it stands for and the share of its frames in which it was that one",
    "consistency": "share of a code's frames that are of its action, the mean over codes; 1: a code means the same "
    "wherever it occurs",
    "pairs": "pairs of frames scored",
}


def code_usage(codes: np.ndarray, num_codes: int) -> dict[str, Any]:
    """codes (n,) -> perplexity, usage, unused"""
    share = np.bincount(codes, minlength=num_codes) / max(1, len(codes))
    used = share[share > 0]
    return {
        "perplexity": float(np.exp(-(used * np.log(used)).sum())),
        "usage": share.tolist(),
        "unused": np.flatnonzero(share == 0).tolist(),
    }


def counts_of(codes: np.ndarray, actions: np.ndarray, num_codes: int, num_actions: int) -> np.ndarray:
    """(n,) twice -> how often they met (num_codes, num_actions)"""
    return np.bincount(codes * num_actions + actions, minlength=num_codes * num_actions).reshape(num_codes, num_actions)


def nmi(counts: np.ndarray) -> float:
    """0 where one of the two never changes."""
    joint = counts / counts.sum()
    rows, columns = joint.sum(1), joint.sum(0)
    entropies = [-(p[p > 0] * np.log(p[p > 0])).sum() for p in (rows, columns)]
    is_met = joint > 0
    shared = (joint[is_met] * np.log((joint / np.maximum(np.outer(rows, columns), 1e-300))[is_met])).sum()
    return float(shared / max(1e-12, np.sqrt(entropies[0] * entropies[1]))) if min(entropies) > 1e-9 else 0.0


def meaning_of(counts: np.ndarray, smoothing: float = 0.5) -> np.ndarray:
    """The action that each code speaks for most, were all actions pressed equally often: (num_codes,)

    A code that was not seen gets the action that most of the others leave out."""
    likelihood = (counts + smoothing) / np.maximum(1, counts.sum(0, keepdims=True) + smoothing * len(counts))
    likelihood[:, counts.sum(0) == 0] = 0  # an action that never occurs means nothing
    return likelihood.argmax(1)


def mean_recall(said: np.ndarray, actions: np.ndarray) -> float:
    return float(np.mean([(said[actions == a] == a).mean() for a in np.unique(actions)]))


def linear_probe(
    latents: np.ndarray, actions: np.ndarray, others: np.ndarray, num_actions: int, steps: int = 150
) -> np.ndarray:
    """Multinomial logistic regression from latents (n, d) to actions (n,), every action weighing the same -> what it
    reads off others (m, d): (m,)"""
    import torch
    from torch.nn import functional as F

    mean, std = latents.mean(0), latents.std(0) + 1e-6
    x, y = torch.from_numpy((latents - mean) / std).float(), torch.from_numpy(actions).long()
    weight = 1 / torch.bincount(y, minlength=num_actions).clamp_min(1)
    table = torch.zeros(num_actions, x.shape[1] + 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([table], max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> Any:
        optimiser.zero_grad()
        error = F.cross_entropy(x @ table[:, 1:].T + table[:, 0], y, weight=weight / weight.sum() * num_actions)
        error = error + 1e-4 * table.square().sum()
        error.backward()
        return error

    optimiser.step(loss)
    with torch.no_grad():
        read = torch.from_numpy((others - mean) / std).float() @ table[:, 1:].T + table[:, 0]
    return read.argmax(1).numpy()


def agreement(
    codes: np.ndarray,
    actions: np.ndarray,
    is_learned: np.ndarray,
    num_codes: int,
    names: Sequence[str],
    latents: np.ndarray | None = None,
) -> dict[str, Any]:
    """codes (n,), actions (n,) with names; is_learned (n,) bool: what meanings and the probe are fitted on, the rest is
    scored; latents (n, d) for the probe"""
    num_actions = len(names)
    learned = counts_of(codes[is_learned], actions[is_learned], num_codes, num_actions)
    means = meaning_of(learned)
    scored, truth = codes[~is_learned], actions[~is_learned]
    counts = counts_of(scored, truth, num_codes, num_actions)
    purity = counts[np.arange(num_codes), means] / np.maximum(1, counts.sum(1))
    is_used = counts.sum(1) > 0
    figures: dict[str, Any] = {
        **code_usage(codes, num_codes),
        "nmi": nmi(counts),
        "accuracy": mean_recall(means[scored], truth),
        "chance": 1 / len(np.unique(truth)),
        "consistency": float(purity[is_used].mean()),
        "meaning": {
            str(code): {"action": names[means[code]], "share": float(purity[code])} for code in np.flatnonzero(is_used)
        },
        "pairs": int(len(truth)),
        "probe": None,
    }
    if latents is not None:
        figures["probe"] = mean_recall(
            linear_probe(latents[is_learned], actions[is_learned], latents[~is_learned], num_actions), truth
        )
    return figures


def action_classes(rows: np.ndarray, action_map: ActionMap) -> tuple[np.ndarray, ActionMap] | str:
    """Rows (n, width) of known actions -> which kind of action each is (n,), and the kinds as one list of actions; or
    why there is none"""
    if action_map.kind == "box":
        return "the recorded actions are continuous"
    if action_map.is_discrete:
        return rows[:, 0], action_map
    kinds, labels = np.unique(rows, axis=0, return_inverse=True)
    if len(kinds) > MAX_KINDS:
        return f"the recorded actions are of {len(kinds)} kinds, more than {MAX_KINDS}"
    names = [action_map.name(action_map.decode(kind)) for kind in kinds]
    has_keys = action_map.kind == "multi_binary" and len(action_map.keys) == len(action_map.sizes)
    if not has_keys:
        return labels.ravel(), ActionMap.discrete(names)
    keys = [[key for held, on in zip(action_map.keys, kind, strict=True) if on for key in held[:1]] for kind in kinds]
    return labels.ravel(), ActionMap.discrete(names, keys)


@dataclass(frozen=True)
class ButtonMap:
    """Which codes press a real button, and which button a code is.

    button_of: (num_codes,) the button each code stands for. codes_of: of each button the codes that press it, the best
    first; at least one. labels: labelled frames it was fitted on.
    """

    button_of: np.ndarray
    codes_of: tuple[tuple[int, ...], ...]
    labels: int


def fit_button_map(
    codes: Sequence[int] | np.ndarray, buttons: np.ndarray, num_codes: int, num_buttons: int
) -> ButtonMap:
    """codes and buttons (n,) of labelled frames, in any order"""
    counts = counts_of(np.asarray(codes), buttons, num_codes, num_buttons)
    means = meaning_of(counts)
    likelihood = (counts + 0.5) / (counts.sum(0, keepdims=True) + 0.5 * num_codes)
    codes_of = []
    for button in range(num_buttons):
        own = np.flatnonzero((means == button) & (counts.sum(1) > 0))
        ranked = own[np.argsort(-likelihood[own, button], kind="stable")]
        # a button that no code stands for is pressed by the code that it most often comes with
        codes_of.append(tuple(ranked.tolist()) or (int(likelihood[:, button].argmax()),))
    return ButtonMap(means, tuple(codes_of), len(buttons))
