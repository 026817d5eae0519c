"""Are the game's things there at all? What is small may fade without PSNR noticing.

Where the game says which pixels show what (masks() of ToyGame and Doom), the held-out episodes are played again, and a
small network learns from every second one to see the same in the picture alone. It then looks at recorded and at
generated frames of the others. Unlike the templates of objects.py it knows things that come in all sizes; unlike there
nothing is said of where they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.actions import ActionMap
from worldgen.data.recording import RecordingInfo
from worldgen.data.shrink import shrink
from worldgen.errors import InputError
from worldgen.training.held_out import HeldOut
from worldgen.training.metrics import psnr
from worldgen.training.objects import SCENERY
from worldgen.training.real_game import REPRODUCED_DB, MakeGame, games_of, play_to_prompt
from worldgen.training.replay import Replay
from worldgen.training.rollout import PROMPT
from worldgen.training.small_pictures import WITHOUT_MASKS, fit_mask, smaller, step_to_side
from worldgen.training.watch import OnProgress, unheard

AT_ONCE = 256  # frames that are read
FRAMES = 6000  # that are looked at with their masks, at most: half to learn from
TELLING = 0.5  # F1 of pixels in episodes not learned from that must be reached: of what is not, nothing can be said
HORIZONS = (1, 4, 16, 64, 256)

KEYS = {
    "method": "how things are seen",
    "frames": "recorded frames that the network learned from",
    "clips": "clips of other episodes that it looked at",
    "things": "for each kind of thing whose pixels it finds in recorded frames (F1 of half at least): presence.things",
}
THING_KEYS = {
    "f1": "of recorded pixels said to show the thing against those that do, in episodes that it did not learn from",
    "frames": 'for stretches of frames after the prompt, {"1": ..., "2-4": ...}: presence.things.frames',
}
FRAME_KEYS = {
    "seen": "share of the generated frames in which it sees the thing",
    "seen_recorded": "the same of the recorded frames",
    "seen_codec": "the same of those through the tokenizer alone",
    "kept": "of the recorded frames in which it sees the thing, the share of which it does in the generated one too",
}
LEAST = 3  # pixels that make a thing seen
METHOD = (
    "a small convolutional network that learned from the masks of half of the episodes which pixels show what; seen: "
    f"at least {LEAST} of them do"
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
    if find_spec("torch") is None:
        return "torch is not installed: pip install 'worldgen[train]'"
    from worldgen.training.presence_reader import pixel_f1, see, train_seer

    rows = np.concatenate([np.arange(a, b) for a, b in held_out.segments])
    episodes = np.unique(held_out.episode_of(rows))
    if len(episodes) < 2:
        return "there is one episode alone"
    learned = episodes[::2]
    clips = np.flatnonzero(~np.isin(held_out.episode_of(starts), learned))
    if not len(clips):
        return "no clip is of an episode that a network would not learn from"
    step = step_to_side(*played.last.shape[1:3])
    try:
        shown = _played_again(held_out, data, rows[:: -(-len(rows) // FRAMES)], make_game, step)
    except InputError as error:
        return str(error)
    if isinstance(shown, str):
        return shown
    found, frames, masks = shown
    is_learned = np.isin(held_out.episode_of(found), learned)
    if not is_learned.any() or is_learned.all():
        return "too few recordings show the same again when their game is played with its seed"
    names = [name for name, mask in masks.items() if mask[is_learned].any() and mask.mean() <= SCENERY]
    if not names:
        return "half of the episodes show nothing that the game names"
    truth = np.stack([masks[name] for name in names], axis=1)
    network = train_seer(frames[is_learned], truth[is_learned], on_steps, seed)
    quality = pixel_f1(network, frames[~is_learned], truth[~is_learned])
    sides = {"seen": played.made, "seen_recorded": played.real, "seen_codec": played.restored}
    seen = {
        key: np.stack([see(network, smaller(side[clip], step), LEAST) for clip in clips]) for key, side in sides.items()
    }
    things = {
        name: {"f1": float(quality[i]), "frames": _stretches({key: x[..., i] for key, x in seen.items()})}
        for i, name in enumerate(names)
        if quality[i] >= TELLING
    }
    if not things:
        return "a small network does not learn to see what the game names"
    return {"method": METHOD, "frames": int(is_learned.sum()), "clips": len(clips), "things": things}


def _played_again(
    held_out: HeldOut, data: Path, rows: np.ndarray, make_game: MakeGame, step: int
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]] | str:
    """rows (n,): frames of the cache -> those that their games show again (m,), the frames (m, h, w, 3) uint8 and which
    of their pixels show what (m, h, w) bool; or why there are none"""
    actions = held_out.cache.action_map
    assert actions is not None
    begins = held_out.cache.starts[np.unique(held_out.episode_of(rows))]
    wanted = set(rows.tolist())
    found: list[int] = []
    seen: list[dict[str, np.ndarray]] = []
    height, width = (-(-side // step) for side in held_out.cache.frames.shape[1:3])
    for game, episodes in games_of(held_out, data, begins, make_game):
        if not hasattr(game, "masks"):
            return WITHOUT_MASKS.format(episodes[0][1].source)
        for i, info in episodes:
            for row in _play_again(game, held_out, info, int(begins[i]), actions, wanted):
                found.append(row)
                seen.append({name: fit_mask(mask, height, width) for name, mask in game.masks().items()})
    if not found:
        return "no recording shows the same again when its game is played with its seed"
    nothing = np.zeros((height, width), bool)
    names = sorted({name for masks in seen for name in masks})
    parts = np.array_split(found, -(-len(found) // AT_ONCE))
    frames = np.concatenate([smaller(held_out.frames(part[None])[0], step) for part in parts])
    return np.array(found), frames, {name: np.stack([m.get(name, nothing) for m in seen]) for name in names}


def _play_again(
    game: Any, held_out: HeldOut, info: RecordingInfo, begin: int, actions: ActionMap, wanted: set[int]
) -> Iterator[int]:
    """Brings the game to one after the other of the wanted frames of the recording that begins at `begin` -> each, as
    long as it shows what was recorded"""
    stops = held_out.segments.stops
    row, last = begin + PROMPT - 1, int(stops[stops > begin].min(initial=len(held_out.actions))) - 1
    if row > last:
        return

    def recorded(at: int) -> np.ndarray:
        return held_out.frames(np.array([[at]]))[0, 0]

    shown = play_to_prompt(game, held_out, info, begin, actions, recorded(row))
    while shown is not None and not (shown.terminated or shown.truncated):
        if row in wanted:
            there = recorded(row)
            if psnr(shrink(shown.image, *there.shape[:2]), there) < REPRODUCED_DB:
                return
            yield row
        if row == last or (held_out.actions[row] == actions.null()).all():
            return
        shown = game.step(actions.decode(held_out.actions[row]))
        row += 1


def _stretches(seen: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """seen (b, t) bool by side -> FRAME_KEYS of each stretch of frames that is reached"""
    out, before = {}, 0
    for horizon in HORIZONS:
        if horizon > seen["seen"].shape[1]:
            break
        part = {key: x[:, before:horizon] for key, x in seen.items()}
        real = part["seen_recorded"]
        kept = float(part["seen"][real].mean()) if real.any() else float("nan")
        name = str(horizon) if horizon == before + 1 else f"{before + 1}-{horizon}"
        out[name] = {key: float(x.mean()) for key, x in part.items()} | {"kept": kept}
        before = horizon
    return out
