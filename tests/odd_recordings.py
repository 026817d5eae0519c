"""Files as they come from other people's disks: each a small video (and what lies beside it) with one thing wrong.

ODD[name](folder) writes it as folder/NAME.*; EXPECTED[name] is the status that `worldgen check` gives it and words of
its reason or notes.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from recordings import HEIGHT, WIDTH, coded_frame, record, remux, write_video

ODD: dict[str, Callable[[Path], None]] = {}
EXPECTED: dict[str, tuple[str, tuple[str, ...]]] = {}
N = 60


def odd(status: str, *words: str) -> Callable:
    def add(function: Callable[[Path], None]) -> Callable[[Path], None]:
        ODD[function.__name__] = function
        EXPECTED[function.__name__] = (status, words)
        return function

    return add


def coded(n: int = N, height: int = HEIGHT, width: int = WIDTH) -> list[np.ndarray]:
    return [coded_frame(i, height, width) for i in range(n)]


def noisy(n: int = N) -> list[np.ndarray]:
    """Coded frames of which most bytes are pictures, as in a real file."""
    rng, frames = np.random.default_rng(7), coded(n)
    for frame in frames:
        frame[: HEIGHT // 2] = rng.integers(0, 256, (HEIGHT // 2, WIDTH, 3))
    return frames


def rows(video: Path, n: int, **columns: object) -> None:
    """A row a frame: the frame's number, an action made of it, and columns that override or extend them."""
    lines = []
    for t in range(n):
        row = {"action": t % 3, "reward": 1.0, "terminated": False, "number": t}
        row |= {k: v[t] if isinstance(v, list) else v for k, v in columns.items()}
        lines.append(json.dumps(row))
    video.with_suffix(".jsonl").write_text("\n".join(lines) + "\n")


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


# Not a video


@odd("refused", "empty")
def empty(folder):
    (folder / "a.mp4").touch()


@odd("refused", "cannot be opened")
def text(folder):
    (folder / "a.mp4").write_text("not a video\n" * 100)


@odd("refused", "no video track")
def sound_alone(folder):
    with av.open(str(folder / "a.mkv"), "w") as container:
        stream = container.add_stream("flac", rate=48000, layout="mono")
        block = av.AudioFrame.from_ndarray(np.zeros((1, 4608), np.int16), format="s16", layout="mono")
        block.sample_rate = 48000
        container.mux(stream.encode(block))
        container.mux(stream.encode(None))


@odd("refused", "does not exist")
def dangling_link(folder):
    (folder / "a.mkv").symlink_to(folder / "gone.mkv")


@odd("refused", "cannot be opened")
def link_to_itself(folder):
    (folder / "a.mkv").symlink_to(folder / "a.mkv")


@odd("refused", "not a regular file")
def named_pipe(folder):
    os.mkfifo(folder / "a.mkv")


# Cut off, holes, flipped bytes


@odd("refused", "moov")
def mp4_cut_before_its_index(folder):
    write_video(folder / "a.mp4", coded())
    cut(folder / "a.mp4", 0.6)


@odd("repaired", "cut off")
def mp4_faststart_cut(folder):
    write_video(folder / "a.mp4", noisy(), muxer={"movflags": "+faststart"})
    cut(folder / "a.mp4", 0.6)


@odd("repaired")
def mp4_fragmented_cut(folder):
    write_video(folder / "a.mp4", noisy(), muxer={"movflags": "frag_keyframe+empty_moov"})
    cut(folder / "a.mp4", 0.6)


@odd("repaired", "cut off", "60 rows")
def mkv_cut_with_its_rows_whole(folder):
    write_video(folder / "a.mkv", noisy())
    rows(folder / "a.mkv", N)
    cut(folder / "a.mkv", 0.6)


