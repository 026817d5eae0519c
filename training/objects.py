"""Do the things in the picture move as they should? Where the game says which pixels are what:
masks() of ToyGame and Doom.

The game of each clip is played again, so the true masks of every recorded frame are known. What they cover becomes
templates, and with these the same things are looked for in the generated frames (templates.py): where each is, and
which pixels are its own. The recorded frames are searched in the same way, and those through the tokenizer alone:
these figures are what the method itself gets wrong.

Where the game tells the player's place, its steps through the level are read as well (kinematics.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from worldgen.errors import InputError
from worldgen.training.held_out import HeldOut
from worldgen.training.kinematics import kinematic_figures
from worldgen.training.real_game import MakeGame, games_of, play_to_prompt
from worldgen.training.replay import Replay
from worldgen.training.small_pictures import WITHOUT_MASKS, fit_mask, smaller, step_to_side
from worldgen.training.templates import LIMITS, Found, Templates, centres
from worldgen.training.watch import OnProgress, unheard

CLIPS, FRAMES = 12, 32  # that are searched
MOST = 8  # instances of one thing in a picture
SCENERY = 0.1  # of the picture: what covers more is not a thing
TELLING = 0.5  # mask IoU that must be reached in the recorded frames: of what is not, nothing can be said
REACH = 4.0  # pixels from its true place within which a thing counts as found
PLACE = ("x", "y")  # state columns: of the player in the level, in pixels of the game

KEYS = {
    "method": "how things are found in generated frames",
    "clips": "clips that were searched",
    "frames": "frames after the prompt, of each",
    "width": "of the searched pictures, in pixels; distances are in these",
    "things": "for each kind of thing that can be found in recorded frames (mask IoU of half at least): objects.things",
    "kinematics": "the player's steps through the level; null where the game does not tell its place",
}
THING_KEYS = {
    "visible": "true instances in the recorded frames, each frame counted",
    "found": "share of those with one found within 4 pixels in the generated frame",
    "found_recorded": "the same when looking for it in the recorded frame: what the method finds",
    "found_codec": "the same in the recorded frame through the tokenizer alone",
    "invented": "things found in generated frames with no true one within 4 pixels, for each visible one",
    "iou": "mask IoU: shared pixels of found and true things over those of either, of all frames together",
    "iou_recorded": "the same in the recorded frames: the method's own",
    "iou_codec": "the same through the tokenizer alone",
    "iou_of_copy": "the same of the true masks at the end of the prompt: of a frozen picture",
    "distance": "object motion consistency: mean distance of each true instance to the nearest one found in the "
    "generated frame, pixels, at most 16: one that is not found counts as that",
    "distance_recorded": "the same in the recorded frames",
    "distance_of_copy": "the same with the true places at the end of the prompt: of a frozen picture",
}
METHOD = (
    "templates cut from recorded frames whose masks the game gave, laid at every place; root mean square difference of "
    "their own pixels below a limit chosen on the recorded frames through the tokenizer"
)
FAR = 16.0  # pixels: as much as a lost thing counts


@dataclass(frozen=True)
class _Truth:
    """Of one clip: masks {label: (t + 1, h, w) bool} and places (t + 1, 2) of PLACE or None, from the prompt's last
    frame on; size: width of the game's own picture."""

    masks: dict[str, np.ndarray]
    places: np.ndarray | None
    size: int

    def steps(self, width: int) -> np.ndarray:
        """Of the player through the level (t, 2) as (dy, dx), in pixels of a picture of this width"""
        assert self.places is not None
        return width / self.size * np.diff(self.places[:, [1, 0]], axis=0)


