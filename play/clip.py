"""The clip of a play that people watch: enlarged, the pressed keys under the picture; mp4 with sound, or GIF."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from worldgen.data.video import VideoWriter
from worldgen.errors import InputError
from worldgen.legend import draw_legend
from worldgen.play.gif import GifWriter

if TYPE_CHECKING:
    from worldgen.play.fork import Beside
    from worldgen.world import Frame, World

CLIP_SUFFIXES = (".mp4", ".gif")


class ClipWriter:
    """write(frame, action) shows a frame and what was pressed for it. The file has its name only once it is whole:
    it grows under a temporary name beside it, close() renames it and discard() removes it, as close() does where
    nothing was written.

    scale: picture pixels per pixel of the world's own size; frames that super-resolution has enlarged are enlarged by
    what is left of it, nearest. legend: draw the strip of keys. is_double: two pictures side by side.
    Where the world shows in-between frames the clip has twice its rate.
    """

    def __init__(self, path: Path, world: World, *, scale: int = 4, legend: bool = True, is_double: bool = False):
        self.path = Path(path)
        if self.path.suffix not in CLIP_SUFFIXES:
            raise InputError(f"--out {self.path}: a clip is {' or '.join(CLIP_SUFFIXES)}")
        if scale < 1:
            raise InputError(f"the scale of a clip is at least 1, got {scale}")
        self._temporary = temporary_clip(self.path)
        self._actions, self._legend = world.config.actions, legend
        self._scale = max(1, round(scale * world.config.height / world.image_size[0]))
        height, width = (self._scale * n for n in world.image_size)
        width *= 1 + is_double
        strip = draw_legend(width, self._actions, None).shape[0] if legend else 0
        self._picture = np.zeros((height + strip, width, 3), np.uint8)
        self._height = height
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._pictures = 2 if world.shows_between else 1  # a frame
        self._is_empty = True
        size, fps = (width, height + strip), self._pictures * world.config.fps
        self._video: VideoWriter | GifWriter
        if self.path.suffix == ".gif":
            self._video = GifWriter(self._temporary, *size, fps)
        else:
            self._video = VideoWriter(
                self._temporary, *size, fps, sample_rate=world.sample_rate, channels=world.channels
            )

    def write(self, frame: Frame, action: Any = None, beside: Beside | None = None) -> None:
        if self._pictures == 1:
            self._write(frame.image, frame.sound, action, beside)
            return
        # without an in-between picture the frame is there half a frame early: better than the old one for longer
        first, second = (None, None) if frame.sound is None else np.array_split(frame.sound, 2)
        self._write(frame.image if frame.between is None else frame.between, first, action, beside)
        self._write(frame.image, second, action, beside)

    def _write(self, image: np.ndarray, sound: np.ndarray | None, action: Any, beside: Beside | None) -> None:
        if beside is not None:
            pictures = (beside.image, image) if beside.is_left else (image, beside.image)
            image = np.concatenate(pictures, axis=1)
        large = image.repeat(self._scale, axis=0).repeat(self._scale, axis=1)
        self._picture[: self._height] = large
        if self._legend:
            self._picture[self._height :] = draw_legend(large.shape[1], self._actions, action)
        self._video.write(self._picture, sound)
        self._is_empty = False

    def close(self) -> None:
        if self._is_empty:
            self.discard()
            return
        self._video.close()
        with self._temporary.open("rb+") as file:
            os.fsync(file.fileno())
        self._temporary.replace(self.path)

    def discard(self) -> None:
        self._video.close()
        self._temporary.unlink(missing_ok=True)


class ClipRecorder:
    """A ClipWriter as a Player's recorder: one clip of all that is shown, first frames and rewinding included."""

    def __init__(self, path: Path, world: World, *, scale: int, legend: bool = True):
        self._clip = ClipWriter(path, world, scale=scale, legend=legend)

    def began(self, seed: int, frame: Frame) -> None:
        self._clip.write(frame)

    def stepped(self, action: Any, frame: Frame) -> None:
        self._clip.write(frame, action)

    def close(self) -> None:
        self._clip.close()


def temporary_clip(path: Path) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
