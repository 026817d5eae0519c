"""Opening a video file that may be damaged, and reading its packets past the damage."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

from worldgen.errors import InputError

# a damaged header may ask for a picture of gigabytes
MAX_PIXELS = 8192 * 8192
CLEANED_FROM = "WORLDGEN_CLEANED_FROM"  # tag of what `check --fix` wrote


def open_container(path: Path) -> Any:
    """An open container; InputError with the reason where there is none."""
    try:
        facts = path.stat()
        if stat.S_ISDIR(facts.st_mode):
            raise InputError(f"{path}: a folder that cannot be read: change its permissions")
        if not stat.S_ISREG(facts.st_mode):
            raise InputError(f"{path}: not a regular file")
        if not facts.st_size:
            raise InputError(f"{path}: the file is empty")
        name = str(path)
        try:
            name.encode()
        except UnicodeEncodeError:  # a name that is not UTF-8 cannot be handed to ffmpeg
            return av.open(path.open("rb"), metadata_errors="replace")
        return av.open(name, metadata_errors="replace")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (av.FFmpegError, OSError) as error:
        if path.suffix.lower() in (".mp4", ".mov") and isinstance(error, av.InvalidDataError) and _is_mp4(path):
            raise InputError(
                f"{path}: its index (moov) is missing, so the recording was cut off and no player can read it; "
                "record to .mkv, or to OBS's hybrid mp4, which survive that"
            ) from None
        raise InputError(f"{path}: cannot be opened as video ({error.strerror or error})") from None


def _is_mp4(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(12)[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free")


def video_stream(container: Any, path: Path) -> Any:
    """The first video track, set to decode; InputError where there is none."""
    # a cover picture is a video track of one frame
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        raise InputError(f"{path}: no video track")
    stream = streams[0]
    if stream.codec_context is None:
        raise InputError(f"{path}: its video codec is not known to this PyAV")
    # one thread: with more, an error names the wrong packet
    stream.codec_context.thread_count = 1
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def audio_streams(container: Any) -> list[Any]:
    """The audio tracks that can be decoded."""
    return [s for s in container.streams.audio if s.codec_context is not None and getattr(s, "rate", None)]


def cleaned_from(path: Path) -> str:
    """The checksum of the recording that `check --fix` made this one of; "" of any other file."""
    with open_container(path) as container:
        return str(container.metadata.get(CLEANED_FROM, ""))


def packets(container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream, the empty one that flushes the decoder last; None where the container is damaged."""
    failures = 0
    while failures < 4:
        try:
            for packet in container.demux(stream):
                failures = 0
                yield packet
            return
        except (av.FFmpegError, OSError):
            failures += 1
            if failures == 1:
                yield None
