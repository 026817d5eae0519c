"""The window, under SDL's dummy drivers: keys in, frames and sound out."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
from fake_world import ACTIONS, FakeWorld, FakeWorldWithoutStarts
from waiting import until

from worldgen.errors import InputError, RunError
from worldgen.play.background import InBackground
from worldgen.play.commands import LED
from worldgen.play.loop import Player
from worldgen.play.main import play
from worldgen.play.options import PlayOptions
from worldgen.play.recorder import EpisodeRecorder
from worldgen.play.session import Session, SessionLog

pygame = pytest.importorskip("pygame")

IDLE, LEFT, RIGHT, UP, DOWN, JUMP = range(6)


@pytest.fixture(autouse=True)
def dummy_drivers(monkeypatch, tmp_path):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    monkeypatch.setenv("WORLDGEN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield
    pygame.quit()


def key(name: str, is_down: bool = True) -> None:
    code = pygame.key.key_code(name)
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN if is_down else pygame.KEYUP, key=code))


def open_window(world: FakeWorld, **how):
    from worldgen.play.window import Window

    return Window(Player(world, log=SessionLog(world, name="fake")), **how)


def run_with(window, script, seconds: float = 30.0, run=None) -> None:
    """Runs the window while `script(window)` presses keys from another thread; its end quits the window."""
    failures = []

    def press() -> None:
        try:
            script(window)
        except BaseException as error:
            failures.append(error)
        finally:
            window._quit = True

    thread = threading.Thread(target=press)
    thread.start()
    (window.run if run is None else run)()
    thread.join(seconds)
    if failures:
        raise failures[0]


def press_in(monkeypatch, script) -> None:
    """The windows that play() opens are run_with() the script."""
    from worldgen.play import window

    class Scripted(window.Window):
        def run(self):
            run_with(self, script, run=super().run)

    monkeypatch.setattr(window, "Window", Scripted)


def full(*_):
    raise OSError(28, "No space left on device")


def run_beside(script, run, end):
    """run() in this thread while script() presses keys in another; end() where the script fails."""
    failures = []

    def press() -> None:
        try:
            script()
        except BaseException as error:
            failures.append(error)
            end()

    thread = threading.Thread(target=press)
    thread.start()
    result = run()
    thread.join(30)
    if failures:
        raise failures[0]
    return result


def test_sixty_frames_are_played_with_the_keys_that_are_held():
    world = FakeWorld(fps=100)
    window = open_window(world, max_frames=60)

    def script(window):
        stats = window.live.player.stats
        until(lambda: stats.frames >= 15)
        key("left")
        until(lambda: stats.frames >= 30)
        key("space")  # first, so that no frame in between finds nothing held
        key("left", False)
        until(lambda: stats.frames >= 45)
        key("space", False)
        until(lambda: window.live.is_over)

    run_with(window, script)
    actions = [call for call in world.calls if not isinstance(call, tuple)]
    assert len(actions) == 60
    runs = [a for i, a in enumerate(actions) if i == 0 or actions[i - 1] != a]
    assert runs == [IDLE, LEFT, JUMP, IDLE]
    assert all(actions.count(a) > 5 for a in (LEFT, JUMP))


def test_the_window_shows_the_newest_frame_enlarged_by_a_whole_number():
    window = open_window(FakeWorld(fps=50), max_frames=20)
    shots = []

    def script(window):
        until(lambda: window.live.is_over)

    draw = window.view.draw

    def draw_and_look(now, is_paused):
        draw(now, is_paused)
        rect = window.view.rects()[0]
        picture = pygame.surfarray.array3d(window.display.screen.subsurface(rect)).swapaxes(0, 1)
        shots.append((picture, window.view.view.frame.image))

    window.view.draw = draw_and_look
    run_with(window, script)
    assert len(shots) >= 3
    for picture, image in shots[1:]:
        factor = picture.shape[0] // image.shape[0]
        large = image.repeat(factor, axis=0).repeat(factor, axis=1)
        outside_messages = slice(None, large.shape[0] * 3 // 4)
        assert factor >= 4 and np.array_equal(picture[outside_messages], large[outside_messages])
    assert np.array_equal(shots[-1][1], window.live.player.frame.image)


def test_the_rate_of_the_world_is_kept():
    started = time.perf_counter()
    stats = play(PlayOptions(frames=50), load_world=lambda *_, **__: FakeWorld(fps=50))
    assert time.perf_counter() - started > 0.95
    assert stats["frames"] == 50
    assert 0 < stats["fps"] < 53  # a busy machine drops frames; none is shown too soon


def test_a_slow_world_does_not_slow_the_window_down():
    window = open_window(FakeWorld(fps=30, frame_seconds=0.3))
    toggled = []

    def script(window):
        until(lambda: window.live.player.stats.frames >= 1)
        for _ in range(5):
            before, wanted = time.perf_counter(), not window.view.shows_hud
            key("f1")
            until(lambda wanted=wanted: window.view.shows_hud is wanted)
            toggled.append(time.perf_counter() - before)

    run_with(window, script)
    assert min(toggled) < 0.2  # of 0.3 that a frame takes
    assert window.live.player.stats.dropped >= 5


def test_pause_step_save_load_restart_and_nfe_work_from_the_keyboard():
    world = FakeWorld(fps=100)
    window = open_window(world)
    player, stats, live = window.live.player, window.live.player.stats, window.live

    def script(window):
        until(lambda: stats.frames >= 5)
        key("p")
        until(lambda: live.paused)
        time.sleep(0.05)
        frames = stats.frames
        key("n")
        until(lambda: stats.frames == frames + 1)
        key("f5")
        until(lambda: live._saved is not None)
        saved = player.frame
        key("n")
        until(lambda: stats.frames == frames + 2)
        assert player.frame is not saved
        key("f9")
        until(lambda: player.frame is saved)
        for n in (4, 1):
            key(str(n))
            until(lambda n=n: world.nfe == n)
        key("f8")
        until(lambda: world.nfe == 2)
        seed = player.seed
        key("r")
        until(lambda: player.seed == seed + 1)
        assert stats.frames == frames + 2
        key("escape")
        until(lambda: live.is_over)

    run_with(window, script)


def test_holding_backspace_rewinds_until_it_is_let_go():
    window = open_window(FakeWorld(fps=100))
    player = window.live.player

    def script(window):
        until(lambda: player.stats.frames >= 60)
        key("backspace")
        until(lambda: len(player.log.session().actions) < 30)
        key("backspace", False)
        until(lambda: not window.live.rewinding)
        frames = player.stats.frames
        until(lambda: player.stats.frames > frames + 5)

    run_with(window, script)


def test_a_key_that_goes_up_while_the_window_is_elsewhere_is_not_held_for_ever():
    world = FakeWorld(fps=100)
    window = open_window(world)

    def script(window):
        key("left")
        until(lambda: LEFT in world.calls)
        pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSLOST))
        until(lambda: world.calls[-1] == IDLE)

    run_with(window, script)


def test_the_help_the_figures_and_a_message_lie_over_the_picture():
    window = open_window(FakeWorld())

    def picture() -> np.ndarray:
        window.view.draw(time.perf_counter())
        return pygame.surfarray.array3d(window.display.screen).copy()

    plain = picture()
    window._run("hud")
    figures = picture()
    window._run("hud")
    window._run("help")
    helped = picture()
    window._run("help")
    window._say("hello")
    said = picture()
    different = [np.mean(plain != other) for other in (figures, helped, said)]
    assert all(0.002 < share < 0.9 for share in different)
    assert len({round(share, 4) for share in different}) == 3


@pytest.mark.parametrize("size", [(320, 200), (1000, 300), (40, 60), (33, 2000), (1, 1)])
def test_any_size_of_window_shows_the_whole_picture(size):
    window = open_window(FakeWorld(scale=3))
    window.display.screen = pygame.display.set_mode(size, pygame.RESIZABLE)
    window._run("hud")
    window._run("help")
    window.view.draw(time.perf_counter())
    rect = window.view.rects()[0]
    assert rect.width <= max(size[0], 1) and rect.height <= max(size[1], 1)
    if size[0] >= 96 and size[1] >= 150:
        assert rect.width % 96 == 0 and rect.height % 72 == 0


def test_a_screenshot_is_the_picture_and_overwrites_none(tmp_path):
    window = open_window(FakeWorld(), folder=tmp_path)
    window._run("screenshot")
    window._run("screenshot")
    first = pygame.image.load(tmp_path / "worldgen-fake-1.png")
    assert (tmp_path / "worldgen-fake-2.png").exists()
    small = pygame.surfarray.array3d(pygame.transform.scale(first, (32, 24))).swapaxes(0, 1)
    assert np.array_equal(small, window.live.player.frame.image)


def test_a_screenshot_that_cannot_be_written_is_a_message(tmp_path):
    window = open_window(FakeWorld(), folder=tmp_path / "absent")
    window._run("screenshot")
    assert "no screenshot" in window.display.message


def test_an_error_of_the_world_ends_the_window_and_is_raised():
    class Broken(FakeWorld):
        def step(self, action):
            raise InputError("engine lost")

    with pytest.raises(InputError, match="engine lost"):
        open_window(Broken()).run()
    assert not pygame.display.get_init()


def test_a_display_that_cannot_be_opened_is_said_and_a_clip_is_written(monkeypatch, tmp_path, capsys):
    pygame.quit()
    monkeypatch.setenv("SDL_VIDEODRIVER", "no-such-driver")
    stats = play(PlayOptions(frames=5), load_world=lambda *_, **__: FakeWorld())
    assert stats["frames"] == 5
    assert "playing without a window" in capsys.readouterr().out
    assert (tmp_path / "worldgen-fake.mp4").exists()


def test_where_no_window_opens_the_clip_that_was_asked_for_is_whole(monkeypatch, tmp_path):
    pygame.quit()
    monkeypatch.setenv("SDL_VIDEODRIVER", "no-such-driver")
    play(PlayOptions(frames=5, out=tmp_path / "o.mp4"), load_world=lambda *_, **__: FakeWorld())
    with av.open(str(tmp_path / "o.mp4")) as clip:
        assert len(list(clip.decode(video=0))) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["o.mp4"]


def test_a_clip_that_is_written_beside_the_window_has_its_scale_and_legend(tmp_path):
    options = PlayOptions(frames=5, out=tmp_path / "o.mp4", scale=2, legend=False)
    play(options, load_world=lambda *_, **__: FakeWorld(fps=100))
    with av.open(str(tmp_path / "o.mp4")) as clip:
        assert (clip.streams.video[0].width, clip.streams.video[0].height) == (2 * 32, 2 * 24)


def test_a_game_that_cannot_begin_leaves_no_clip_behind(tmp_path):
    with pytest.raises(ValueError):
        play(PlayOptions(seed=-1, out=tmp_path / "o.mp4"), load_world=lambda *_, **__: FakeWorld())
    assert not list(tmp_path.iterdir())
    assert not any(thread.name == "worldgen recorder" for thread in threading.enumerate())


def test_a_play_that_is_interrupted_before_its_first_frame_leaves_no_clip_behind(monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Player, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        play(PlayOptions("fake", out=tmp_path / "o.mp4"), load_world=lambda *_, **__: FakeWorld())
    assert not list(tmp_path.iterdir())
    assert not any(thread.name == "worldgen recorder" for thread in threading.enumerate())


def test_nothing_goes_back_while_a_recording_chooses_the_actions(tmp_path):
    pygame.image.save(pygame.Surface((32, 24)), str(tmp_path / "photo.png"))
    window = open_window(FakeWorld(fps=100), choose=lambda p: LEFT if p.position < 5 else None, is_led=True)
    window.live.quick_save()
    going_back = [lambda name=name: window._run(name) for name in ("rewind", "load", "fork")]
    for go_back in (*going_back, lambda: window._drop(tmp_path / "photo.png")):
        window.display.say("")
        go_back()
        assert window.display.message == LED

    def script(window):
        until(lambda: window.live.paused)  # it is over: a person plays on, from an earlier moment too
        key("backspace")
        until(lambda: window.live.player.position < 5)

    run_with(window, script)
    assert [call for call in window.live.player.world.calls if not isinstance(call, tuple)] == [LEFT] * 5


def test_a_replay_in_the_window_is_one_whatever_is_pressed(tmp_path):
    class Distracted(FakeWorld):
        def step(self, action):
            if len(self.calls) in (10, 30):
                key("f5" if len(self.calls) == 10 else "f9")
            return super().step(action)

    world = FakeWorld()
    player = Player(world, log=SessionLog(world, name="fake"))
    for i in range(60):
        player.step(i % 6)
    session = player.log.session()
    session.save(tmp_path / "s.json")
    options = PlayOptions(replay=tmp_path / "s.json", frames=60, record=tmp_path / "again.json")
    play(options, load_world=lambda *_, **__: Distracted(fps=100))
    assert Session.load(tmp_path / "again.json").actions == session.actions


def test_a_play_in_the_window_is_recorded_and_its_replay_is_identical(tmp_path, capsys):
    def load(*_, **__):
        return FakeWorld(fps=200, ends_after=25)

    (tmp_path / "a.json").write_text('["left", "up", "jump"]')
    options = PlayOptions(world="fake", frames=40, actions=str(tmp_path / "a.json"), record=tmp_path / "s.json")
    play(options, load_world=load)
    assert Session.load(tmp_path / "s.json").actions[:4] == [LEFT, UP, JUMP, LEFT]
    play(PlayOptions(replay=tmp_path / "s.json", frames=40), load_world=load)
    play(PlayOptions(replay=tmp_path / "s.json", headless=True), load_world=load)
    assert "replayed 40 frames: identical" in capsys.readouterr().out


def test_a_picture_dropped_on_the_window_is_what_the_game_goes_on_from(tmp_path):
    picture = np.full((100, 300, 3), 200, np.uint8)
    pygame.image.save(pygame.surfarray.make_surface(picture.swapaxes(0, 1)), str(tmp_path / "photo.png"))
    (tmp_path / "notes.txt").write_text("no picture")
    window = open_window(FakeWorld(fps=100))
    player = window.live.player

    def script(window):
        until(lambda: player.stats.frames >= 5)
        pygame.event.post(pygame.event.Event(pygame.DROPFILE, file=str(tmp_path / "notes.txt")))
        until(lambda: "notes.txt" in window.display.message)
        pygame.event.post(pygame.event.Event(pygame.DROPFILE, file=str(tmp_path / "photo.png")))
        until(lambda: isinstance(player.start, np.ndarray))
        until(lambda: player.position >= 5)

    run_with(window, script)
    assert player.frame.image[12].mean() > 150 and player.frame.image[0].mean() < 20  # letterboxed: 3:1 in 4:3
    session = player.log.session()
    assert any("start" in change for change in session.changes)


def pad(kind, **facts) -> None:
    pygame.event.post(pygame.event.Event(kind, instance_id=0, **facts))


def test_a_gamepad_plays_and_being_unplugged_lets_go_of_all_it_held():
    world = FakeWorld(fps=100)
    window = open_window(world)

    def script(window):
        pad(pygame.JOYAXISMOTION, axis=0, value=-0.9)
        until(lambda: world.calls[-1] == LEFT)
        pad(pygame.JOYAXISMOTION, axis=0, value=-0.4)  # between pressed and released nothing changes
        pad(pygame.JOYBUTTONDOWN, button=0)
        time.sleep(0.05)
        pad(pygame.JOYAXISMOTION, axis=0, value=0.0)
        until(lambda: world.calls[-1] == JUMP)
        pad(pygame.JOYBUTTONUP, button=0)
        pad(pygame.JOYHATMOTION, value=(0, 1))
        until(lambda: world.calls[-1] == UP)
        pad(pygame.JOYDEVICEREMOVED)
        until(lambda: world.calls[-1] == IDLE)
        until(lambda: "unplugged" in window.display.message)
        pad(pygame.JOYBUTTONDOWN, button=7)
        until(lambda: window.live.paused)

    run_with(window, script)


def test_the_keys_can_be_chosen_and_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLDGEN_HOME", str(tmp_path))
    window = open_window(FakeWorld(fps=100))

    def script(window):
        key("k")
        until(lambda: "left" in window.display.message)
        for name in ("a", "escape", "escape", "escape", "x"):  # left, up, down, right, space
            key(name)
        until(lambda: "saved" in window.display.message)

    run_with(window, script)
    world = FakeWorld(fps=100)

    def script_again(window):
        key("a")
        key("left")
        until(lambda: LEFT in world.calls)
        key("a", False)
        until(lambda: world.calls[-1] == IDLE)  # "left" itself does nothing now
        key("x")
        until(lambda: JUMP in world.calls)

    run_with(open_window(world), script_again)


def test_a_recording_begun_in_the_window_is_a_clip_and_training_data(tmp_path):
    from worldgen.data.check import check_folder

    window = open_window(FakeWorld(fps=60, sample_rate=24000), folder=tmp_path)

    def script(window):
        until(lambda: window.live.player.stats.frames >= 5)
        key("v")
        until(lambda: "recording to" in window.display.message)
        frames = window.live.player.stats.frames
        until(lambda: window.live.player.stats.frames >= frames + 30)

    run_with(window, script)  # the window is closed in the middle of it
    folder = tmp_path / "worldgen-fake-1"
    reports = {f.report.path: f.report for f in check_folder(folder).files}
    assert {report.status for report in reports.values()} == {"ok"}
    (recording,) = reports.values()  # the clip, enlarged and with a legend, is not trained on
    assert Path(recording.path).name == "play-0000.mkv"
    assert recording.num_frames >= 30 and recording.has_actions and recording.has_sound
    with av.open(str(tmp_path / "worldgen-fake-1.mp4")) as clip:
        assert len(list(clip.decode(video=0))) == recording.num_frames


def test_a_recording_begun_in_the_window_overwrites_no_clip_without_its_folder(tmp_path):
    (tmp_path / "worldgen-fake-1.mp4").write_text("of a folder that was moved away")
    window = open_window(FakeWorld(fps=60), folder=tmp_path)

    def script(window):
        key("v")
        until(lambda: "recording to worldgen-fake-2" in window.display.message)

    run_with(window, script)
    assert (tmp_path / "worldgen-fake-1.mp4").read_text() == "of a folder that was moved away"
    assert (tmp_path / "worldgen-fake-2.mp4").stat().st_size > 500


def test_a_recording_that_cannot_be_written_is_a_message_and_the_game_goes_on(tmp_path):
    (tmp_path / "file").write_text("in the way")
    window = open_window(FakeWorld(fps=100), folder=tmp_path / "file")

    def script(window):
        key("v")
        until(lambda: "no recording" in window.display.message)
        frames = window.live.player.stats.frames
        until(lambda: window.live.player.stats.frames > frames + 5)

    run_with(window, script)


def test_a_recording_that_fails_is_said_at_once_and_ends_the_play_with_the_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(EpisodeRecorder, "stepped", full)
    games, states = [], []

    def script(window):
        games.append(window.live)
        player = window.live.player
        key("v")
        until(lambda: "ended early: [Errno 28] No space left" in window.display.message)
        states.append((window._commands.state, player.recorder))
        frames = player.stats.frames
        until(lambda: player.stats.frames > frames + 5)  # the game goes on

    press_in(monkeypatch, script)
    options = PlayOptions("fake", captures=tmp_path, record=tmp_path / "s.json", json=str(tmp_path / "f.json"))
    with pytest.raises(RunError, match="worldgen-fake-1 ended early: .*No space left"):
        play(options, load_world=lambda *_, **__: FakeWorld(fps=100))
    assert states == [("", None)] and not pygame.display.get_init()
    stats = json.loads((tmp_path / "f.json").read_text())
    assert stats["frames"] == len(Session.load(tmp_path / "s.json").actions) > 5
    assert stats["seconds"] == round(games[0].seconds, 4)  # that were played, not the world's own


def test_of_several_recordings_that_fail_the_first_is_told_at_the_end(monkeypatch, tmp_path):
    monkeypatch.setattr(EpisodeRecorder, "stepped", full)
    window = open_window(FakeWorld(fps=100), folder=tmp_path)

    def script(window):
        key("v")
        until(lambda: window.problem)
        key("v")
        until(lambda: "worldgen-fake-2 ended early" in window.display.message)

    run_with(window, script)
    assert "worldgen-fake-1 ended early" in window.problem


def test_the_error_of_a_world_that_died_is_not_hidden_by_a_recording_that_failed(monkeypatch, tmp_path):
    class Dying(FakeWorld):
        dies = False

        def step(self, action):
            if self.dies:
                raise RunError("the graphics card is gone")
            return super().step(action)

    monkeypatch.setattr(EpisodeRecorder, "stepped", full)
    world = Dying(fps=100)
    window = open_window(world, folder=tmp_path)

    def script(window):
        key("v")
        until(lambda: window.problem)
        world.dies = True
        until(lambda: window.live.is_over)

    with pytest.raises(RunError, match="graphics card"):
        run_with(window, script)


def test_after_a_recording_that_failed_the_start_screen_is_back_and_says_so(monkeypatch, tmp_path, capsys):
    from worldgen.play import console
    from worldgen.play.shelf import Found
    from worldgen.play.window_menu import Menu

    found = Found("fake", tmp_path / "fake", FakeWorld().config, None)
    monkeypatch.setattr(console, "find_worlds", lambda folder: [found])
    monkeypatch.setattr(EpisodeRecorder, "stepped", full)
    menus = []

    class Scripted(Menu):
        def run(self, *loaded):
            menus.append(self)

            def script():
                until(lambda: self._preview is not None and self._preview.image is not None)
                said.append(self.display.message)
                key("return" if len(said) == 1 else "escape")

            return run_beside(script, lambda: Menu.run(self, *loaded), lambda: key("escape"))

    def script(window):
        key("v")
        until(lambda: window.problem)

    said: list[str] = []
    monkeypatch.setattr("worldgen.play.window_menu.Menu", Scripted)
    press_in(monkeypatch, script)
    stats = play(PlayOptions(captures=tmp_path), load_world=lambda *_, **__: FakeWorld(fps=100))
    assert len(menus) == 2 and "worldgen-fake-1 ended early" in said[1]
    assert stats["frames"] > 0 and "worldgen-fake-1 ended early" in capsys.readouterr().err


def test_the_window_is_gone_before_the_rest_of_a_clip_is_written(monkeypatch, tmp_path):
    close, is_open = InBackground.close, []

    def closing(recorder):
        is_open.append(pygame.display.get_init())
        close(recorder)

    monkeypatch.setattr(InBackground, "close", closing)
    options = PlayOptions("fake", frames=5, out=tmp_path / "o.mp4")
    play(options, load_world=lambda *_, **__: FakeWorld(fps=100))
    assert is_open == [False] and (tmp_path / "o.mp4").is_file()


def test_a_quick_save_is_there_after_the_window_was_closed(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLDGEN_HOME", str(tmp_path))
    window = open_window(FakeWorld(fps=100))

    def script(window):
        until(lambda: window.live.player.position >= 20)
        key("p")
        until(lambda: window.live.paused)
        key("f5")
        until(lambda: list((tmp_path / "saves").glob("fake-*.npz")))

    run_with(window, script)
    saved = window.live.player.frame.image
    window = open_window(FakeWorld(fps=100))

    def script_again(window):
        key("p")
        until(lambda: window.live.paused)
        key("f9")
        until(lambda: np.array_equal(window.live.player.frame.image, saved))
        (save,) = (tmp_path / "saves").glob("fake-*.npz")
        save.write_bytes(b"damaged")

    run_with(window, script_again)
    window = open_window(FakeWorld(fps=100))

    def script_damaged(window):
        key("f9")
        until(lambda: "damaged" in window.display.message)
        until(lambda: window.live.player.position > 20)

    run_with(window, script_damaged)


def test_the_start_screen_shows_the_worlds_and_plays_the_chosen_one(tmp_path):
    from worldgen.play.shelf import Found
    from worldgen.play.window_display import Display
    from worldgen.play.window_menu import Menu

    config = FakeWorld().config
    worlds = [Found(name, tmp_path / name, config, None) for name in ("a", "b")]
    worlds.append(Found("bad", tmp_path / "bad", None, None, "not JSON"))
    loaded = []

    def load(name):
        loaded.append(name)
        return FakeWorld(fps=50)

    display = Display((640, 480))
    menu = Menu(display, worlds, load)

    def moving():
        preview = menu._preview
        return menu.chosen == 1 and preview is not None and preview.image is not None

    def script():
        key("left")  # the last: damaged
        until(lambda: menu.chosen == 2)
        key("return")
        until(lambda: display.message == "not JSON")
        key("left")
        until(moving)
        first = menu._preview.image
        until(lambda: not np.array_equal(menu._preview.image, first))  # it moves
        key("return")

    choice = run_beside(script, menu.run, lambda: key("escape"))
    display.close()
    assert choice is not None and choice.found.name == "b" and loaded[-1] == "b"
    assert isinstance(choice.world, FakeWorld)


@pytest.mark.parametrize("is_quick", [False, True], ids=["loaded", "loading"])
def test_a_world_without_starts_is_played_from_a_dropped_picture(tmp_path, is_quick):
    from worldgen.play.shelf import Found
    from worldgen.play.window_display import Display
    from worldgen.play.window_menu import Menu

    pygame.image.save(pygame.Surface((32, 24)), str(tmp_path / "photo.png"))
    world = FakeWorldWithoutStarts()
    display = Display((640, 480))
    menu = Menu(display, [Found("a", tmp_path / "a", world.config, None)], lambda name: world)

    def script():
        if not is_quick:
            until(lambda: menu._preview is not None and not menu._preview._thread.is_alive())
        key("return")
        until(lambda: "drop a picture" in display.message and "--start FILE" in display.message)
        pygame.event.post(pygame.event.Event(pygame.DROPFILE, file=str(tmp_path / "photo.png")))

    choice = run_beside(script, menu.run, lambda: key("escape"))
    display.close()
    assert choice is not None and choice.world is world and choice.start.shape == (1, 24, 32, 3)
    assert not world.calls  # nothing was tried to begin from


def test_the_blind_test_counts_answers_and_not_the_keys_typed_before_a_clip(tmp_path):
    from worldgen.play.blind_test import Tally
    from worldgen.play.window_blind import BlindWindow
    from worldgen.play.window_display import Display

    truth = [True, False, False]

    class Questions:
        def __init__(self):
            self.asked = iter([*truth, True, True])  # one waits, one is in the making

        def question(self):
            from worldgen.play.recorded_clips import RecordedClip

            frames = np.zeros((3, 24, 32, 3), np.uint8)
            return RecordedClip(tmp_path / "a.mkv", 7, frames, frames, []), frames, next(self.asked)

    display, saves = Display((320, 240)), []
    tally = Tally("fake", "f", 2)
    window = BlindWindow(Questions(), tally, 50, display=display, on_answer=lambda: saves.append(1), limit=3)

    def script():
        for answer in ("left", "left", "g"):
            count = len(tally.answers)
            time.sleep(0.2)
            key(answer)
            until(lambda count=count: len(tally.answers) == count + 1)

    key("left")  # before anything is shown
    run_beside(script, window.run, lambda: key("escape"))
    display.close()
    assert [(a.is_real, a.said_real) for a in tally.answers] == [(True, True), (False, True), (False, False)]
    assert not any(thread.name == "worldgen questions" for thread in threading.enumerate())
    assert len(saves) == 3 and tally.summary()["num_right"] == 2
    tally.save(tmp_path / "t.json")
    assert Tally.load_or_new(tmp_path / "t.json", FakeWorld(hash="f")).answers == tally.answers
    with pytest.raises(InputError, match="another world"):
        Tally.load_or_new(tmp_path / "t.json", FakeWorld(hash="e"))


# Sound


def test_the_window_plays_the_sound_of_its_frames():
    window = open_window(FakeWorld(fps=50, sample_rate=24000), max_frames=30)
    pushed = []
    window.sound.push = lambda sound: pushed.append(sound.shape)
    window.run()
    assert pushed == [(480, 1)] * 30


def test_without_a_sound_device_the_window_says_so_and_plays_on(monkeypatch, capsys):
    monkeypatch.setenv("SDL_AUDIODRIVER", "no-such-driver")
    window = open_window(FakeWorld(fps=100, sample_rate=24000), max_frames=5)
    assert window.sound is None
    said = capsys.readouterr()
    assert "playing silently" in said.err and said.err.count("\n") == 1
    assert not said.out  # the figures of --json - go there
    window.run()
    assert window.live.player.stats.frames == 5


CLOSE_WHILE_PYTHON_IS_BUSY = """
import threading, time
import numpy as np
from worldgen.play.window_sound import SoundOut
def spin():
    while True:
        pass
threading.Thread(target=spin, daemon=True).start()
for _ in range(3):
    sound = SoundOut(22050, 2, 1260)
    sound.push(np.zeros((1260, 2), np.float32))
    time.sleep(0.03)
    sound.close()
"""


def test_the_sound_device_closes_while_its_thread_waits_for_python():
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", CLOSE_WHILE_PYTHON_IS_BUSY], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_world_without_sound_opens_no_sound_device():
    window = open_window(FakeWorld())
    assert window.sound is None


def test_the_keys_of_the_world_are_named_as_pygame_names_them():
    pygame.display.init()
    names = {pygame.key.name(pygame.key.key_code(name)) for keys in ACTIONS.keys for name in keys}
    assert names == {"left", "right", "up", "down", "space"}


def test_a_real_world_plays_sixty_frames_in_the_window(tiny_world_onnx):
    stats = play(PlayOptions(str(tiny_world_onnx), frames=60, actions="random", nfe=1))
    assert stats["frames"] == 60
    assert (stats["width"], stats["nfe"], stats["backend"]) == (16, 1, "onnxruntime")
