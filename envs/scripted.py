"""Scripted players: which one plays which game."""

from __future__ import annotations

from typing import Any

from worldgen.envs.game import Game
from worldgen.envs.policies import Policy, StickyPolicy


def scripted_player(game: Game) -> Policy:
    """The player written for this game; a game without one is played with keys held as people hold them."""
    source = game.name.partition(":")[0]
    if source == "vizdoom":
        from worldgen.envs.doom_players import doom_player

        player: Any = game
        return doom_player(player)
    return StickyPolicy(game, hold_seconds=0.6)
