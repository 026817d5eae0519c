"""SIGTERM and SIGHUP as Ctrl-C: what was begun is closed, what was played is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

HANGUP = getattr(signal, "SIGHUP", None)  # of a terminal that was closed; Windows has none


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Inside, terminations() raise KeyboardInterrupt; a SIGHUP that follows one is ignored, for good."""

    def interrupt(*_: Any) -> None:
        ignore_hangups()
        raise KeyboardInterrupt

    with signals_handled(terminations(), interrupt):
        yield


@contextmanager
def signals_handled(numbers: Iterable[int], handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Inside, these signals call handler; those that are ignored at the end stay so. Does nothing in another thread
    than the main one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, old)


def ignore_hangups() -> None:
    """To be called once one has come. Closing a terminal sends two, of its shell and of the kernel, and logging out one
    after SIGTERM: the second must neither interrupt what the first made close nor end the process before it is."""
    if HANGUP is not None:
        signal.signal(HANGUP, signal.SIG_IGN)


@contextmanager
def hangups_withheld() -> Iterator[None]:
    """Inside, SIGHUP waits; for processes that are started inside it waits for as long as they run."""
    if HANGUP is None:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {HANGUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def terminations() -> list[signal.Signals]:
    """SIGTERM; and SIGHUP, where the system has it and nohup has not turned it off."""
    if HANGUP is None or signal.getsignal(HANGUP) == signal.SIG_IGN:
        return [signal.SIGTERM]
    return [signal.SIGTERM, HANGUP]


class Lasting:
    """A stream of a terminal that may be closed: what is said then is lost, what was recorded and its figures are
    not."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
