"""Writing files while a game is played: in a thread of their own, so that no frame waits for a disk or an encoder."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Queue
from typing import Any, Protocol

MAX_WAITING = 256  # things to write; where the disk is slower than the game, the game waits


class Recorder(Protocol):
    """What a Player tells of its game (see EpisodeRecorder)."""

    def began(self, seed: int, frame: Any) -> None: ...

    def stepped(self, action: Any, frame: Any) -> None: ...

    def close(self) -> None: ...


class InBackground:
    """A Recorder that hands all it is told to others, in one thread. After an error (a full disk) it writes no more;
    what was written is closed, and `error` says why. on_error: called then, in that thread."""

    def __init__(self, *recorders: Recorder, on_error: Callable[[], None] = lambda: None):
        self.error: Exception | None = None
        self._recorders, self._on_error = recorders, on_error
        self._queue: Queue[Callable[[Recorder], None] | None] = Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._work, name="worldgen recorder", daemon=True)
        self._thread.start()

    def began(self, seed: int, frame: Any) -> None:
        self._tell(lambda recorder: recorder.began(seed, frame))

    def stepped(self, action: Any, frame: Any) -> None:
        self._tell(lambda recorder: recorder.stepped(action, frame))

    def close(self) -> None:
        """Waits until everything is written."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _tell(self, what: Callable[[Recorder], None]) -> None:
        if self.error is None:
            self._queue.put(what)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            for recorder in self._recorders:
                if self.error is None:
                    self._try(job, recorder)
        for recorder in self._recorders:
            self._try(lambda recorder: recorder.close(), recorder)

    def _try(self, job: Callable[[Recorder], None], recorder: Recorder) -> None:
        try:
            job(recorder)
        except Exception as error:  # of the disk or the encoder: the game goes on, its window says why
            if self.error is None:
                self.error = error
                self._on_error()
