"""Choosing the keys: each of the world's is asked for in turn. No pygame here."""

from __future__ import annotations

from collections.abc import Callable

from worldgen.config import WorldConfig
from worldgen.legend import legend_keys
from worldgen.play.bindings import Bindings


class Rebinding:
    """take(control) is told the key or button that was pressed; Esc keeps the one there is. is_on: one is asked for."""

    def __init__(self, config: WorldConfig, bindings: Bindings, say: Callable[[str], None]):
        self._config, self._bindings, self._say = config, bindings, say
        self._asked: list[str] = []

    @property
    def is_on(self) -> bool:
        return bool(self._asked)

    def begin(self) -> None:
        self._asked = list(legend_keys(self._config.actions))
        self.ask()

    def ask(self) -> None:
        if self._asked:
            key = self._asked[0]
            self._say(f"press the key for {key!r} (now {self._bindings.key_of(key)!r}, esc keeps it)")

    def take(self, control: str) -> None:
        key = self._asked.pop(0)
        if control != "escape":
            self._bindings.bind(control, key)
        if self._asked:
            self.ask()
            return
        try:
            self._bindings.save(self._config.name)
            self._say("keys saved")
        except OSError as error:
            self._say(f"these keys hold for now only: {error}")
