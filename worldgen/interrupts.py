"""SIGTERM and SIGHUP as Ctrl-C: what was begun is closed, what was played is kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Inside, terminations() raise KeyboardInterrupt. Does nothing in another thread than the main one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.default_int_handler) for number in terminations()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def terminations() -> list[signal.Signals]:
    """SIGTERM; and SIGHUP, of a terminal that was closed, where the system has it and nohup has not turned it off."""
    if not hasattr(signal, "SIGHUP") or signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return [signal.SIGTERM]
    return [signal.SIGTERM, signal.SIGHUP]
