"""Playing without a window: the clip, the figures, where actions come from, and what is refused beforehand."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from fake_world import ACTIONS, FakeWorld, FakeWorldWithoutStarts

from worldgen.actions import ActionMap
from worldgen.errors import InputError, RunError
from worldgen.legend import draw_legend, legend_keys, pressed_keys
from worldgen.play.action_source import read_actions, sticky_random
from worldgen.play.headless import run_headless
from worldgen.play.loop import Player
from worldgen.play.main import has_display, play
from worldgen.play.options import PlayOptions, check_options
from worldgen.play.start_image import MAX_FRAMES, load_start
from worldgen.text import draw_text, text_mask

IDLE, LEFT, RIGHT, UP, DOWN, JUMP = range(6)


def played(world: FakeWorld) -> list[int]:
    """The actions that a FakeWorld was given."""
    return [call for call in world.calls if not isinstance(call, tuple)]


def read_clip(path: Path) -> tuple[list[np.ndarray], int, float]:
    """-> frames, samples of its sound, fps"""
    with av.open(str(path)) as container:
        fps = float(container.streams.video[0].average_rate)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    samples = 0
    with av.open(str(path)) as container:
        if container.streams.audio:
            samples = sum(frame.samples for frame in container.decode(audio=0))
    return frames, samples, fps


def load_fake(*_: object, **__: object) -> FakeWorld:
    return FakeWorld()


@pytest.fixture
def play_headless(tmp_path_factory):
    """Plays a world as the command does; actions: of a file."""

    def play_it(world: FakeWorld, actions: list | None = None, **options) -> dict:
        if actions is not None:
            path = tmp_path_factory.mktemp("actions") / "actions.json"
            path.write_text(json.dumps(actions))
            options["actions"] = str(path)
        return play(PlayOptions(headless=True, **options), load_world=lambda *_, **__: world)

    return play_it


# The clip


def test_a_clip_holds_exactly_the_frames_that_were_counted_four_times_enlarged(tmp_path, play_headless):
    stats = play_headless(FakeWorld(fps=15), frames=20, out=tmp_path / "clip.mp4", legend=False)
    frames, samples, fps = read_clip(tmp_path / "clip.mp4")
    assert stats["frames"] == len(frames) == 20
    assert frames[0].shape == (4 * 24, 4 * 32, 3)
    assert fps == 15
    assert samples == 0
    assert (stats["width"], stats["height"], stats["dropped"]) == (32, 24, 0)


def test_a_clip_of_a_world_with_in_between_frames_has_twice_the_rate_and_the_same_sound(tmp_path, play_headless):
    world = FakeWorld(fps=15, sample_rate=24000, between=True)
    stats = play_headless(world, frames=20, out=tmp_path / "clip.mp4", legend=False)
    frames, samples, fps = read_clip(tmp_path / "clip.mp4")
    assert (len(frames), fps, stats["frames"], stats["between"]) == (40, 30, 20, True)
    assert stats["sound_seconds"] == pytest.approx(20 / 15, abs=1e-3) and samples >= 20 * 1600
    plain = play_headless(FakeWorld(fps=15, sample_rate=24000), frames=20, out=tmp_path / "plain.mp4", legend=False)
    others, same_samples, _ = read_clip(tmp_path / "plain.mp4")
    assert plain["between"] is False and same_samples == samples
    for shown, alone in zip(frames[1::2], others, strict=True):  # the frames themselves are the same
        assert np.abs(shown.astype(int) - alone).mean() < 3


def test_a_clip_has_the_sound_of_its_frames(tmp_path, play_headless):
    stats = play_headless(FakeWorld(sample_rate=24000, ends_after=11), frames=45, out=tmp_path / "clip.mp4")
    _, samples, _ = read_clip(tmp_path / "clip.mp4")
    assert stats["sound_seconds"] == pytest.approx(1.5)
    assert samples / 24000 == pytest.approx(1.5, abs=0.05)  # aac pads its last block


def test_a_clip_has_sound_of_any_rate_at_its_own_pitch(tmp_path, play_headless):
    """AAC refuses the Atari's 30,720 Hz."""
    stats = play_headless(FakeWorld(sample_rate=30720, fps=60), frames=60, actions=[0], out=tmp_path / "clip.mp4")
    assert stats["sound_seconds"] == pytest.approx(1.0)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        rate = container.streams.audio[0].rate
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert len(sound) / rate == pytest.approx(1.0, abs=0.05)
    world = FakeWorld(sample_rate=30720, fps=60)
    world.reset(0)
    tone = np.abs(np.fft.rfft(np.concatenate([world.step(0).sound[:, 0] for _ in range(60)]))).argmax()
    heard = np.abs(np.fft.rfft(sound[:rate])).argmax()
    assert heard == pytest.approx(tone, abs=2)


