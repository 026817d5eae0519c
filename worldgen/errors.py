"""The errors a user can cause. The command line turns each into one line and an exit code."""


class InputError(ValueError):
    """Wrong usage or bad input: the message names the value and the way out (exit code 2)."""


class MissingExtraError(ImportError):
    """An optional dependency is not installed: the message holds the pip command (exit code 2)."""

    def __init__(self, needed_for: str, extra: str):
        super().__init__(f"{needed_for} needs the {extra!r} extra: pip install 'worldgen[{extra}]'")


class RunError(RuntimeError):
    """A run or a verification failed (exit code 1)."""


class BackendUnavailableError(RuntimeError):
    """An explicitly requested backend cannot run here (exit code 3)."""
