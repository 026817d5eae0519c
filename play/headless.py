"""Playing without a window: as fast as the world goes, into a clip and figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from worldgen.play.action_source import read_actions, repeating, sticky_random
from worldgen.play.clip import ClipWriter
from worldgen.play.loop import Player

if TYPE_CHECKING:
    from worldgen.play.action_source import ActionSource
    from worldgen.play.fork import Beside
    from worldgen.world import World

FRAMES = 300  # where nobody says how many

Progress = Callable[[int, int], None]


def action_source(world: World, actions: str, seed: int) -> tuple[ActionSource, int | None]:
    """actions: "random" (held a while each, decided by the seed) or a file with one action a frame, which begins again
    from its first -> what chooses the actions, and how many they are (None: no end)."""
    if actions == "random":
        return sticky_random(world.config.actions, world.config.fps, seed), None
    rows = read_actions(Path(actions), world.config.actions)
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
    out: an .mp4 or .gif of exactly the frames that are counted: what each step returned, not the one that reset did.
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
