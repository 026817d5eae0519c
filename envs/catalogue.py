"""Every game that can be recorded, by name: vizdoom:take_cover, pyxel:jump, ale:breakout, gym:CartPole-v1, toy."""

from __future__ import annotations

import difflib

from worldgen.envs.game import Game
from worldgen.errors import InputError, MissingExtraError

SOURCES = ("toy", "vizdoom", "pyxel", "ale", "gym")


def make_game(env: str, fps: float | None = None) -> Game:
    """The game that `source:name` names, at `fps` frames a second (None: its own choice)."""
    source, _, name = env.partition(":")
    source = source.lower()
    if source not in SOURCES or (source == "toy" and name):
        raise InputError(_unknown(env))
    if source == "toy":
        from worldgen.envs.toy_game import ToyGame

        return ToyGame() if fps is None else ToyGame(fps=fps)
    if source == "gym":  # its names are case-sensitive and endless: Gymnasium knows them
        from worldgen.envs.gymnasium_game import GymnasiumGame

        return GymnasiumGame(name, fps)
    # vizdoom:Defend-The-Center and ale:MsPacman are understood; what is not known the game refuses, and says why
    name = next((n for n in _names(source) if _key(n) == _key(name)), name)
    if source == "vizdoom":
        from worldgen.envs.vizdoom_game import VizdoomGame

        return VizdoomGame(name, fps)
    if source == "pyxel":
        from worldgen.envs.pyxel_game import PyxelGame

        return PyxelGame(name, fps)
    from worldgen.envs.ale_game import AleGame

    return AleGame(name, fps)


def list_games() -> dict[str, list[str]]:
    """source -> the names of the games that are installed here; `gym` takes any id of Gymnasium and lists none."""
    games: dict[str, list[str]] = {"toy": ["toy"]}
    for source in ("vizdoom", "pyxel", "ale"):
        try:
            games[source] = [f"{source}:{name}" for name in _names(source)]
        except MissingExtraError:
            games[source] = []
    return games | {"gym": []}


def _names(source: str) -> list[str]:
    if source == "vizdoom":
        from worldgen.envs.vizdoom_game import scenarios

        return scenarios()
    if source == "pyxel":
        from worldgen.envs.pyxel_game import game_names

        return game_names()
    from worldgen.envs.ale_game import rom_names

    return rom_names()


def _key(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def did_you_mean(name: str, known: list[str]) -> str:
    """The known names that a name is close to, or all of them where they are few: for the end of a message."""
    by_key = {_key(k): k for k in known} | {_key(k.partition(":")[2]): k for k in known if ":" in k}
    close = dict.fromkeys(by_key[k] for k in difflib.get_close_matches(_key(name), by_key, n=3, cutoff=0.75))
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"choose {', '.join(known)}" if len(known) <= 30 else f"such as {', '.join(known[:: len(known) // 8])}"


def _unknown(env: str) -> str:
    games = [name for names in list_games().values() for name in names]
    guess = did_you_mean(env, games)
    examples = "name one as source:name, such as toy, vizdoom:take_cover, pyxel:jump, ale:breakout or gym:CarRacing-v3"
    return f"unknown game {env!r}: {guess if guess.startswith('did') else examples}"
