"""Scripted players: which one plays which game."""

from __future__ import annotations

from typing import Any

import numpy as np

from worldgen.envs.game import Game, GameFrame
from worldgen.envs.policies import Policy, StickyPolicy
from worldgen.envs.toy_game import ToyGame
from worldgen.envs.toy_player import ScriptedToyPlayer


def scripted_player(game: Game) -> Policy:
    """The player written for this game; a game without one is played with keys held as people hold them."""
    source = game.name.partition(":")[0]
    player: Any = game  # each source's players know its own class
    if source == "vizdoom":
        from worldgen.envs.doom_players import doom_player

        return doom_player(player)
    if source == "ale":
        from worldgen.envs.atari_players import atari_player

        return atari_player(player)
    if source == "pyxel":
        from worldgen.envs.pyxel_players import pyxel_player

        return pyxel_player(player)
    if source == "toy":
        return ToyPolicy(player)
    return StickyPolicy(game, hold_seconds=0.6)


class ToyPolicy:
    """ToyGame's own player, which looks at the game itself."""

    def __init__(self, game: ToyGame):
        self._game = game
        self._player = ScriptedToyPlayer()

    def reset(self, rng: np.random.Generator) -> None:
        self._player = ScriptedToyPlayer(exploration=float(rng.choice([0.02, 0.1, 0.3])))

    def act(self, frame: GameFrame, rng: np.random.Generator) -> int:
        return self._player.act(self._game, rng)
