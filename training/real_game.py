"""Real games, played again: the game that a recording is of, brought to the frame where one of its clips begins.

The recording says which game it is of and its seed. Whether the game really is where the recording was is seen by what
it shows there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from worldgen.actions import ActionMap
from worldgen.data.recording import RecordingInfo, read_info
from worldgen.data.shrink import shrink
from worldgen.errors import InputError, MissingExtraError
from worldgen.training.held_out import HeldOut
from worldgen.training.metrics import psnr
from worldgen.training.rollout import PROMPT

REPRODUCED_DB = 28.0  # a game played again shows the recorded frame this well, but for what the video lost


class RealGame(Protocol):
    """What is needed of a real game: see worldgen.envs.game. save() and load(), or masks(), where they are used."""

    def reset(self, seed: int) -> Any: ...

    def step(self, action: Any) -> Any: ...

    def close(self) -> None: ...


MakeGame = Callable[[str, float], Any]  # the source that a recording names, frames a second -> the game


def games_of(
    held_out: HeldOut, data: Path, starts: np.ndarray, make_game: MakeGame
) -> Iterator[tuple[RealGame, list[tuple[int, RecordingInfo]]]]:
    """starts (b,): where clips begin -> game by game, and which of the clips are of it; it is closed afterwards.
    InputError where no recording says which game it is of, or a game cannot be opened."""
    infos = [_info(held_out, data, int(start)) for start in starts]
    known = sorted({(i.source, i.fps) for i in infos if i is not None and i.fps is not None})
    if not known:
        raise InputError("the recordings do not say which game they are of, at this rate, and its seed")
    for source, fps in known:
        try:
            game = make_game(source, fps)
        except MissingExtraError as error:
            raise InputError(str(error)) from None
        try:
            yield game, [(i, info) for i, info in enumerate(infos) if info and (info.source, info.fps) == (source, fps)]
        finally:
            game.close()


def play_to_prompt(
    game: RealGame, held_out: HeldOut, info: RecordingInfo, start: int, actions: ActionMap, prompt_end: np.ndarray
) -> Any:
    """Plays the recorded actions up to the last frame of the prompt of the clip that begins at `start`; prompt_end
    (h, w, 3): what the recording shows there -> what the game shows there, or None where it is something else."""
    begin = int(held_out.cache.starts[held_out.episode_of(np.array([start]))[0]])
    played = held_out.actions[begin : start + PROMPT - 1]
    if (played == actions.null()).all(-1).any():
        return None  # an action before it is not known
    assert info.seed is not None
    shown = game.reset(info.seed)
    for row in played:
        if shown.terminated or shown.truncated:
            return None
        shown = game.step(actions.decode(row))
    if shown.terminated or shown.truncated:
        return None
    height, width = prompt_end.shape[:2]
    return shown if psnr(shrink(shown.image, height, width), prompt_end) >= REPRODUCED_DB else None


def _info(held_out: HeldOut, data: Path, start: int) -> RecordingInfo | None:
    """Of the recording that a clip is from; None where it cannot be played again."""
    cache = held_out.cache
    name = cache.episode_names[int(held_out.episode_of(np.array([start]))[0])]
    path = data / name
    if "#" in name or not path.is_file():  # a piece of a damaged file: where it begins is not known
        return None
    info = read_info(path)
    if info is None or not info.source or info.seed is None:
        return None
    if info.fps is None or abs(info.fps - cache.fps) > 1e-3:
        return None
    return info
