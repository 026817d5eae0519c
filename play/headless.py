"""Playing without a window: as fast as the world goes, into a clip and figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.play.action_source import check_actions, read_actions, repeating, sticky_random
from worldgen.play.clip import ClipWriter
from worldgen.play.loop import Player

if TYPE_CHECKING:
    from worldgen.play.action_source import ActionSource
    from worldgen.play.fork import Beside
    from worldgen.world import World

FRAMES = 300  # where nobody says how many

Progress = Callable[[int, int], None]


def play_headless(
    world: World,
    *,
    frames: int | None = None,
    actions: str | Path | Sequence[Any] = "random",
    seed: int = 0,
    start: int | np.ndarray | None = None,
    out: Path | None = None,
    scale: int = 4,
    legend: bool = True,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Plays `frames` frames, unpaced, and returns the figures of the play (`Player.summary`).

    actions: "random" (held a while each, decided by the seed), a file or a list with one action per frame, which
    begins again from its first when it is shorter than `frames`. frames: by default as long as the list, else 300.
    out: an .mp4 or .gif of exactly the frames that were counted: what each step returned, not the one that reset did.
    """
    choose, length = action_source(world, actions, seed)
    player = Player(world, seed=seed, start=start)
    frames = frames or length or FRAMES
    run_headless(player, choose, frames, out=out, scale=scale, legend=legend, on_progress=on_progress)
    return player.summary()


def action_source(world: World, actions: str | Path | Sequence[Any], seed: int) -> tuple[ActionSource, int | None]:
    """-> what chooses the actions, and how many they are (None: no end)."""
    if actions == "random":
        return sticky_random(world.config.actions, world.config.fps, seed), None
    if isinstance(actions, str | Path):
        rows = read_actions(Path(actions), world.config.actions)
    else:
        rows = check_actions(actions, world.config.actions)
    return repeating(rows), len(rows)


def run_headless(
    player: Player,
    choose: ActionSource,
    frames: int,
    *,
    out: Path | None = None,
    scale: int = 4,
    legend: bool = True,
    on_progress: Progress | None = None,
    beside: Callable[[Player], Beside | None] | None = None,
) -> None:
    """Steps until `frames` are played or `choose` has no more. Interrupted with Ctrl-C, the clip so far is kept.
    beside: a picture that goes beside each frame of the clip.
    """
    clip = None
    if out is not None:
        clip = ClipWriter(out, player.world, scale=scale, legend=legend, is_double=beside is not None)
    try:
        for i in range(frames):
            action = choose(player)
            if action is None:
                break
            frame = player.step(action)
            if clip is not None:
                clip.write(frame, action, beside(player) if beside is not None else None)
            if on_progress is not None:
                on_progress(i + 1, frames)
    except KeyboardInterrupt:
        if clip is not None:
            clip.close()
        raise
    except BaseException:
        if clip is not None:
            clip.discard()
        raise
    if clip is not None:
        clip.close()