@odd("repaired", "damaged or missing")
def flipped_bytes(folder):
    write_video(folder / "a.mkv", noisy())
    rows(folder / "a.mkv", N)
    rng, data = np.random.default_rng(3), bytearray((folder / "a.mkv").read_bytes())
    for at in rng.integers(len(data) // 4, len(data) - 2000, 8):
        data[at] ^= 0x55
    (folder / "a.mkv").write_bytes(data)


@odd("repaired", "damaged or missing")
def hole(folder):
    write_video(folder / "a.mkv", noisy(120))
    rows(folder / "a.mkv", 120)
    data = bytearray((folder / "a.mkv").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20_000] = bytes(20_000)
    (folder / "a.mkv").write_bytes(data)


@odd("repaired", "damaged or missing")
def begins_without_a_keyframe(folder):
    write_video(folder / "b.mkv", noisy(), options={"bf": "0"})
    remux(folder / "b.mkv", folder / "a.mkv", lambda i, packet: [] if i == 0 else [packet])
    (folder / "b.mkv").unlink()


# Time


@odd("ok", "variable frame rate")
def variable_rate(folder):
    times = np.cumsum(np.append(0, np.random.default_rng(1).choice([9, 16, 33, 51, 240], N - 1)))
    write_video(folder / "a.mkv", coded(), times_ms=times.tolist())
    rows(folder / "a.mkv", N)


@odd("ok")
def drops_a_frame_now_and_then(folder):
    times = [t for t in range(500) if t % 100 != 50]
    ms = [round(t * 1000 / 30) for t in times]
    write_video(folder / "a.mkv", [coded_frame(t) for t in times], ms, options={"g": "250"})
    rows(folder / "a.mkv", 500)


@odd("ok")
def starts_late_on_its_clock(folder):
    write_video(folder / "a.mkv", coded(), times_ms=[5000 + round(i * 1000 / 30) for i in range(N)])
    rows(folder / "a.mkv", N)


@odd("ok")
def sound_starts_late(folder):
    write_video(folder / "a.mkv", coded(), sound=np.full(48000, 9000, np.int16), sound_at_ms=500)


@odd("repaired", "timestamps jump")
def timestamps_jump_an_hour(folder):
    times = [round(i * 1000 / 30) + (3_600_000 if i >= 40 else 0) for i in range(N)]
    write_video(folder / "a.mkv", coded(), times_ms=times)


@odd("repaired", "timestamps jump")
def timestamps_jump_an_hour_near_the_beginning(folder):
    times = [round(i * 1000 / 30) + (3_600_000 if i >= 20 else 0) for i in range(N)]
    write_video(folder / "a.mkv", coded(), times_ms=times)


@odd("repaired", "60 rows", "timestamps jump")
def timestamps_jump_an_hour_with_rows(folder):
    timestamps_jump_an_hour(folder)
    rows(folder / "a.mkv", N)


def _remux_times(folder: Path, time_of: Callable[[int], int]) -> None:
    write_video(folder / "b.mkv", coded(), options={"bf": "0"})

    def change(i: int, packet: av.Packet) -> list[av.Packet]:
        packet.pts = packet.dts = time_of(i)
        packet.time_base = Fraction(1, 1000)
        return [packet]

    raw = folder / "a.mkv"
    with av.open(str(folder / "b.mkv")) as old, av.open(str(raw), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for i, packet in enumerate(p for p in old.demux(video=0) if p.size):
            (kept,) = change(i, packet)
            kept.stream = stream
            try:
                new.mux(kept)
            except av.FFmpegError:  # the muxer refuses times that run back: written by hand below
                raise
    (folder / "b.mkv").unlink()


@odd("refused", "60 rows")
def many_frames_at_one_instant(folder):
    _remux_times(folder, lambda i: round(min(i, 20) * 1000 / 30) + max(0, i - 50) * 33)
    rows(folder / "a.mkv", N)


def run_back(folder: Path) -> None:
    """Clusters of a second and a third second in the wrong order: timestamps that run back in the file."""
    for part, first in (("one", 40), ("two", 0)):
        write_video(
            folder / f"{part}.mkv",
            [coded_frame(i) for i in range(first, first + 30)],
            [round((first + i) * 1000 / 30) for i in range(30)],
        )
    one, two = ((folder / f"{part}.mkv").read_bytes() for part in ("one", "two"))
    cluster = b"\x1f\x43\xb6\x75"
    (folder / "a.mkv").write_bytes(one + two[two.index(cluster) :])
    for part in ("one", "two"):
        (folder / f"{part}.mkv").unlink()


@odd("repaired", "run back")
def timestamps_run_back(folder):
    run_back(folder)


@odd("refused", "run back")
def timestamps_run_back_with_rows(folder):
    run_back(folder)
    rows(folder / "a.mkv", N)


@odd("refused", "1 usable frame")
def one_frame(folder):
    write_video(folder / "a.mkv", coded(1))


@odd("ok")
def two_frames(folder):
    write_video(folder / "a.mkv", coded(2))


@odd("ok")
def thousand_frames_a_second(folder):
    write_video(folder / "a.mkv", coded(), times_ms=list(range(N)), fps=1000)


@odd("ok")
def a_frame_every_two_seconds(folder):
    """Stored out of order, up to six seconds apart, which is no damage."""
    write_video(folder / "a.mkv", coded(20), times_ms=[2000 * i for i in range(20)])
    rows(folder / "a.mkv", 20)


# Picture


@odd("ok", "pixels are not square")
def wide_pixels(folder):
    _with_stream(folder / "a.mkv", coded(), sample_aspect_ratio=Fraction(2, 1))


def _with_stream(path: Path, frames: list, codec: str = "libx264", pix_fmt: str = "yuv420p", **facts) -> None:
    options = facts.pop("options", {})
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        stream.options = options
        for name, value in facts.items():
            setattr(stream.codec_context, name, value)
        for i, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pix_fmt)
            picture.pts, picture.time_base = i, Fraction(1, 30)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


@odd("ok")
def odd_size(folder):
    _with_stream(folder / "a.mkv", coded(N, 51, 67), pix_fmt="yuv444p")


@odd("ok")
def portrait(folder):
    write_video(folder / "a.mp4", coded(N, 96, 48))


@odd("ok")
def four_pixels(folder):
    _with_stream(
        folder / "a.mkv", [np.full((2, 2, 3), 4 * i, np.uint8) for i in range(N)], codec="ffv1", pix_fmt="bgr0"
    )


@odd("refused", "HDR10")
def hdr(folder):
    _with_stream(folder / "a.mkv", coded(), color_trc=16, color_primaries=9, colorspace=9)


@odd("ok", "transparency")
def alpha(folder):
    _with_stream(folder / "a.mkv", coded(), codec="ffv1", pix_fmt="yuva444p")


@odd("ok", "interlaced")
def interlaced(folder):
    _with_stream(folder / "a.mkv", coded(), options={"flags": "+ildct+ilme", "x264-params": "tff=1", "bf": "0"})


@odd("ok")
def grey_ten_bits(folder):
    _with_stream(folder / "a.mkv", coded(), codec="ffv1", pix_fmt="gray10le")


@odd("ok")
def gif_by_another_name(folder):
    with av.open(str(folder / "a.mkv"), "w", format="gif") as container:
        stream = container.add_stream("gif", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "rgb8"
        for i, frame in enumerate(coded()):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="rgb8")
            picture.pts, picture.time_base = i * 4, Fraction(1, 100)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


@odd("ok", "size changes")
def size_changes_inside(folder):
    """Raw H.264 of two sizes one after the other, in MPEG-TS boxes that need no header: named .mkv."""
    parts = []
    for name, size, first in (("x.ts", (48, 64), 0), ("y.ts", (96, 128), 30)):
        write_video(
            folder / name,
            [coded_frame(i, *size) for i in range(first, first + 30)],
            [round(i * 1000 / 30) for i in range(first, first + 30)],
            options={"bf": "0"},
            muxer={"muxdelay": "0"},
        )
        parts.append((folder / name).read_bytes())
        (folder / name).unlink()
    (folder / "a.mkv").write_bytes(b"".join(parts))


@odd("ok", "still for 6.7 s")
def static_picture(folder):
    write_video(folder / "a.mkv", [coded_frame(5)] * 200)


# Sound


@odd("ok", "2 audio tracks")
def two_audio_tracks(folder):
    with av.open(str(folder / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        tracks = [container.add_stream("flac", rate=48000, layout="mono") for _ in range(2)]
        for i, frame in enumerate(coded()):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = i, Fraction(1, 30)
            container.mux(stream.encode(picture))
            for track in tracks:
                block = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), format="s16", layout="mono")
                block.sample_rate, block.pts = 48000, 1600 * i
                container.mux(track.encode(block))
        for s in (stream, *tracks):
            container.mux(s.encode(None))


@odd("ok", "holds no sound")
def audio_track_of_no_length(folder):
    with av.open(str(folder / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        container.add_stream("flac", rate=48000, layout="mono")
        for i, frame in enumerate(coded()):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = i, Fraction(1, 30)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


# Rows beside it


@odd("refused", "60 frames", "50 rows")
def ten_rows_too_few(folder):
    write_video(folder / "a.mkv", coded())
    rows(folder / "a.mkv", 50)


@odd("refused", "60 frames", "70 rows")
def ten_rows_too_many(folder):
    write_video(folder / "a.mkv", coded())
    rows(folder / "a.mkv", 70)


@odd("repaired", "59 rows")
def one_row_too_few(folder):
    write_video(folder / "a.mkv", coded())
    rows(folder / "a.mkv", N - 1)


@odd("repaired", "3 rewards", "not finite")
def rewards_that_are_no_numbers(folder):
    write_video(folder / "a.mkv", coded())
    rewards = [1.0] * N
    rewards[3], rewards[7], rewards[9] = float("nan"), float("inf"), 1e300
    rows(folder / "a.mkv", N, reward=rewards)


@odd("refused", "row 0", "reward")
def a_reward_that_is_a_word(folder):
    write_video(folder / "a.mkv", coded())
    rows(folder / "a.mkv", N, reward="lots")


@odd("refused", "row 0", "reward")
def a_reward_beyond_any_float(folder):
    write_video(folder / "a.mkv", coded())
    rows(folder / "a.mkv", N, reward=10**400)


@odd("ok")
def ends_as_words(folder):
    write_video(folder / "a.mkv", coded())
    rows(folder / "a.mkv", N, terminated=["false"] * (N - 2) + ["true", "false"])


@odd("refused", "row 0", "terminated")
def an_end_that_is_a_word(folder):
    write_video(folder / "a.mkv", coded())
    rows(folder / "a.mkv", N, terminated="maybe")


@odd("refused", "a.jsonl")
def rows_of_rubbish(folder):
    write_video(folder / "a.mkv", coded())
    (folder / "a.jsonl").write_bytes(bytes(range(256)) * 20)


@odd("refused", "a.jsonl", "nested too deeply")
def rows_nested_without_end(folder):
    write_video(folder / "a.mkv", coded())
    (folder / "a.jsonl").write_text("[" * 100_000 + "\n{}\n")


@odd("ok")
def rows_with_a_byte_order_mark_and_odd_line_ends(folder):
    write_video(folder / "a.mkv", coded())
    rows(folder / "a.mkv", N, note="a\u2028b\x1cc")
    lines = [json.loads(line) for line in (folder / "a.jsonl").read_text().split("\n") if line]
    text = "\r\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\r\n\r\n"
    (folder / "a.jsonl").write_text(text, encoding="utf-8-sig", newline="")


@odd("refused", "a.jsonl", "UTF-8")
def rows_in_utf16(folder):
    write_video(folder / "a.mkv", coded())
    rows(folder / "a.mkv", N)
    (folder / "a.jsonl").write_text((folder / "a.jsonl").read_text(), encoding="utf-16")


@odd("refused", "60 frames")
def csv_of_zeros(folder):
    write_video(folder / "a.mkv", coded())
    (folder / "a.csv").write_bytes(b"action\n" + bytes(1000))


@odd("refused", "a.csv")
def csv_with_one_endless_field(folder):
    write_video(folder / "a.mkv", coded())
    (folder / "a.csv").write_text("action\n" + "1" * 200_000 + "\n")


@odd("refused", "a.csv", "action")
def csv_without_actions(folder):
    write_video(folder / "a.mkv", coded())
    (folder / "a.csv").write_text("button,reward\n" + "1,0\n" * N)


@odd("refused", "a.parquet")
def damaged_parquet(folder):
    write_video(folder / "a.mkv", coded())
    (folder / "a.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")


@odd("refused", "a.jsonl", "not finite")
def an_action_that_is_not_finite(folder):
    write_video(folder / "a.mkv", coded())
    rows(folder / "a.mkv", N, action=[0.5] * 5 + [float("nan")] + [0.5] * (N - 6))


@odd("refused", "a.jsonl", "900000001")
def an_action_count_beyond_reason(folder):
    write_video(folder / "a.mkv", coded())
    rows(folder / "a.mkv", N, action=[900_000_000] * N)


@odd("refused", "a.json", "fps")
def a_rate_of_zero_in_its_facts(folder):
    record(folder / "a.mkv", N)
    facts = json.loads((folder / "a.json").read_text())
    (folder / "a.json").write_text(json.dumps({**facts, "fps": 0}))


@odd("refused", "a.json", "fps")
def a_rate_that_is_no_number_in_its_facts(folder):
    record(folder / "a.mkv", N)
    facts = json.loads((folder / "a.json").read_text())
    (folder / "a.json").write_text(json.dumps({**facts, "fps": float("nan")}))


@odd("refused", "a.json")
def facts_nested_without_end(folder):
    record(folder / "a.mkv", N)
    (folder / "a.json").write_text("[" * 100_000)


@odd("ok", "a.csv", "not read")
def two_kinds_of_rows(folder):
    write_video(folder / "a.mkv", coded())
    rows(folder / "a.mkv", N)
    (folder / "a.csv").write_text("action\n" + "2\n" * N)


# Size


@odd("ok")
def four_gigabytes(folder):
    """A fragmented mp4 with a hole of 4.2 GB inside that no disk block is spent on."""
    write_video(folder / "b.mp4", coded(), muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"})
    data = (folder / "b.mp4").read_bytes()
    (folder / "b.mp4").unlink()
    at = data.index(b"moof", len(data) // 2) - 4
    size = 4_200_000_000
    with (folder / "a.mp4").open("wb") as file:
        file.write(data[:at] + struct.pack(">I4sQ", 1, b"free", size))
        file.seek(size - 16, os.SEEK_CUR)
        file.write(data[at:])
