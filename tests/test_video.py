"""Writing and reading video: count, order, place in time, quality, and damage."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
from recordings import HEIGHT, WIDTH, coded_frame, game_frames, number_of, remux, write_video

from worldgen.data.decode import VideoNotes, read_frames, resample
from worldgen.data.probe import probe
from worldgen.data.sound import read_sound
from worldgen.data.video import VideoWriter
from worldgen.errors import InputError


def write_recording(path: Path, frames: list | np.ndarray, sound: np.ndarray | None = None, fps: float = 30, **options):
    """sound (samples, channels) int16 for all frames, or None."""
    height, width = frames[0].shape[:2]
    rate = None if sound is None else round(len(sound) / len(frames) * fps)
    channels = 1 if sound is None else sound.shape[1]
    with VideoWriter(path, width, height, fps, sample_rate=rate, channels=channels, **options) as writer:
        for i, frame in enumerate(frames):
            step = 0 if sound is None else len(sound) // len(frames)
            writer.write(frame, None if sound is None else sound[i * step : (i + 1) * step])


def coded(n: int, height: int = HEIGHT, width: int = WIDTH) -> list[np.ndarray]:
    return [coded_frame(i, height, width) for i in range(n)]


def rows_and_numbers(path: Path, fps: float = 30) -> tuple[list[int], list[int]]:
    read = list(read_frames(path, fps, WIDTH, HEIGHT))
    return [row for row, _ in read], [number_of(frame) for _, frame in read]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b) ** 2))))


@pytest.mark.parametrize("fps", [15, 29.97, 30, 35, 60])
def test_a_recording_comes_back_frame_for_frame(tmp_path, fps):
    frames = game_frames(50)
    write_recording(tmp_path / "a.mkv", frames, fps=fps)
    read = list(read_frames(tmp_path / "a.mkv", fps, WIDTH, HEIGHT))
    assert [row for row, _ in read] == list(range(50))
    assert min(psnr(got, frames[row]) for row, got in read) > 40
    facts = probe(tmp_path / "a.mkv")
    assert facts.num_frames == 50 and facts.fps == pytest.approx(fps, rel=1e-4) and not facts.has_sound
    assert facts.is_constant_rate and not facts.is_cut_off and not facts.is_unfinished


def test_odd_sizes_come_back_frame_for_frame(tmp_path):
    frames = coded(20, 51, 67)
    write_recording(tmp_path / "a.mkv", frames)
    read = list(read_frames(tmp_path / "a.mkv", 30, 67, 51))
    assert [number_of(frame) for _, frame in read] == list(range(20))
    assert min(psnr(got, frames[row]) for row, got in read) > 40


def test_smaller_frames_are_the_mean_of_their_pixels(tmp_path):
    frames = game_frames(10, 96, 128)
    write_recording(tmp_path / "a.mkv", frames)
    means = frames.astype(float).reshape(10, 24, 4, 32, 4, 3).mean(axis=(2, 4))
    got = np.stack([frame for _, frame in read_frames(tmp_path / "a.mkv", 30, 32, 24)])
    assert got.shape == (10, 24, 32, 3) and got.dtype == np.uint8 and psnr(got, means) > 40


@pytest.mark.parametrize("channels, rate", [(1, 24000), (2, 44100), (1, 30720)])
def test_the_sound_of_a_recording_is_exact_to_the_sample(tmp_path, channels, rate):
    sound = np.random.default_rng(0).integers(-20000, 20000, (50 * rate // 30, channels)).astype(np.int16)
    write_recording(tmp_path / "a.mkv", game_frames(50), sound)
    np.testing.assert_array_equal(read_sound(tmp_path / "a.mkv"), sound)


def test_frames_without_sound_are_silent_and_move_nothing(tmp_path):
    with VideoWriter(tmp_path / "a.mkv", WIDTH, HEIGHT, 30, sample_rate=24000) as writer:
        for i, frame in enumerate(coded(30)):
            writer.write(frame, np.full((800, 1), i, np.int16) if i % 3 else None)
    heard = read_sound(tmp_path / "a.mkv").reshape(30, 800)
    np.testing.assert_array_equal(heard, np.where(np.arange(30) % 3, np.arange(30), 0)[:, None].repeat(800, 1))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_click_is_heard_on_the_frame_that_flashes(tmp_path, suffix):
    frames, sound = np.zeros((60, 64, 64, 3), np.uint8), np.zeros((60 * 800, 1), np.int16)
    frames[37] = 255
    sound[37 * 800 : 37 * 800 + 40] = 20000
    write_recording(tmp_path / f"a{suffix}", frames, sound)
    seen = int(np.argmax([f.mean() for _, f in read_frames(tmp_path / f"a{suffix}", 30, 64, 64)]))
    heard = int(np.argmax(np.abs(read_sound(tmp_path / f"a{suffix}", 24000, 1)[:, 0].astype(int)) > 8000))
    assert seen == 37 and abs(heard - 37 * 800) <= (0 if suffix == ".mkv" else 12)


def test_a_clip_for_people_is_enlarged_and_plays_everywhere(tmp_path):
    frames = coded(30, 45, 63)
    write_recording(tmp_path / "a.mp4", frames, np.zeros((30 * 800, 2), np.int16), scale=3)
    with av.open(str(tmp_path / "a.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.pix_fmt, video.width, video.height) == ("yuv420p", 190, 136)
        assert audio.codec_context.name == "aac"
        assert [number_of(f.to_ndarray(format="rgb24")) for f in container.decode(video)] == list(range(30))


def test_halving_the_rate_keeps_every_second_frame_and_doubling_shows_each_twice(tmp_path):
    write_recording(tmp_path / "a.mkv", coded(40), fps=30)
    assert rows_and_numbers(tmp_path / "a.mkv", 15) == (list(range(0, 40, 2)),) * 2
    assert rows_and_numbers(tmp_path / "a.mkv", 60) == ([i // 2 for i in range(80)],) * 2
    assert rows_and_numbers(tmp_path / "a.mkv", 12)[0] == [int(i * 2.5) for i in range(16)]


@pytest.mark.parametrize("suffix, first_ms", [(".mkv", 0), (".mp4", 0), (".mkv", 470)])
def test_a_variable_frame_rate_is_resampled_by_its_timestamps(tmp_path, suffix, first_ms):
    rng = np.random.default_rng(1)
    times = np.cumsum(np.append(0, rng.choice([9, 16, 33, 51, 240], 59)))
    write_video(tmp_path / f"a{suffix}", coded(60), times_ms=[first_ms + int(t) for t in times])
    notes, path = VideoNotes(), tmp_path / f"a{suffix}"
    facts = probe(path)
    read = list(resample(path, facts, 20, WIDTH, HEIGHT, notes))
    wanted = [int(np.searchsorted(times, i * 50, side="right")) - 1 for i in range(len(read))]
    assert [row for row, _, _ in read] == wanted == [number_of(frame) for _, frame, _ in read]
    assert len(read) >= times[-1] / 50 and not facts.is_constant_rate and "variable" in facts.notes[0]


def test_a_jittery_clock_is_still_a_constant_rate(tmp_path):
    jitter = np.random.default_rng(0).integers(-6, 7, 60)
    write_video(tmp_path / "a.mkv", coded(60), times_ms=[round(i * 100 / 3) + int(j) for i, j in enumerate(jitter + 6)])
    assert rows_and_numbers(tmp_path / "a.mkv") == (list(range(60)),) * 2


@pytest.mark.parametrize("codec, name", [("libvpx", "a.webm"), ("libvpx-vp9", "a.webm"), ("libx264", "a.mov")])
def test_codecs_that_reorder_or_hide_frames_lose_none(tmp_path, codec, name):
    options = {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "realtime"} if "vpx" in codec else {"bf": "3"}
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    write_video(tmp_path / name, coded(50), codec=codec, options=options)
    assert rows_and_numbers(tmp_path / name) == (list(range(50)),) * 2


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("late_ms", [300, -200])
def test_sound_that_starts_late_or_early_is_moved_to_its_place(tmp_path, suffix, late_ms):
    sound = np.zeros(48000, np.int16)
    sound[24000:24100] = 20000
    first = max(0, -late_ms)
    times = [first + round(i * 1000 / 30) for i in range(30)]
    write_video(tmp_path / f"a{suffix}", coded(30), times, sound=sound, sound_at_ms=max(0, late_ms))
    heard = read_sound(tmp_path / f"a{suffix}")[:, 0].astype(int)
    assert abs(int(np.argmax(np.abs(heard) > 8000)) - (24000 + late_ms * 48)) <= 48  # mkv counts milliseconds


def test_changing_the_sample_rate_moves_nothing(tmp_path):
    sound = np.zeros((48000, 2), np.int16)
    sound[24000:24200] = 20000
    write_recording(tmp_path / "a.mkv", coded(30), sound)
    heard = read_sound(tmp_path / "a.mkv", 16000, 1)
    assert abs(len(heard) - 16000) <= 1 and abs(int(np.argmax(heard[:, 0] > 10000)) - 8000) <= 1


def test_mono_and_stereo_become_each_other_at_the_same_loudness(tmp_path):
    for channels in (1, 2):
        write_recording(tmp_path / f"{channels}.mkv", coded(30), np.full((24000, channels), 9000, np.int16))
        for wanted in (1, 2):
            heard = read_sound(tmp_path / f"{channels}.mkv", channels=wanted)
            assert heard.shape == (24000, wanted) and (heard == 9000).all()


def test_a_file_without_sound_says_so(tmp_path):
    write_recording(tmp_path / "a.mkv", coded(5))
    assert read_sound(tmp_path / "a.mkv") is None


@pytest.mark.parametrize(
    "name, muxer",
    [("a.mp4", {"movflags": "+faststart"}), ("a.mp4", {"movflags": "frag_keyframe+empty_moov"}), ("a.mkv", {})],
)
def test_a_truncated_file_gives_the_frames_that_it_still_has(tmp_path, name, muxer):
    write_video(tmp_path / name, game_frames(120), muxer=muxer)
    os.truncate(tmp_path / name, (tmp_path / name).stat().st_size * 6 // 10)
    notes = VideoNotes()
    rows = [row for row, _ in read_frames(tmp_path / name, 30, WIDTH, HEIGHT, notes)]
    assert 40 < notes.num_decoded < 110 and len(rows) >= notes.num_decoded
    assert rows[: notes.num_decoded] == list(range(notes.num_decoded))
    assert probe(tmp_path / name).is_cut_off or notes.num_bad_packets


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
@pytest.mark.parametrize("seed", range(4))
def test_flipped_bytes_cost_frames_but_never_move_one(tmp_path, name, seed):
    rng, frames = np.random.default_rng(seed), coded(120)
    for frame in frames:  # noise, so that most bytes are pictures as in a real file
        frame[: HEIGHT // 2] = rng.integers(0, 256, (HEIGHT // 2, WIDTH, 3))
    write_video(tmp_path / name, frames, muxer={"movflags": "+faststart"} if name == "a.mp4" else {})
    data = bytearray((tmp_path / name).read_bytes())
    for at in rng.integers(len(data) // 5, len(data), 12):
        data[at] ^= int(rng.integers(1, 256))
    (tmp_path / name).write_bytes(data)
    notes, path = VideoNotes(), tmp_path / name
    read = list(resample(path, probe(path), 30, WIDTH, HEIGHT, notes))
    kept = [(row, number_of(frame)) for row, frame, is_missing in read if not is_missing]
    assert notes.num_bad_packets and 100 <= len(read) <= 120 and 20 < len(kept) < 120
    # no decoder reports every damaged picture; a shift would make all that follow differ
    assert sum(row == number for row, number in kept) >= 0.8 * len(kept)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.webm"])
def test_any_damage_gives_frames_or_one_clear_error(tmp_path, name):
    write_video(tmp_path / name, coded(30), codec="libvpx" if name == "a.webm" else "libx264", options={})
    whole = (tmp_path / name).read_bytes()
    for seed in range(25):
        rng, data = np.random.default_rng(seed), bytearray(whole)
        for at in rng.integers(0, len(data), 1 + seed * 2):
            data[at] = int(rng.integers(256))
        (tmp_path / name).write_bytes(data[: int(rng.integers(1, len(data) + 1))] if seed % 3 == 0 else data)
        try:
            frames = [frame for _, frame in read_frames(tmp_path / name, 30, WIDTH, HEIGHT)]
            assert {frame.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
            assert len(frames) < 30 * 60 * 30  # a damaged timestamp does not ask for hours of one picture
            read_sound(tmp_path / name)
        except InputError as error:
            assert name in str(error)


def test_frames_after_a_hole_keep_their_place_and_the_hole_is_marked(tmp_path):
    write_recording(tmp_path / "a.mkv", game_frames(200))
    clean = [frame for _, frame in read_frames(tmp_path / "a.mkv", 30, WIDTH, HEIGHT)]
    data = bytearray((tmp_path / "a.mkv").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 6000] = bytes(6000)
    (tmp_path / "a.mkv").write_bytes(data)
    read = list(resample(tmp_path / "a.mkv", probe(tmp_path / "a.mkv"), 30, WIDTH, HEIGHT))
    lost = [is_missing for _, _, is_missing in read]
    assert len(read) == 200 and 2 <= sum(lost) <= 60 and not any(lost[:60]) and not any(lost[170:])
    for i, (row, frame, is_missing) in enumerate(read):
        assert is_missing or (row == i and np.array_equal(frame, clean[i]))


def test_packets_that_are_gone_without_a_trace_leave_a_marked_hole(tmp_path):
    write_recording(tmp_path / "a.mkv", coded(200))
    keys = []

    def without_three(i: int, packet: av.Packet) -> list[av.Packet]:
        keys.extend([i] if packet.is_keyframe else [])
        return [] if 90 <= i < 93 else [packet]

    remux(tmp_path / "a.mkv", tmp_path / "b.mkv", without_three)
    read = list(resample(tmp_path / "b.mkv", probe(tmp_path / "b.mkv"), 30, WIDTH, HEIGHT))
    lost = [i for i, (_, _, is_missing) in enumerate(read) if is_missing]
    # the frames from the hole to the next keyframe are drawn over the wrong picture
    assert len(read) == 200 and lost == list(range(90, min(key for key in keys if key >= 93)))
    assert all(row == number_of(frame) == i for i, (row, frame, gone) in enumerate(read) if not gone)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
@pytest.mark.parametrize("num_between", ["0", "3"])
def test_no_frame_that_is_drawn_over_a_lost_one_is_kept(tmp_path, name, num_between):
    """num_between: pictures that are stored after one that is shown later."""
    write_video(tmp_path / name, game_frames(400), options={"g": "100", "bf": num_between})
    clean = [frame for _, frame in read_frames(tmp_path / name, 30, WIDTH, HEIGHT)]
    for lost in ([40], [41, 42, 43], [20, 133, 150, 171, 190, 210, 233], range(137, 167)):
        remux(tmp_path / name, tmp_path / f"b{name}", lambda i, packet, lost=lost: [] if i in lost else [packet])
        facts = probe(tmp_path / f"b{name}")
        read = list(resample(tmp_path / f"b{name}", facts, 30, WIDTH, HEIGHT))
        kept = [i for i, (_, _, is_missing) in enumerate(read) if not is_missing]
        assert len(read) == 400 and facts.has_lost_frames
        assert all(read[i][0] == i and np.array_equal(read[i][1], clean[i]) for i in kept)
        assert {*range(15), *range(100, 128), *range(300, 400)} <= {*kept} and len(kept) <= 400 - len(lost)


def test_a_codec_that_does_not_tell_what_is_lost_waits_for_a_keyframe_after_few_holes(tmp_path):
    if "libvpx-vp9" not in av.codecs_available:
        pytest.skip("this PyAV has no libvpx-vp9")
    write_video(tmp_path / "a.webm", game_frames(120), codec="libvpx-vp9", options={"deadline": "realtime", "g": "40"})
    clean = [frame for _, frame in read_frames(tmp_path / "a.webm", 30, WIDTH, HEIGHT)]
    remux(tmp_path / "a.webm", tmp_path / "b.webm", lambda i, packet: [] if i == 50 else [packet])
    read = list(resample(tmp_path / "b.webm", probe(tmp_path / "b.webm"), 30, WIDTH, HEIGHT))
    assert [i for i, (_, _, is_missing) in enumerate(read) if is_missing] == list(range(50, 80))
    assert all(gone or np.array_equal(frame, clean[i]) for i, (_, frame, gone) in enumerate(read))


def test_a_recorder_that_leaves_still_frames_out_loses_nothing(tmp_path):
    times = [t for t in range(200) if t % 7 not in (3, 4)]
    write_video(tmp_path / "b.mkv", [coded_frame(t) for t in times], [round(t * 1000 / 30) for t in times])
    read = list(resample(tmp_path / "b.mkv", probe(tmp_path / "b.mkv"), 30, WIDTH, HEIGHT))
    assert not any(is_missing for _, _, is_missing in read)
    shown = [max(s for s in times if s <= t) for t in range(times[-1] + 1)]
    assert [number_of(frame) for _, frame, _ in read] == shown


@pytest.mark.parametrize("num_rows", [None, 594, 600])
def test_a_recorder_that_drops_a_frame_now_and_then_loses_no_other(tmp_path, num_rows):
    """num_rows: of a sidecar with a row for every frame, or for every instant."""
    times = [t for t in range(600) if t % 100 != 50]
    ms = [round(t * 1000 / 30) for t in times]
    write_video(tmp_path / "b.mkv", [coded_frame(t) for t in times], ms, options={"g": "250"})
    facts = probe(tmp_path / "b.mkv")
    facts = facts if num_rows is None else facts.with_rows(num_rows)
    read = list(resample(tmp_path / "b.mkv", facts, 30, WIDTH, HEIGHT))
    shown = [max(s for s in times if s <= t) for t in range(600)]
    assert not any(is_missing for _, _, is_missing in read)
    assert [number_of(frame) for _, frame, _ in read] == shown
    assert [row for row, _, _ in read] == (list(range(600)) if num_rows == 600 else [times.index(s) for s in shown])


@pytest.mark.parametrize("dropped", [[150], [50, 130, 131, 210]])
def test_a_recorder_that_drops_hardly_any_frame_loses_no_other(tmp_path, dropped):
    times = [t for t in range(250) if t not in dropped]
    ms = [round(t * 1000 / 30) for t in times]
    write_video(tmp_path / "b.mkv", [coded_frame(t) for t in times], ms, options={"g": "250"})
    facts = probe(tmp_path / "b.mkv")
    read = list(resample(tmp_path / "b.mkv", facts, 30, WIDTH, HEIGHT))
    assert not facts.has_lost_frames and not any(is_missing for _, _, is_missing in read)
    assert [number_of(frame) for _, frame, _ in read] == [max(s for s in times if s <= t) for t in range(250)]


def test_pictures_that_are_stored_but_never_shown_are_not_counted(tmp_path):
    write_video(tmp_path / "a.webm", coded(60), codec="libvpx", options={"deadline": "realtime"})

    def with_hidden(i: int, packet: av.Packet) -> list[av.Packet]:
        if i % 10 != 5:
            return [packet]
        data = bytearray(bytes(packet))
        data[0] &= ~0x10  # VP8's show_frame
        hidden = av.Packet(bytes(data))
        hidden.pts = hidden.dts = packet.pts - 1
        hidden.time_base = packet.time_base
        return [hidden, packet]

    remux(tmp_path / "a.webm", tmp_path / "b.webm", with_hidden)
    assert probe(tmp_path / "b.webm").num_frames == 60
    rows, numbers = rows_and_numbers(tmp_path / "b.webm")
    assert rows == list(range(60)) and numbers[:5] == list(range(5))


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_a_rotated_video_is_turned_upright(tmp_path, quarter_turns):
    upright = game_frames(3, 64, 96)
    turned = [np.ascontiguousarray(np.rot90(f, -quarter_turns)) for f in upright]
    write_video(tmp_path / "a.mp4", turned)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # the matrix of the track header: rotate counter-clockwise for display
    c, s = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter_turns]
    matrix = [c, -s, 0, s, c, 0, 0, 0]
    data[at : at + 32] = b"".join(int(x * 65536).to_bytes(4, "big", signed=True) for x in matrix)
    (tmp_path / "a.mp4").write_bytes(data)
    facts = probe(tmp_path / "a.mp4")
    got = np.stack([frame for _, frame in read_frames(tmp_path / "a.mp4", 30, 96, 64)])
    assert (facts.width, facts.height) == (96, 64) and "rotated" in " ".join(facts.notes)
    # 4:2:0 blurs colour: compare brightness
    assert psnr(got.mean(axis=-1), upright.mean(axis=-1)) > 20


def test_stretching_is_noted_only_when_the_shape_differs(tmp_path):
    write_recording(tmp_path / "a.mkv", coded(3, 48, 64))
    same, other = VideoNotes(), VideoNotes()
    list(read_frames(tmp_path / "a.mkv", 30, 32, 24, same))
    list(read_frames(tmp_path / "a.mkv", 30, 32, 32, other))
    assert same.notes == [] and "stretched" in other.notes[0]


def test_files_that_are_no_video_are_refused_with_the_reason(tmp_path):
    write_video(tmp_path / "late.mp4", coded(30))
    data = (tmp_path / "late.mp4").read_bytes()
    (tmp_path / "late.mp4").write_bytes(data[: len(data) // 2])
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    reasons = [("late", "moov"), ("empty", "empty"), ("text", "cannot be opened"), ("absent", "does not exist")]
    for name, reason in reasons:
        with pytest.raises(InputError, match=reason):
            list(read_frames(tmp_path / f"{name}.mp4", 30, 64, 48))


def test_sound_alone_is_refused_as_video(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("flac", rate=48000, layout="mono")
        block = av.AudioFrame.from_ndarray(np.zeros((1, 4608), np.int16), format="s16", layout="mono")
        block.sample_rate = 48000
        container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="no video track"):
        probe(tmp_path / "a.mkv")


def test_a_name_that_is_not_utf8_can_be_read(tmp_path):
    write_recording(tmp_path / "a.mkv", coded(5))
    strange = os.fsencode(tmp_path) + b"/caf\xe9.mkv"
    try:
        os.rename(tmp_path / "a.mkv", strange)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert rows_and_numbers(Path(os.fsdecode(strange))) == (list(range(5)),) * 2
