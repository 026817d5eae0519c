"""Who plays while a game is recorded: random, sticky, scripted, or a mix of them.

A world learns only what its recordings show, so `mix` (the default) draws one of them per episode: scripted players
reach what random play never sees, sticky ones hold keys as people do, random ones show every action everywhere.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from worldgen.envs.game import Game, GameFrame
from worldgen.errors import InputError

POLICIES = ("random", "sticky", "scripted", "mix")
MIX = {"scripted": 0.5, "sticky": 0.4, "random": 0.1}


class Policy(Protocol):
    """Chooses the action on a frame. All its randomness comes from the generators passed in."""

    def reset(self, rng: np.random.Generator) -> None:
        """Called before every episode."""

    def act(self, frame: GameFrame, rng: np.random.Generator) -> Any: ...


class RandomPolicy:
    """A uniformly random action every frame."""

    def __init__(self, game: Game):
        self._actions = game.actions

    def reset(self, rng: np.random.Generator) -> None:
        pass

    def act(self, frame: GameFrame, rng: np.random.Generator) -> Any:
        return self._actions.sample(rng)


class StickyPolicy:
    """A random action held for a geometric time, on average `hold_seconds`.

    weights: how often each action of a discrete game is drawn, relative to the others; uniform without them.
    """

    def __init__(self, game: Game, hold_seconds: float = 0.4, weights: np.ndarray | None = None):
        self._actions = game.actions
        self._release = min(1.0, 1.0 / (hold_seconds * game.fps))
        self._weights = None if weights is None else weights / weights.sum()
        self._held: Any = None

    def reset(self, rng: np.random.Generator) -> None:
        self._held = None

    def act(self, frame: GameFrame, rng: np.random.Generator) -> Any:
        if self._held is None or rng.random() < self._release:
            if self._weights is None:
                self._held = self._actions.sample(rng)
            else:
                self._held = int(rng.choice(len(self._weights), p=self._weights))
        return self._held


class NoisyPolicy:
    """A player who now and then does something else for a moment: with probability `epsilon` a frame, a burst of
    sticky play of about `burst_seconds` starts. epsilon is drawn per episode, from careful to clumsy players."""

    def __init__(self, player: Policy, game: Game, epsilons: tuple[float, ...] = (0.0, 0.02, 0.05, 0.1)):
        self._player, self._noise = player, StickyPolicy(game, hold_seconds=0.25)
        self._epsilons, self._stop = epsilons, min(1.0, 1.0 / (0.4 * game.fps))
        self._epsilon, self._is_noisy = 0.0, False

    def reset(self, rng: np.random.Generator) -> None:
        self._epsilon = float(rng.choice(self._epsilons))
        self._is_noisy = False
        self._player.reset(rng)
        self._noise.reset(rng)

    def act(self, frame: GameFrame, rng: np.random.Generator) -> Any:
        wanted = self._player.act(frame, rng)  # always, so that a player that keeps count sees every frame
        self._is_noisy = rng.random() >= self._stop if self._is_noisy else rng.random() < self._epsilon
        return self._noise.act(frame, rng) if self._is_noisy else wanted


class MixPolicy:
    """One policy per episode, drawn by weight."""

    def __init__(self, policies: dict[str, Policy], weights: dict[str, float] = MIX):
        self._policies = [policies[name] for name in weights]
        self._names = list(weights)
        self._weights = np.array(list(weights.values())) / sum(weights.values())
        self._current = self._policies[0]
        self.name = self._names[0]

    def reset(self, rng: np.random.Generator) -> None:
        pick = int(rng.choice(len(self._policies), p=self._weights))
        self._current, self.name = self._policies[pick], self._names[pick]
        self._current.reset(rng)

    def act(self, frame: GameFrame, rng: np.random.Generator) -> Any:
        return self._current.act(frame, rng)


def make_policy(name: str, game: Game) -> Policy:
    """One of POLICIES for a game. Call it before the first reset: a scripted Doom player restarts the engine."""
    from worldgen.envs.scripted import scripted_player

    if name == "random":
        return RandomPolicy(game)
    if name == "sticky":
        return StickyPolicy(game)
    if name == "scripted":
        return NoisyPolicy(scripted_player(game), game)
    if name == "mix":
        return MixPolicy({kind: make_policy(kind, game) for kind in MIX})
    raise InputError(f"unknown policy {name!r}; choose {', '.join(POLICIES)}")
