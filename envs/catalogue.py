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
    if source not in SOURCES or (source == "toy") != (not name):
        raise InputError(_unknown(env))
    if source == "toy":
        from worldgen.envs.toy_game import ToyGame

        return ToyGame() if fps is None else ToyGame(fps=fps)
    if source == "gym":  # its names are case-sensitive and endless: Gymnasium knows them
        from worldgen.envs.gymnasium_game import GymnasiumGame

        return GymnasiumGame(name, fps)
    known = {n.lower(): n for n in _names(source)}
    if _key(name) not in {_key(n) for n in known}:
        raise InputError(_unknown(env))
    name = next(n for n in known.values() if _key(n) == _key(name))
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
    """vizdoom:Defend-The-Center and ale:MsPacman are understood."""
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def _unknown(env: str) -> str:
    games = [name for names in list_games().values() for name in names]
    by_key = {_key(g): g for g in games}
    by_key |= {_key(g.partition(":")[2]): g for g in games if ":" in g}
    close = dict.fromkeys(by_key[k] for k in difflib.get_close_matches(_key(env), by_key, n=3, cutoff=0.6))
    if close:
        return f"unknown game {env!r}: did you mean {' or '.join(close)}?"
    examples = "toy, vizdoom:take_cover, pyxel:jump, ale:breakout or gym:CarRacing-v3"
    return f"unknown game {env!r}: name one as source:name, such as {examples}"
