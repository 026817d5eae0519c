"""Are the game's things there at all? What is small may fade without PSNR noticing.

Where the game says which pixels show what (masks() of ToyGame and Doom), it plays every second held-out episode again,
and a small network learns to see the same from the picture alone. It then looks at recorded and at generated frames of
the other episodes. Other than the templates of objects.py it knows things that come in all sizes, and other than there
nothing is said of where they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.actions import ActionMap
from worldgen.data.recording import RecordingInfo
from worldgen.errors import InputError
from worldgen.training.held_out import HeldOut
from worldgen.training.objects import SCENERY, fit_mask, smaller
from worldgen.training.real_game import MakeGame, games_of, play_to_prompt
from worldgen.training.replay import Replay
from worldgen.training.rollout import PROMPT
from worldgen.training.watch import OnProgress, unheard

LEAST = 3  # pixels that make a thing seen
SIDE = 64  # pixels: larger pictures are made smaller first
FRAMES = 3000  # that the network learns from, at most
TELLING = 0.5  # F1 on recorded frames of other episodes that must be reached: of what is not, nothing can be said
HORIZONS = (1, 4, 16, 64, 256)

KEYS = {
    "method": "how things are seen",
    "frames": "recorded frames that the network learned from",
    "clips": "clips of other episodes that it looked at",
    "things": "for each kind of thing that it sees in recorded frames (F1 of half at least): presence.things",
}
THING_KEYS = {
    "f1": "of recorded frames said to show the thing against those that do, in episodes that it did not learn from",
    "horizons": "for each horizon, of all frames after the one before up to it: presence.things.horizons",
}
HORIZON_KEYS = {
    "seen": "share of the generated frames in which it sees the thing",
    "seen_recorded": "the same of the recorded frames",
    "seen_codec": "the same of those through the tokenizer alone",
    "kept": "of the recorded frames in which it sees the thing, the share of which it does in the generated one too",
}
METHOD = (
    "a small convolutional network that learned from the masks of half of the episodes which pixels show what; seen: "
    f"at least {LEAST} pixels of it"
)


def presence_figures(
    held_out: HeldOut,
    data: Path,
    starts: np.ndarray,
    played: Replay,
    make_game: MakeGame,
    on_steps: OnProgress = unheard,
    seed: int = 0,
) -> dict[str, Any] | str:
    """starts (b,): where the clips of `played` begin -> the keys of KEYS, or why there are none"""
    if held_out.facts["actions"] != "recorded":
        return "no recorded actions are known"
    try:
        from worldgen.training.presence_reader import f1, see, train_seer
    except ModuleNotFoundError:
        return "that needs PyTorch"
    known = np.concatenate([np.arange(a, b) for a, b in held_out.segments])
    is_learned = held_out.half(np.concatenate([known, starts]))
    learned, clips = known[is_learned[: len(known)]], np.flatnonzero(~is_learned[len(known) :])
    if not len(clips):
        return "there is one episode alone"
    step = -(-max(played.last.shape[1:3]) // SIDE)
    try:
        shown = _masks(held_out, data, learned, make_game, step)
        unseen = _masks(held_out, data, known[~is_learned[: len(known)]], make_game, step)
    except InputError as error:
        return str(error)
    for masks in (shown, unseen):
        if isinstance(masks, str):
            return masks
    assert not isinstance(shown, str) and not isinstance(unseen, str)
    names = [name for name, mask in shown[1].items() if 0 < mask.mean() <= SCENERY]
    if not names:
        return "no recording of half of the episodes shows a thing that the game names"
    truth = np.stack([shown[1][name] for name in names], axis=1)
    network = train_seer(shown[0], truth, LEAST, on_steps, seed)
    sides = {
        "seen": played.made[clips],
        "seen_recorded": played.real[clips],
        "seen_codec": played.restored[clips],
    }
    seen = {
        key: see(network, smaller(_flat(frames), step), LEAST).reshape(*frames.shape[:2], len(names))
        for key, frames in sides.items()
    }
    right = see(network, unseen[0], LEAST), np.stack([unseen[1][n].sum((1, 2)) >= LEAST for n in names], axis=1)
    things = {}
    for i, name in enumerate(names):
        if (quality := f1(right[0][:, i], right[1][:, i])) >= TELLING:
            things[name] = {"f1": quality, "horizons": _horizons({key: x[..., i] for key, x in seen.items()})}
    if not things:
        return "a small network does not learn to see what the game names"
    return {"method": METHOD, "frames": len(shown[0]), "clips": len(clips), "things": things}


def _masks(
    held_out: HeldOut, data: Path, rows: np.ndarray, make_game: MakeGame, step: int
) -> tuple[np.ndarray, dict[str, np.ndarray]] | str:
    """Episodes that hold the frames `rows` of the cache, played again -> some of the frames (n, h, w, 3) uint8 and what
    they show (n, h, w) bool; or why there are none"""
    cache, actions = held_out.cache, held_out.cache.action_map
    assert actions is not None
    begins = cache.starts[np.unique(held_out.episode_of(rows))]
    wanted = set(rows[:: max(1, -(-len(rows) // FRAMES))].tolist())
    found: list[int] = []
    masks: dict[str, list[np.ndarray]] = {}
    height, width = (-(-side // step) for side in cache.frames.shape[1:3])
    for game, episodes in games_of(held_out, data, begins, make_game):
        if not hasattr(game, "masks"):
            return f"{episodes[0][1].source} does not say which pixels are what"
        for i, info in episodes:
            for row in _play_again(game, held_out, info, int(begins[i]), actions):
                if row in wanted:
                    found.append(row)
                    for name, mask in game.masks().items():
                        masks.setdefault(name, []).append(fit_mask(mask, height, width))
    if not found:
        return "no recording shows the same again when its game is played with its seed"
    frames = smaller(held_out.frames(np.array(found)[None])[0], step)
    return frames, {name: np.stack(mask) for name, mask in masks.items()}


def _play_again(game: Any, held_out: HeldOut, info: RecordingInfo, begin: int, actions: ActionMap) -> Iterator[int]:
    """Brings the game to frame after frame of the recording that begins at `begin`, as far as it is known -> each"""
    row = begin + PROMPT - 1
    last = held_out.segments.stops[held_out.segments.stops > begin].min() - 1
    shown = play_to_prompt(game, held_out, info, begin, actions, held_out.frames(np.array([[row]]))[0, 0])
    while shown is not None and not (shown.terminated or shown.truncated):
        yield row
        if row >= last or (held_out.actions[row] == actions.null()).all():
            return
        shown = game.step(actions.decode(held_out.actions[row]))
        row += 1


def _horizons(seen: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """seen (b, t) bool by side -> HORIZON_KEYS of each horizon that is reached"""
    out, before = {}, 0
    for horizon in HORIZONS:
        part = {key: x[:, before:horizon] for key, x in seen.items()}
        if horizon <= seen["seen"].shape[1]:
            real = part["seen_recorded"]
            kept = float(part["seen"][real].mean()) if real.any() else float("nan")
            out[str(horizon)] = {key: float(x.mean()) for key, x in part.items()} | {"kept": kept}
        before = horizon
    return out


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, *x.shape[2:])