def test_a_clip_shows_each_action_with_the_frame_it_led_to(tmp_path, play_headless):
    world = FakeWorld(height=48, width=64)
    actions = [LEFT] * 5 + [RIGHT] * 5
    play_headless(world, frames=10, actions=actions, out=tmp_path / "clip.mp4")
    frames, _, _ = read_clip(tmp_path / "clip.mp4")
    for frame, action in zip(frames, actions, strict=True):
        strip = frame[48 * 4 :]
        expected = draw_legend(64 * 4, ACTIONS, action)
        assert np.abs(strip[: len(expected)].astype(int) - expected).mean() < 12
        other = draw_legend(64 * 4, ACTIONS, LEFT if action == RIGHT else RIGHT)
        assert np.abs(strip[: len(other)].astype(int) - other).mean() > 12


def test_a_gif_shows_every_frame_at_its_time_and_the_keys_that_led_to_it(tmp_path, play_headless):
    world = FakeWorld(fps=17.5)
    actions = [LEFT, RIGHT] * 65  # more than its colours are chosen from
    play_headless(world, actions=actions, out=tmp_path / "play.gif")
    with av.open(str(tmp_path / "play.gif")) as file:
        shown = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
        assert not file.streams.audio
    assert len(shown) == 130
    assert all(abs(time - i / 17.5) <= 0.0051 for i, (time, _) in enumerate(shown))
    for (_, frame), action in zip(shown, actions, strict=True):
        strip = draw_legend(32 * 4, ACTIONS, action)
        assert np.abs(frame[24 * 4 :].astype(int) - strip).max() < 24
    last = world._frame().image.repeat(4, 0).repeat(4, 1)
    assert np.abs(shown[-1][1][: 24 * 4].astype(int) - last).mean() < 4


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
@pytest.mark.parametrize("frames", [0, 1, 40])
def test_a_play_that_fails_leaves_no_clip_behind_and_an_older_one_alone(tmp_path, frames, suffix, play_headless):
    class Failing(FakeWorld):
        def step(self, action):
            if len(self.calls) == 1 + frames:
                raise RuntimeError("out of memory")
            return super().step(action)

    clip = tmp_path / f"clip{suffix}"
    clip.write_text("older")
    with pytest.raises(RuntimeError, match="out of memory"):
        play_headless(Failing(sample_rate=24000), frames=100, out=clip)
    assert list(tmp_path.iterdir()) == [clip] and clip.read_text() == "older"