def object_figures(
    held_out: HeldOut,
    data: Path,
    starts: np.ndarray,
    played: Replay,
    make_game: MakeGame,
    on_clips: OnProgress = unheard,
    seed: int = 0,
) -> dict[str, Any] | str:
    """starts (b,): where the clips of `played` begin -> the keys of KEYS, or why there are none"""
    if held_out.facts["actions"] != "recorded":
        return "no recorded actions are known"
    picks = np.unique(np.linspace(0, len(starts) - 1, min(CLIPS, len(starts))).round().astype(int))
    t = min(FRAMES, played.num_frames)
    step = step_to_side(*played.last.shape[1:3])
    sides = {
        name: np.stack([smaller(np.concatenate([first[i : i + 1], then[i, :t]]), step) for i in picks])
        for name, first, then in (
            ("real", played.last, played.real),
            ("codec", played.restored_last, played.restored),
            ("made", played.shown, played.made),
        )
    }
    try:
        truths = _truths(held_out, data, starts[picks], played.last[picks], played.actions[picks, :t], make_game, step)
    except InputError as error:
        return str(error)
    if isinstance(truths, str):
        return truths
    kept = [i for i, truth in enumerate(truths) if truth is not None]
    if not kept:
        return "no recording shows the same again when its game is played with its seed"
    clips = [truth for truth in truths if truth is not None]
    sides = {name: frames[kept] for name, frames in sides.items()}
    rng = np.random.default_rng(seed)
    things: dict[str, Any] = {}
    kinematics = None
    labels = [label for label in clips[0].masks if np.mean([c.masks[label].mean() for c in clips]) <= SCENERY]
    for number, label in enumerate(labels):
        masks = np.stack([clip.masks[label] for clip in clips])  # (c, t + 1, h, w)
        templates = Templates.cut(sides["real"].reshape(-1, *sides["real"].shape[2:]), _flat(masks), rng)
        on_clips(number, len(labels))
        if templates is None:
            continue
        found = _search(templates, sides, masks)
        thing = _thing(templates, found, masks)
        if not thing["iou_recorded"] >= TELLING:
            continue
        things[label] = thing
        if label == "player" and all(clip.places is not None for clip in clips):
            kinematics = kinematic_figures(
                np.stack([clip.steps(sides["real"].shape[3]) for clip in clips]),
                {name: _first(found[name], len(clips)) for name in ("real", "made")},
                sides,
            )
    if not things:
        return "none of the things that the game knows of can be found even in the recorded frames"
    return {
        "method": METHOD,
        "clips": len(kept),
        "frames": t,
        "width": int(sides["real"].shape[3]),
        "things": things,
        "kinematics": kinematics,
    }


