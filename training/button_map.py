"""Real buttons and codes: which code presses which button, from a few frames whose button is known.

Several codes may mean the same button; idle is a button like the others. How good a map is, is measured on
episodes that it was not fitted on, beside one that was fitted on every labelled frame.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from worldgen.actions import ActionMap
from worldgen.naming import distinct_names, is_key
from worldgen.training.code_scores import ButtonMap, counts_of, fit_button_map, mean_recall, nmi

FREE_KEYS = string.digits[1:] + "0" + string.ascii_lowercase  # of codes that have no button's
DRAWS = 8  # of the labelled frames: one draw of few says little

KEYS = {
    "labels": "labelled frames that the map is fitted on",
    "accuracy": "share of real buttons that are right when read off the code, the mean over the buttons, on other "
    "episodes; the mean over several draws of the labels",
    "accuracy_spread": "the worst and the best draw",
    "accuracy_all": "the same with every labelled frame of those episodes",
    "ratio": "accuracy / accuracy_all",
    "chance": "what guessing would give",
    "nmi": "mutual information of codes and buttons over the geometric mean of their entropies",
    "buttons": "of each button: the codes that press it, the best first; is_own false: no code means it, the nearest "
    "does something else more often",
    "codes": "of each code: the button it means and the share of its frames that it is right for",
}


def button_map_figures(
    codes: np.ndarray,
    buttons: np.ndarray,
    names: Sequence[str],
    is_fitted: np.ndarray,
    num_codes: int,
    code_names: Sequence[str],
    labels: int,
    seed: int = 0,
) -> tuple[ButtonMap, dict[str, Any]]:
    """codes, buttons (n,); is_fitted (n,) bool: from which of these labels may be drawn -> the map of the first draw,
    and the keys of KEYS"""
    scored, truth = codes[~is_fitted], buttons[~is_fitted]
    maps = []
    for draw in range(DRAWS):
        picks = np.random.default_rng((seed, draw)).permutation(np.flatnonzero(is_fitted))[:labels]
        maps.append(fit_button_map(codes[picks], buttons[picks], num_codes, len(names)))
    few = [mean_recall(m.button_of[scored], truth) for m in maps]
    everything = fit_button_map(codes[is_fitted], buttons[is_fitted], num_codes, len(names))
    whole = mean_recall(everything.button_of[scored], truth)
    kept = maps[0]
    counts = counts_of(scored, truth, num_codes, len(names))
    right = counts[np.arange(num_codes), kept.button_of] / np.maximum(1, counts.sum(1))
    return kept, {
        "labels": kept.labels,
        "accuracy": float(np.mean(few)),
        "accuracy_spread": [min(few), max(few)],
        "accuracy_all": whole,
        "ratio": float(np.mean(few)) / whole if whole else None,
        "chance": 1 / len(np.unique(truth)),
        "nmi": nmi(counts),
        "buttons": {
            name: {
                "codes": [code_names[c] for c in kept.codes_of[i]],
                "is_own": bool((kept.button_of[list(kept.codes_of[i])] == i).all()),
            }
            for i, name in enumerate(names)
        },
        "codes": {
            code_names[c]: {"button": names[kept.button_of[c]], "share": float(right[c])} for c in range(num_codes)
        },
    }


def names_and_keys(
    fitted: ButtonMap, buttons: ActionMap, actions: ActionMap
) -> tuple[Mapping[int, str], Mapping[int, tuple[str, ...]]]:
    """What the codes of a world are called and pressed with, by the buttons they mean: the best code of each takes the
    button's name and keys, others are numbered and have a key that no other has."""
    names: dict[int, str] = {}
    keys: dict[int, tuple[str, ...]] = {}
    for button, codes in enumerate(fitted.codes_of):
        own = [c for c in codes if fitted.button_of[c] == button]
        names |= dict.fromkeys(own, buttons.names[button])
        held = tuple(buttons.keys[button]) if buttons.keys else None
        if own and held is not None and all(map(is_key, held)) and set(held) not in map(set, keys.values()):
            keys[own[0]] = held
    used = {key for held in keys.values() for key in held}
    for code in range(actions.sizes[0]):
        names.setdefault(code, f"code {code}")
        free = next((key for key in (str(code + 1), *FREE_KEYS) if is_key(key) and key not in used), None)
        if code not in keys and free is not None:
            keys[code] = (free,)
            used.add(free)
        keys.setdefault(code, ())
    return dict(zip(names, distinct_names([*names.values()]), strict=True)), keys