def test_a_clip_has_its_name_only_when_it_is_whole(tmp_path):
    def look(player: Player) -> int:
        assert not (tmp_path / "clip.mp4").exists()
        return LEFT

    run_headless(Player(FakeWorld()), look, 10, out=tmp_path / "clip.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def test_an_interrupted_play_keeps_the_clip_so_far(tmp_path, play_headless):
    class Interrupted(FakeWorld):
        def step(self, action):
            if len(self.calls) == 1 + 7:
                raise KeyboardInterrupt
            return super().step(action)

    with pytest.raises(KeyboardInterrupt):
        play_headless(Interrupted(), frames=100, out=tmp_path / "clip.mp4")
    frames, _, _ = read_clip(tmp_path / "clip.mp4")
    assert len(frames) == 7


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_interrupted_before_its_clip_shows_anything_it_leaves_none(tmp_path, suffix):
    def stop(player: Player) -> None:
        raise KeyboardInterrupt

    for choose, beside in ((stop, None), (lambda player: LEFT, stop)):
        with pytest.raises(KeyboardInterrupt):
            run_headless(Player(FakeWorld()), choose, 9, out=tmp_path / f"clip{suffix}", beside=beside)
        assert not list(tmp_path.iterdir())


# Actions


def test_random_actions_follow_from_the_seed_and_are_held_for_a_while():
    def choices(seed: int) -> list[int]:
        choose = sticky_random(ACTIONS, 30, seed)
        return [choose(None) for _ in range(3000)]

    assert choices(1) == choices(1) != choices(2)
    changes = np.count_nonzero(np.diff(choices(1)))
    assert 3000 / 24 < changes < 3000 / 8  # about every 12 frames, and one in six picks the same again
    assert set(choices(1)) == set(range(6))


def test_a_list_of_actions_is_played_in_order_and_again_from_its_first(play_headless):
    world = FakeWorld()
    play_headless(world, frames=7, actions=[LEFT, UP, JUMP])
    assert played(world) == [LEFT, UP, JUMP, LEFT, UP, JUMP, LEFT]


def test_without_a_number_of_frames_a_list_is_played_once(play_headless):
    world = FakeWorld()
    assert play_headless(world, actions=[LEFT, UP, JUMP])["frames"] == 3
    assert played(world) == [LEFT, UP, JUMP]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"action": 1, "reward": 0}\n{"action": 3}\n{"action": 5}\n'),
        ("a.csv", "action,reward\n1,0\n3,0\n5,0\n"),
        ("a.json", "[1, 3, 5]"),
        ("a.json", '["left", "up", "jump"]'),
        ("a.json", '[{"action": 1}, {"action": 3}, {"action": 5}]'),
    ],
)
def test_actions_are_read_from_every_form_of_file(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_actions(tmp_path / name, ACTIONS) == [LEFT, UP, JUMP]


def test_actions_are_read_from_parquet_and_from_beside_a_video(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.table({"action": [1, 3, 5]}), tmp_path / "a.parquet")
    assert read_actions(tmp_path / "a.parquet", ACTIONS) == [LEFT, UP, JUMP]
    (tmp_path / "a.mkv").touch()
    assert read_actions(tmp_path / "a.mkv", ACTIONS) == [LEFT, UP, JUMP]


def test_lists_of_buttons_are_read_from_csv(tmp_path):
    (tmp_path / "a.csv").write_text('action\n"[0, 1]"\n"[1, 1]"\n')
    assert read_actions(tmp_path / "a.csv", ActionMap("multi_binary", (2, 2))) == [[0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.jsonl", '{"action": 1}\n{"action": 6}\n', "a.jsonl, row 1: .*6.*0..5"),
        ("a.jsonl", '{"action": 1}\n{"action": null}\n', "a.jsonl, row 1"),
        ("a.json", '["left", "fly"]', "a.json, row 1: .*fly"),
        ("a.jsonl", '{"key": 1}\n', "no 'action' column"),
        ("a.json", "[]", "no actions"),
        ("a.json", "{}", "expected a list"),
        ("a.json", "[1", "a.json"),
        ("a.txt", "1", "a.txt: actions come as"),
        ("a.mkv", "", "a.mkv: no .jsonl"),
    ],
)
def test_a_file_without_playable_actions_is_named_with_its_row(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        read_actions(tmp_path / name, ACTIONS)
    assert "\n" not in str(caught.value)


def test_nothing_is_played_when_an_action_of_a_list_is_wrong(tmp_path, play_headless):
    world = FakeWorld()
    with pytest.raises(InputError, match="row 1"):
        play_headless(world, frames=10, actions=[LEFT, 99], out=tmp_path / "clip.mp4")
    assert not world.calls and not list(tmp_path.iterdir())


# The start


def write_picture(path: Path, height: int, width: int, colours: list[tuple[int, int, int]]) -> None:
    """One frame per colour; .png or .mp4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png" if path.suffix == ".png" else "libx264", rate=10)
        stream.width, stream.height = width, height
        stream.pix_fmt = "rgb24" if path.suffix == ".png" else "yuv420p"
        for colour in colours:
            frame = np.broadcast_to(np.uint8(colour), (height, width, 3))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))


def test_a_picture_is_letterboxed_to_the_aspect_of_the_world(tmp_path):
    write_picture(tmp_path / "wide.png", 100, 400, [(200, 100, 50)])
    start = load_start(tmp_path / "wide.png", 48, 64)
    assert start.shape == (1, 48, 64, 3) and start.dtype == np.uint8
    assert (start[0, :16] == 0).all() and (start[0, 32:] == 0).all()
    assert np.abs(start[0, 16:32].astype(int) - (200, 100, 50)).max() <= 1


def test_a_tall_picture_gets_its_bars_at_the_sides(tmp_path):
    write_picture(tmp_path / "tall.png", 300, 100, [(255, 255, 255)])
    start = load_start(tmp_path / "tall.png", 48, 64)
    assert (start[0, :, 24:40] > 250).all() and (start[0, :, :24] == 0).all() and (start[0, :, 40:] == 0).all()


def test_shrinking_a_picture_averages_areas(tmp_path):
    checkerboard = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, axis=-1)
    with av.open(str(tmp_path / "c.png"), "w") as container:
        stream = container.add_stream("png", rate=1)
        stream.width = stream.height = 64
        stream.pix_fmt = "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(checkerboard, format="rgb24")))
    start = load_start(tmp_path / "c.png", 16, 16)
    assert np.abs(start.astype(int) - 127).max() <= 2


def test_a_clip_starts_a_game_with_its_last_frames_at_the_rate_of_the_world(tmp_path):
    colours = [(i, i, i) for i in range(20, 220, 2)]
    write_picture(tmp_path / "clip.mp4", 48, 64, colours)
    assert len(load_start(tmp_path / "clip.mp4", 48, 64)) == MAX_FRAMES < 100
    start = load_start(tmp_path / "clip.mp4", 48, 64, fps=5)
    assert len(start) == 50
    assert start[-1].mean() == pytest.approx(216, abs=4)


@pytest.mark.parametrize("content", [b"", b"hello, this is not a picture\n" * 50, b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
@pytest.mark.parametrize("name", ["start.png", "start.txt", "start.mp4"])
def test_what_is_no_picture_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name) as caught:
        load_start(tmp_path / name, 48, 64)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["absent.png", "."])
def test_an_absent_picture_or_a_folder_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="no such file|a folder"):
        load_start(tmp_path / name, 48, 64)


def test_a_play_begins_with_the_picture_it_was_given(tmp_path):
    write_picture(tmp_path / "start.png", 24, 32, [(160, 160, 160)])
    world = FakeWorld()
    options = PlayOptions(headless=True, frames=1, start=str(tmp_path / "start.png"), out=tmp_path / "clip.mp4")
    play(options, load_world=lambda *_, **__: world)
    frames, _, _ = read_clip(tmp_path / "clip.mp4")
    assert np.median(frames[0][:96]) == pytest.approx(164, abs=5)


def test_a_start_that_the_world_does_not_have_is_refused():
    with pytest.raises(InputError, match=r"--start 4: fake has starts 0\.\.3"):
        play(PlayOptions(headless=True, start="4"), load_world=load_fake)


@pytest.mark.parametrize("start", [None, "0"])
def test_a_world_without_starts_asks_for_a_picture(tmp_path, start):
    def load(*_, **__):
        return FakeWorldWithoutStarts()

    with pytest.raises(InputError, match="fake has no starts of its own.*--start FILE") as caught:
        play(PlayOptions(headless=True, start=start), load_world=load)
    assert str(caught.value).startswith("--start 0: ") is (start is not None)
    write_picture(tmp_path / "start.png", 24, 32, [(160, 160, 160)])
    options = PlayOptions(headless=True, frames=2, start=str(tmp_path / "start.png"))
    assert play(options, load_world=load)["frames"] == 2


# The command


def test_without_a_display_it_says_so_and_writes_a_clip_here(tmp_path, monkeypatch, capsys):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    stats = play(PlayOptions(), load_world=load_fake)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "no display here: playing without a window"
    assert lines[-1] == "wrote worldgen-fake.mp4"
    frames, _, _ = read_clip(tmp_path / "worldgen-fake.mp4")
    assert len(frames) == stats["frames"] == 300
    assert [p.name for p in tmp_path.iterdir()] == ["worldgen-fake.mp4"]


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"DISPLAY": ""}, "linux", False),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"SDL_VIDEODRIVER": "dummy"}, "linux", True),
        ({}, "darwin", True),
        ({}, "win32", True),
    ],
)
def test_a_display_is_found_where_there_is_one(environ, platform, expected):
    assert has_display(environ, platform) is expected


def test_json_on_standard_output_is_nothing_but_json(capsys):
    stats = play(PlayOptions(headless=True, frames=3, json="-"), load_world=load_fake)
    assert json.loads(capsys.readouterr().out) == stats


def test_json_in_a_file_holds_the_figures(tmp_path):
    stats = play(PlayOptions(headless=True, frames=3, json=str(tmp_path / "a" / "stats.json")), load_world=load_fake)
    assert json.loads((tmp_path / "a" / "stats.json").read_text()) == stats
    assert stats["frames"] == 3 and stats["backend"] == "fake"


def test_the_same_seed_plays_the_same_clip(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        play(PlayOptions(headless=True, frames=20, seed=3, out=tmp_path / name), load_world=load_fake)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def never(*_: object, **__: object) -> FakeWorld:
    raise AssertionError("refused too late: the world was already loaded")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"out": Path("/proc/nowhere/clip.mp4")}, "--out /proc/nowhere/clip.mp4 cannot be written"),
        ({"out": Path("clip.avi")}, "clip.avi: a clip is .mp4 or .gif"),
        ({"json": "/proc/nowhere/stats.json"}, "--json .* cannot be written"),
        ({"record": Path("/proc/nowhere/s.json")}, "--record .* cannot be written"),
        ({"recordings": Path("/proc/nowhere")}, "--recordings .* cannot be written"),
        ({"frames": 0}, "--frames is at least 1, got 0"),
        ({"scale": 0}, "--scale is at least 1, got 0"),
        ({"nfe": 3}, "--nfe .*3"),
        ({"actions": "absent.jsonl"}, "--actions absent.jsonl: no such file"),
        ({"replay": Path("absent.json")}, "absent.json"),
    ],
)
def test_what_cannot_work_is_said_in_one_line_before_the_world_is_loaded(options, words):
    with pytest.raises(InputError, match=words) as caught:
        play(PlayOptions(headless=True, **options), load_world=never)
    assert "\n" not in str(caught.value)


def test_an_out_folder_is_made_and_a_folder_is_no_out(tmp_path):
    play(PlayOptions(headless=True, frames=2, out=tmp_path / "new" / "clip.mp4"), load_world=load_fake)
    assert (tmp_path / "new" / "clip.mp4").is_file()
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        play(PlayOptions(headless=True, out=tmp_path / "folder.mp4"), load_world=never)


@pytest.mark.parametrize("reason", ["no terminal", "no scale", "died"])
def test_a_play_that_fails_before_its_first_frame_leaves_what_was_written_before(tmp_path, reason):
    class Dying(FakeWorld):
        def step(self, action):
            raise RunError("the graphics card is gone")

    files = {"record": tmp_path / "s.json", "json": str(tmp_path / "f.json"), "out": tmp_path / "c.mp4"}
    for path in files.values():
        Path(path).write_text("older")
    how = {"terminal": True} if reason == "no terminal" else {"headless": True, "scale": int(reason == "died")}
    with pytest.raises((InputError, RunError), match="this is none|--scale|graphics card"):
        play(PlayOptions(**files, **how), load_world=lambda *_, **__: Dying())
    assert [path.read_text() for path in tmp_path.iterdir()] == ["older"] * 3


@pytest.mark.parametrize("name", ["record", "out", "recordings", "actions", "start"])
def test_what_a_blind_test_does_not_use_is_refused(tmp_path, name):
    value = {"actions": "random", "start": "0", "out": Path("c.mp4")}.get(name, tmp_path / "x")
    with pytest.raises(InputError, match=f"--blind .* leave out --{name}"):
        check_options(PlayOptions(blind=tmp_path, **{name: value}), has_window=True)
    assert not list(tmp_path.iterdir())


# The legend


def test_the_legend_lights_the_keys_of_the_action_and_names_it():
    lit = [draw_legend(256, ACTIONS, action) for action in range(6)]
    for i, strip in enumerate(lit):
        assert strip.shape == lit[0].shape
        assert all((i == j) == np.array_equal(strip, other) for j, other in enumerate(lit))
    assert legend_keys(ACTIONS) == ("left", "up", "down", "right", "space")
    assert pressed_keys(ACTIONS, LEFT) == {"left"} and pressed_keys(ACTIONS, IDLE) == frozenset()


def test_the_legend_shows_every_button_that_is_on():
    buttons = ActionMap("multi_binary", (2, 2, 2), ("a", "b", "c"), (("x",), ("y",), ("z",)))
    assert pressed_keys(buttons, [1, 0, 1]) == {"x", "z"}


def test_a_world_without_keys_has_a_legend_of_names():
    mouse = ActionMap("box", (0, 0), ("dx", "dy"), low=(-1, -1), high=(1, 1))
    assert not np.array_equal(draw_legend(256, mouse, [0.5, 0.0]), draw_legend(256, mouse, [0.0, 0.5]))


def test_text_is_readable_pixels_and_is_cut_at_the_edge():
    assert text_mask("T").astype(int).tolist()[0] == [1, 1, 1, 1, 1]
    assert text_mask("T").sum() == 11
    assert np.array_equal(text_mask("abc"), text_mask("ABC"))
    letters = [text_mask(c).tobytes() for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"]
    assert len(set(letters)) == 36
    picture = np.zeros((10, 10, 3), np.uint8)
    draw_text(picture, "HELLO", -3, -2, (255, 255, 255))
    draw_text(picture, "HELLO", 8, 8, (255, 255, 255))
    assert picture.any()
