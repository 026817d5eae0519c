"""A real game in the player's window, with the keys of a world (`worldgen record ENV --play`)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast

from worldgen.errors import RunError
from worldgen.interrupts import termination_as_interrupt
from worldgen.play.live import NoDisplayError
from worldgen.play.loop import Player
from worldgen.play.main import has_display

if TYPE_CHECKING:
    from worldgen.world import World


def play_real_game(game: Any, *, seed: int = 0, frames: int | None = None) -> dict[str, Any]:
    """Shows a game that has a World's reset() and step(), until it is left -> the figures of the play.
    frames: it ends after so many. RunError where there is no display, or a recording begun by key ended early."""
    if not has_display():
        raise RunError("no display here: a person plays in a window (--policy plays without one)")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    from worldgen.play.window import Window

    with termination_as_interrupt():
        player = Player(cast("World", game), seed=seed)
        try:
            window = Window(player, max_frames=frames, hold_rate=False, remembers=False)
        except NoDisplayError as error:
            raise RunError(f"{error}: a person plays in a window (--policy plays without one)") from None
        window.run()
    if window.problem:
        raise RunError(window.problem)
    return player.summary(window.live.seconds)
