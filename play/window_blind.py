"""The blind test in a window: shows a clip, asks, counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

import pygame

from worldgen.play.blind_test import Answer, BlindTest, Tally, num_frames
from worldgen.play.options import PlayOptions
from worldgen.play.recorded_clips import RecordedClips
from worldgen.play.window_display import AROUND, Display, enlarged, fit

if TYPE_CHECKING:
    from worldgen.world import World

REAL, GENERATED = ("left", "r"), ("right", "g")
QUESTION = ["real or generated?", "left: real      right: generated", "space: again      esc: end"]


def ask_a_person(world: World, options: PlayOptions, say: Callable[[str], None]) -> dict[str, Any]:
    """Shows clips until the person ends it or `options.frames` are answered -> the figures of the tally."""
    assert options.blind is not None
    tally = Tally.load_or_new(options.tally, world)
    seed = options.seed + len(tally.answers)
    clips = RecordedClips(options.blind, world, num_frames(world.config.fps), seed=seed)
    test = BlindTest(world, clips, seed=seed)
    display = Display(fullscreen=options.fullscreen)
    try:
        BlindWindow(
            test,
            tally,
            world.config.fps,
            display=display,
            on_answer=lambda: tally.save(options.tally),
            limit=options.frames,
        ).run()
    finally:
        display.close()
    stats = tally.summary()
    where = f": {options.tally}" if tally.answers else ""
    say(f"{stats['num_right']} right of {stats['num_clips']} clips{where}")
    return stats


class BlindWindow:
    """run() asks until the person ends it, or `limit` clips. on_answer is called after each answer, to save."""

    def __init__(
        self,
        test: BlindTest,
        tally: Tally,
        fps: float,
        *,
        display: Display,
        on_answer: Callable[[], None],
        limit: int | None = None,
    ):
        self.display = display
        self._test, self._tally, self._fps, self._limit = test, tally, fps, limit
        self._on_answer = on_answer
        self._is_over = False
        self._ready: Queue[Any] = Queue(1)
        display.name("worldgen - real or generated?")
        self._thread = threading.Thread(target=self._prepare, name="worldgen questions", daemon=True)
        self._thread.start()

    def run(self) -> None:
        try:
            while not self._is_over and (self._limit is None or len(self._tally.answers) < self._limit):
                self._ask()
        except KeyboardInterrupt:
            pass
        finally:
            self._stop()

    def _stop(self) -> None:
        """Waits for the thread: a process that ended in the middle of its step would crash."""
        self._is_over = True
        while self._thread.is_alive():
            with suppress(Empty):
                self._ready.get_nowait()  # it may wait for room
            self._thread.join(0.02)

    def _prepare(self) -> None:
        """The next question is made while the person thinks about the last; the world is stepped here only."""
        try:
            while not self._is_over:
                self._ready.put(self._test.question())
        except Exception as error:
            self._ready.put(error)

    def _ask(self) -> None:
        found = self._next()
        if found is None:
            return
        clip, frames, is_real = found
        pygame.event.clear(pygame.KEYDOWN)  # nobody answers what was not shown yet
        began, asked = time.perf_counter(), False
        while not self._is_over:
            i = int((time.perf_counter() - began) * self._fps)
            asked = asked or i >= len(frames)
            self._draw(frames[min(i, len(frames) - 1)], asked)
            key = self._key()
            if key == "space":
                began = time.perf_counter()
            elif key in (*REAL, *GENERATED):
                seconds = round(time.perf_counter() - began, 3)
                answer = Answer(str(clip.path), clip.offset, is_real, key in REAL, seconds)
                self._tally.answers.append(answer)
                self._on_answer()
                verdict = "right" if answer.is_real == answer.said_real else "wrong"
                self.display.say(f"{verdict}: it was {'real' if is_real else 'generated'}")
                return

    def _next(self) -> Any:
        """The next question; None when the person left instead of waiting for it."""
        while not self._is_over:
            try:
                found = self._ready.get_nowait()
            except Empty:
                self.display.screen.fill(AROUND)
                self.display.panel(["a moment..."], self.display.screen.get_rect().center)
                pygame.display.flip()
                self._key()
                continue
            if isinstance(found, Exception):
                raise found
            return found
        return None

    def _key(self) -> str:
        for event in (pygame.event.wait(10), *pygame.event.get()):
            key = pygame.key.name(event.key) if event.type == pygame.KEYDOWN else ""
            if event.type == pygame.QUIT or key in ("escape", "f10"):
                self._is_over = True
            elif event.type == pygame.VIDEORESIZE:
                self.display.resized(event.size)
            elif key == "f11":
                self.display.toggle_fullscreen()
            elif key:
                return key
        return ""

    def _draw(self, image: Any, is_asked: bool) -> None:
        screen, scale = self.display.screen, self.display.text_scale
        screen.fill(AROUND)
        width, height = screen.get_size()
        rect = fit(image, pygame.Rect(0, 0, width, max(1, height - 16 * scale)))
        screen.blit(enlarged(image, rect.size), rect)
        self.display.message_ended(time.perf_counter())
        if self.display.message:
            self.display.panel([self.display.message], (width // 2, 10 * scale))
        if is_asked:
            self.display.panel(QUESTION, rect.center)
        n, right = len(self._tally.answers), self._tally.num_right
        self.display.panel(
            [f"{right} right of {n}" if n else "watch"], (width // 2, height - 8 * scale), max(1, scale - 1)
        )
        pygame.display.flip()
