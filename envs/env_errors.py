"""What a user of an environment can cause. Each error is Gymnasium's kind and an InputError, so both are caught."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gymnasium import error

from worldgen.errors import InputError


class EnvError(InputError, error.Error):
    """A wrong argument, option, seed or snapshot."""


class InvalidActionError(EnvError, error.InvalidAction):
    """An action outside the action space: no game was stepped."""


class ResetNeededError(EnvError, error.ResetNeeded):
    """There is no game to go on with."""


@contextmanager
def as_env_error() -> Iterator[None]:
    """What a world refuses, as an EnvError."""
    try:
        yield
    except EnvError:
        raise
    except InputError as refused:
        raise EnvError(str(refused)) from None
