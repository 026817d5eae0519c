"""Records any game on the desktop: a window or a region, keys, mouse and sound, into a recording (contract C1).

Frame t is grabbed at t / fps; row t holds what was pressed between t / fps and (t + 1) / fps, and the frame's sound is
what was heard then. Where a moment is missed
(a busy machine) the frame before stands for it, so that the recording keeps its time; how many is said.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

from worldgen.data.recording import RecordingInfo
from worldgen.envs.record import Plan, episode_path, next_index
from worldgen.envs.screen_input import DEFAULT_KEYS, InputLog, check_desktop, screen_actions
from worldgen.envs.screen_picture import Desktop, WindowGoneError, WindowOnX11, parse_region
from worldgen.envs.screen_recording import ScreenRecording
from worldgen.envs.screen_sound import Speakers, SystemSound
from worldgen.errors import InputError, RunError
from worldgen.files import check_folder_writable
from worldgen.interrupts import termination_as_interrupt


def record_screen(
    out: Path,
    *,
    frames: int | None = None,
    fps: float = 15.0,
    window: str | None = None,
    region: str | None = None,
    keys: Sequence[str] = DEFAULT_KEYS,
    with_motion: bool = False,
    height: int = 240,
    speakers: Speakers | None = None,
    on_progress: Callable[[int], None] = lambda num_frames: None,
) -> dict[str, Any]:
    """Records until `frames`, Ctrl-C, SIGTERM, SIGHUP or the window's end -> {"env", "out", "path", "frames",
    "episodes", "seconds", "fps", "game_fps", "repeated", "width", "height", "sound_rate", "sound_problem", "ended"}.

    window: part of a title; region: LEFT,TOP,WIDTH,HEIGHT; neither: the whole desktop. height: larger pictures are
    made this high, in their own proportions. speakers: what is heard (open_speakers is the desktop's); where it cannot
    be, the recording is silent and "sound_problem" says why.
    """
    if frames is not None and frames < 2:
        raise InputError(f"--frames {frames}: choose 2 or more")
    if not 1 <= fps <= 60:
        raise InputError(f"--fps {fps:g}: choose 1 to 60")
    if height < 16:
        raise InputError(f"--height {height}: choose 16 or more")
    if window is not None and region is not None:
        raise InputError("--window and --region: choose one")
    actions = screen_actions(keys, with_motion)
    check_folder_writable(Path(out), "--out")
    check_desktop()
    log = InputLog(keys, with_motion)
    desktop = Desktop()
    find = _finder(desktop, window, region)
    left, top, w, h = find()
    size = _even_size(w, h, height)
    plan = Plan("screen", Path(out), "human")
    path = episode_path(plan, "screen", next_index(plan, "screen"))
    source = f"screen: {window or region or 'whole desktop'}"
    repeated, ended = 0, "frames"
    log.listen()
    sound, problem = _listen(fps, speakers)
    writer = ScreenRecording(path, RecordingInfo(fps, actions, source), sound)
    began = time.perf_counter()
    try:
        with termination_as_interrupt(), writer:
            picture = _resized(desktop.grab((left, top, w, h)), size)
            log.take(w, h)
            writer.show(picture, began)
            while frames is None or writer.num_frames < frames:
                due = began + writer.num_frames / fps
                time.sleep(max(0.0, due - time.perf_counter()))
                _, _, w, h = here = find()
                action = log.take(w, h)
                missed = int((time.perf_counter() - due) * fps)
                for _ in range(missed if frames is None else min(missed, frames - writer.num_frames - 1)):
                    writer.act(action)
                    writer.show(picture, began + writer.num_frames / fps)
                    repeated += 1
                is_last = frames is not None and writer.num_frames + 1 >= frames
                writer.act(action, is_cut=is_last)
                picture = _resized(desktop.grab(here), size)
                writer.show(picture, began + writer.num_frames / fps)
                on_progress(writer.num_frames)
    except KeyboardInterrupt:
        ended = "stopped"
    except WindowGoneError as error:
        ended = str(error)
    finally:
        log.stop()
        desktop.close()
        if sound is not None:
            sound.stop()
            problem = problem or str(sound.error or "")
    seconds = time.perf_counter() - began
    return {
        "env": source,
        "out": str(out),
        "path": str(path),
        "frames": writer.num_frames,
        "episodes": 1,
        "seconds": round(seconds, 3),
        "fps": round(writer.num_frames / seconds, 2),
        "game_fps": fps,
        "repeated": repeated,
        "width": size[0],
        "height": size[1],
        "sound_rate": None if sound is None else sound.sample_rate,
        "sound_problem": problem,
        "ended": ended,
    }


def _listen(fps: float, speakers: Speakers | None) -> tuple[SystemSound | None, str]:
    """-> the sound, and what is wrong with it"""
    if speakers is None:
        return None, ""
    sound = SystemSound(fps, speakers)
    try:
        sound.listen()
    except RunError as error:
        return None, str(error)
    return sound, ""


def _finder(desktop: Desktop, window: str | None, region: str | None) -> Callable[[], tuple[int, int, int, int]]:
    if window is not None:
        return WindowOnX11(window).where
    fixed = (0, 0, *desktop.size) if region is None else parse_region(region, desktop.size)
    return lambda: fixed


def _even_size(width: int, height: int, most: int) -> tuple[int, int]:
    """-> (width, height), even, at most so high"""
    scale = min(1.0, most / height)
    return max(16, 2 * round(width * scale / 2)), max(16, 2 * round(height * scale / 2))


def _resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """picture (h, w, 3) uint8; a window that changed its size keeps the recording's."""
    width, height = size
    if picture.shape[:2] == (height, width):
        return picture
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    return frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA").to_ndarray()