def _truths(
    held_out: HeldOut,
    data: Path,
    starts: np.ndarray,
    last: np.ndarray,
    actions: np.ndarray,
    make_game: MakeGame,
    step: int,
) -> list[_Truth | None] | str:
    """last (c, h, w, 3): of the prompts; actions (c, t, width): after them -> what the games say, clip by clip; None
    where a game does not show the same again; why there is nothing at all, in words"""
    assert held_out.cache.action_map is not None
    known = held_out.cache.action_map
    out: list[_Truth | None] = [None] * len(starts)
    height, width = last.shape[1:3]
    for game, clips in games_of(held_out, data, starts, make_game):
        if not hasattr(game, "masks"):
            return WITHOUT_MASKS.format(clips[0][1].source)
        for i, info in clips:
            shown = play_to_prompt(game, held_out, info, int(starts[i]), known, last[i])
            if shown is None:
                continue
            masks, states = [game.masks()], [shown.state]
            for row in actions[i]:
                if shown.terminated or shown.truncated:
                    break
                shown = game.step(known.decode(row))
                masks.append(game.masks())
                states.append(shown.state)
            if len(masks) <= len(actions[i]):  # it ended on the way
                continue
            sizes = (-(-height // step), -(-width // step))
            small = {label: np.stack([fit_mask(m[label], *sizes) for m in masks]) for label in masks[0]}
            out[i] = _Truth(small, _places(states), shown.image.shape[1])
    return out


def _places(states: list[Mapping[str, float]]) -> np.ndarray | None:
    if not all(name in states[0] for name in PLACE):
        return None
    return np.array([[state[name] for name in PLACE] for state in states], np.float64)


def _search(templates: Templates, sides: dict[str, np.ndarray], masks: np.ndarray) -> dict[str, list[list[Found]]]:
    """-> for each side what was found in each frame of each clip, end to end; the limit is the one that makes the
    masks found through the tokenizer overlap most with the true ones"""
    everything = {
        name: [templates.find(frame, max(LIMITS), MOST) for frame in _flat(frames)] for name, frames in sides.items()
    }
    best, limit = -1.0, LIMITS[0]
    for candidate in LIMITS:
        overlap = _iou(templates, _below(everything["codec"], candidate), _flat(masks))
        if overlap > best:
            best, limit = overlap, candidate
    return {name: _below(found, limit) for name, found in everything.items()}


def _below(found: list[list[Found]], limit: float) -> list[list[Found]]:
    return [[f for f in frame if f.difference <= limit] for frame in found]


def _iou(templates: Templates, found: list[list[Found]], masks: np.ndarray) -> float:
    shared = either = 0
    for frame, mask in zip(found, masks, strict=True):
        own = templates.paint(frame, *mask.shape)
        shared += int((own & mask).sum())
        either += int((own | mask).sum())
    return shared / either if either else float("nan")


def _thing(templates: Templates, found: dict[str, list[list[Found]]], masks: np.ndarray) -> dict[str, Any]:
    """masks (c, t + 1, h, w); the first frame of each clip, of the prompt, is not counted"""
    c, frames = masks.shape[:2]
    after = [i * frames + j for i in range(c) for j in range(1, frames)]
    true = [centres(masks[i // frames, i % frames]) for i in after]
    before = {i: centres(masks[i, 0]) for i in range(c)}
    copied = [before[i // frames] for i in after]
    places = {name: [_places_of(side[i]) for i in after] for name, side in found.items()}
    still = np.repeat(masks[:, :1], frames - 1, axis=1)
    shared, either = (masks[:, 1:] & still).sum(), (masks[:, 1:] | still).sum()
    of_frames = _flat(masks)
    iou = {name: _iou(templates, [side[i] for i in after], of_frames[after]) for name, side in found.items()}
    visible = sum(len(places) for places in true)
    near = {name: _nearest(true, seen) for name, seen in places.items()}
    invented = (_nearest(places["made"], true) > REACH).sum()
    return {
        "visible": visible,
        "found": _share(near["made"] <= REACH),
        "found_recorded": _share(near["real"] <= REACH),
        "found_codec": _share(near["codec"] <= REACH),
        "invented": float(invented) / visible if visible else float("nan"),
        "iou": iou["made"],
        "iou_recorded": iou["real"],
        "iou_codec": iou["codec"],
        "iou_of_copy": float(shared / either) if either else float("nan"),
        "distance": _mean(near["made"]),
        "distance_recorded": _mean(near["real"]),
        "distance_of_copy": _mean(_nearest(true, copied)),
    }


def _first(found: list[list[Found]], clips: int) -> np.ndarray:
    """Where the best one was found in each frame: (clips, t, 2), nan where none was"""
    places = np.stack([frame[0].centre if frame else np.full(2, np.nan) for frame in found])
    return places.reshape(clips, -1, 2)


def _places_of(found: list[Found]) -> np.ndarray:
    return np.stack([f.centre for f in found]) if found else np.zeros((0, 2))


def _nearest(these: list[np.ndarray], those: list[np.ndarray]) -> np.ndarray:
    """Of each place in these (frame by frame, (n, 2) each), the distance to the nearest of those in its frame, at most
    FAR."""
    parts = []
    for a, b in zip(these, those, strict=True):
        if len(a):
            apart = np.sqrt(np.square(a[:, None] - b).sum(-1)) if len(b) else np.full((len(a), 1), FAR)
            parts.append(np.minimum(apart.min(1), FAR))
    return np.concatenate(parts) if parts else np.zeros(0)


def _share(hits: np.ndarray) -> float:
    return float(hits.mean()) if hits.size else float("nan")


_mean = _share


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, *x.shape[2:])
