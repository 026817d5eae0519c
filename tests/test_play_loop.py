"""The player without window or files: stepping, counting, pacing, going back."""

from __future__ import annotations

import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from fake_world import FakeWorld

from worldgen.actions import ActionMap
from worldgen.play.governor import Effort
from worldgen.play.live import LivePlayer, View
from worldgen.play.loop import Player
from worldgen.play.pacing import Pacer
from worldgen.play.panel import Figures, hud_lines
from worldgen.play.rewind import Rewind
from worldgen.play.saves import read_save, write_save
from worldgen.play.session import SessionLog
from worldgen.play.ui_keys import COMMANDS, HeldKeys, bind_commands, help_lines

IDLE, LEFT, RIGHT = 0, 1, 2
STATS = {
    "frames", "seconds", "fps", "frame_ms_p50", "frame_ms_p95", "frame_ms_p99", "dropped", "sound_seconds", "width",
    "height", "backend", "nfe", "between",
}  # fmt: skip


class Clock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


class TimedWorld(FakeWorld):
    """Its steps take the given seconds of a clock."""

    def __init__(self, clock: Clock, seconds: list[float], **facts):
        super().__init__(**facts)
        self._clock, self._seconds = clock, seconds

    def step(self, action):
        self._clock.pass_(self._seconds[min(len(self.calls) - 1, len(self._seconds) - 1)])
        return super().step(action)


def live_player(clock: Clock, world: FakeWorld, choose=lambda player: LEFT, **how) -> LivePlayer:
    return LivePlayer(Player(world, clock=clock), choose, clock=clock, sleep=clock.pass_, **how)


def play_for(live: LivePlayer, clock: Clock, seconds: float) -> None:
    """What the game's thread does, in this one."""
    until = clock.now + seconds
    while clock.now < until and not live.is_over:
        clock.pass_(live.tick())
        live.take_view()


def test_the_figures_have_exactly_the_promised_keys_before_and_after_playing():
    player = Player(FakeWorld())
    assert set(player.summary()) == STATS
    player.step(LEFT)
    assert set(player.summary()) == STATS


def test_frame_ms_is_the_time_of_the_steps_and_nothing_else():
    clock = Clock()
    world = TimedWorld(clock, [0.010] * 98 + [0.050, 0.090])
    player = Player(world, clock=clock)
    for _ in range(100):
        player.step(LEFT)
        clock.pass_(1.0)  # drawing, encoding, waiting
    stats = player.summary()
    assert stats["frames"] == 100
    assert stats["frame_ms_p50"] == pytest.approx(10)
    assert 10 < stats["frame_ms_p99"] < 90
    assert stats["seconds"] == pytest.approx(98 * 0.010 + 0.14)
    assert stats["fps"] == pytest.approx(100 / stats["seconds"], rel=1e-3)


def test_an_ended_episode_goes_on_with_the_next_seed_and_the_same_start():
    world = FakeWorld(ends_after=3)
    player = Player(world, seed=7, start=2)
    frames = [player.step(LEFT) for _ in range(5)]
    assert [bool(f.terminated) for f in frames] == [False, False, True, False, False]
    assert world.calls == [("reset", 7), LEFT, LEFT, LEFT, ("reset", 8), LEFT]
    assert frames[3].image.min() >= 20 and frames[3].image.shape == frames[2].image.shape  # start 2 is brightness 30


def test_every_frame_of_a_world_with_sound_has_its_share_of_it():
    player = Player(FakeWorld(sample_rate=24000, fps=30, ends_after=10))
    assert player.frame.sound.shape == (800, 1)
    for _ in range(60):
        assert player.step(LEFT).sound.shape == (800, 1)
    assert player.summary()["sound_seconds"] == pytest.approx(2.0)


def test_a_world_without_sound_has_none():
    player = Player(FakeWorld())
    assert player.step(LEFT).sound is None
    assert player.summary()["sound_seconds"] == 0


def test_going_back_to_a_moment_plays_the_same_future():
    player = Player(FakeWorld(), seed=3)
    player.step(LEFT)
    point = player.save()
    first = [player.step(a).image for a in (RIGHT, LEFT, RIGHT)]
    assert player.load(point) is point.frame is player.frame
    again = [player.step(a).image for a in (RIGHT, LEFT, RIGHT)]
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_slightly_late_frame_keeps_the_rate():
    pacer = Pacer(fps=10)
    assert pacer.tick(0.0) == 0
    assert pacer.wait(0.04) == pytest.approx(0.06)
    assert pacer.tick(0.15) == 0  # 50 ms late
    assert pacer.wait(0.15) == pytest.approx(0.05)  # the next is due at 0.2, not 0.25


def test_ticks_that_passed_without_a_frame_are_missed_and_not_caught_up():
    pacer = Pacer(fps=10)
    pacer.tick(0.0)
    assert pacer.tick(0.45) == 3  # those of 0.1, 0.2 and 0.3: the one of 0.4 is this one
    assert pacer.wait(0.45) == pytest.approx(0.05)


def test_a_live_game_runs_at_the_rate_of_its_world():
    clock = Clock()
    live = live_player(clock, TimedWorld(clock, [0.01], fps=20))
    play_for(live, clock, 5.0)
    stats = live.player.summary(live.seconds)
    assert stats["frames"] == pytest.approx(100, abs=1)
    assert stats["dropped"] == 0
    assert stats["fps"] == pytest.approx(20, rel=0.02)


def test_a_world_slower_than_its_rate_drops_frames():
    clock = Clock()
    live = live_player(clock, TimedWorld(clock, [0.1], fps=20))
    play_for(live, clock, 5.0)
    stats = live.player.summary(live.seconds)
    assert stats["frames"] == pytest.approx(50, abs=1)
    assert stats["dropped"] == pytest.approx(50, abs=1)


def test_a_frame_that_was_replaced_before_it_was_taken_counts_as_dropped():
    clock = Clock()
    live = live_player(clock, FakeWorld(fps=10))
    for _ in range(5):
        live.tick()
        clock.pass_(0.1)
    assert live.player.stats.frames == 5
    assert live.player.stats.dropped == 4
    assert live.take_view().frame is live.player.frame
    assert live.take_view() is None


def test_a_pause_stops_the_world_and_is_neither_time_played_nor_frames_dropped():
    clock = Clock()
    live = live_player(clock, FakeWorld(fps=10))
    play_for(live, clock, 1.0)
    live.post(live.toggle_pause)
    play_for(live, clock, 60.0)
    frames = live.player.stats.frames
    assert frames in (10, 11)
    live.post(live.single_step)
    play_for(live, clock, 1.0)
    assert live.player.stats.frames == frames + 1
    live.post(live.toggle_pause)
    play_for(live, clock, 1.0)
    assert live.player.stats.frames == pytest.approx(frames + 11, abs=1)
    assert live.seconds == pytest.approx(2.0, abs=0.2)
    assert live.player.stats.dropped == 0


def test_a_game_ends_after_the_frames_it_was_given():
    clock = Clock()
    live = live_player(clock, FakeWorld(), max_frames=7)
    play_for(live, clock, 60.0)
    assert live.is_over
    assert live.player.stats.frames == 7


def test_a_choice_of_none_pauses_the_game():
    clock = Clock()
    actions = iter([LEFT, RIGHT])
    live = live_player(clock, FakeWorld(), choose=lambda player: next(actions, None))
    live.is_led = True
    play_for(live, clock, 2.0)
    assert live.paused
    assert live.player.stats.frames == 2
    assert not live.is_led  # a replay is over: whoever shows the game, it may go back


def test_quick_load_returns_to_the_quick_save_and_needs_one():
    clock = Clock()
    live = live_player(clock, FakeWorld(fps=10))
    play_for(live, clock, 0.5)
    assert not live.quick_load()
    saved = live.player.frame
    live.quick_save()
    play_for(live, clock, 0.5)
    assert live.player.frame is not saved
    assert live.quick_load()
    view = live.take_view()
    assert view.frame is saved and not view.is_step


@pytest.mark.parametrize("max_bytes", [64 << 20, 100_000])
def test_rewinding_goes_back_in_time_and_play_goes_on_from_there(max_bytes):
    clock = Clock()
    live = live_player(clock, FakeWorld(fps=10), rewind=Rewind(10, max_bytes))
    play_for(live, clock, 5.0)
    step = live.player.save().state.step
    live.rewinding = True
    play_for(live, clock, 1.0)
    live.rewinding = False
    back = live.player.save().state.step
    assert step - 25 <= back <= step - 15  # twice the speed of play
    play_for(live, clock, 1.0)
    assert live.player.save().state.step == pytest.approx(back + 10, abs=1)
    assert live.player.stats.dropped == 0


def test_rewinding_is_no_quicker_where_it_is_looked_after_more_often():
    clock = Clock()
    live = live_player(clock, FakeWorld(fps=10))
    play_for(live, clock, 5.0)
    step = live.player.save().state.step
    live.rewinding = True
    for _ in range(50):  # as the game's thread does, so that a key is noticed soon
        clock.pass_(min(live.tick(), 0.02))
    assert step - 25 <= live.player.save().state.step <= step - 15


def test_rewinding_past_what_is_remembered_stays_at_the_oldest_moment():
    clock = Clock()
    live = live_player(clock, FakeWorld(fps=10))
    play_for(live, clock, 1.0)
    live.rewinding = True
    play_for(live, clock, 10.0)
    assert live.player.save().state.step == 0


def test_the_memory_of_rewinding_is_bounded():
    world = FakeWorld()
    player = Player(world)
    rewind = Rewind(world.config.fps, max_bytes=100_000)
    most = 0
    for _ in range(500):
        rewind.note(player)
        player.step(LEFT)
        most = max(most, rewind.num_bytes)
    one = player.frame.image.nbytes
    assert 100_000 - 4 * one < most <= 100_000


def test_a_replayed_restart_in_the_middle_does_not_confuse_rewinding():
    clock = Clock()

    def choose(player):
        if player.stats.frames == 10:
            player.restart(50)
        return LEFT

    live = live_player(clock, FakeWorld(fps=10), choose=choose)
    play_for(live, clock, 2.0)
    live.rewinding = True
    play_for(live, clock, 5.0)
    assert (live.player.seed, live.player.position) == (50, 0)


def test_rewinding_goes_back_over_the_end_of_an_episode():
    clock = Clock()
    live = live_player(clock, FakeWorld(fps=10, ends_after=8))
    play_for(live, clock, 1.2)
    assert live.player.seed == 1
    live.rewinding = True
    play_for(live, clock, 3.0)
    assert (live.player.seed, live.player.position) == (0, 0)


def test_a_fork_plays_a_second_future_beside_the_first():
    clock = Clock()
    keys = [LEFT]
    live = live_player(clock, FakeWorld(fps=10), choose=lambda player: keys[0])
    play_for(live, clock, 1.0)
    moment = live.player.frame
    live.post(live.toggle_fork)
    first = []
    for _ in range(5):
        play_for(live, clock, 0.1)
        first.append(live.player.frame.image)
        assert np.array_equal(live._view.beside.image, moment.image) and not live._view.beside.is_left
    keys[0] = RIGHT
    live.post(live.toggle_fork)
    seen = []
    for _ in range(len(first)):
        play_for(live, clock, 0.1)
        seen.append((live.player.position, live._view.beside, live.player.frame.image))
    assert all(beside.is_left for _, beside, _ in seen)
    for position, beside, image in seen:
        k = position - live.fork.point.position
        if 1 <= k <= len(first):
            assert np.array_equal(beside.image, first[k - 1]) and not np.array_equal(image, first[k - 1])
    live.post(live.toggle_fork)
    play_for(live, clock, 0.2)
    assert live.fork is None and live._view.beside is None


def test_a_fork_ends_where_the_game_goes_elsewhere():
    clock = Clock()
    live = live_player(clock, FakeWorld(fps=10))
    play_for(live, clock, 1.0)
    live.post(live.toggle_fork)
    play_for(live, clock, 0.5)
    live.post(live.restart)
    play_for(live, clock, 0.5)
    assert live.fork is None


def test_a_fork_ends_where_a_moment_of_an_earlier_play_is_loaded_and_outlives_one_of_its_own(tmp_path):
    clock = Clock()

    def new_live(name: str) -> LivePlayer:
        world = FakeWorld(fps=10)
        player = Player(world, log=SessionLog(world, name=name), clock=clock)
        return LivePlayer(player, lambda player: LEFT, clock=clock, sleep=clock.pass_)

    earlier = new_live("earlier")
    play_for(earlier, clock, 2.0)
    write_save(tmp_path / "s.npz", earlier.quick_save(), earlier.player.log.session())
    live = new_live("this")
    play_for(live, clock, 1.0)
    live.toggle_fork()
    live.show_loaded(read_save(tmp_path / "s.npz", live.player))  # of the same seed, and later
    assert live.fork is None
    frames = live.player.position
    assert live.toggle_fork().startswith("future 1")
    play_for(live, clock, 0.5)
    assert live.quick_load() and live.fork is not None
    assert live.toggle_fork().startswith("future 2") and live.player.position == frames
    assert live.player.log.session() == earlier.player.log.session()


class WorldOnABusyMachine(FakeWorld):
    """A step takes 10 ms, 10 more for each denoising step and 20 for super-resolution, all times `load`."""

    load = 1.0

    def __init__(self, clock: Clock, **facts):
        super().__init__(**facts)
        self._clock = clock

    def step(self, action):
        self._clock.pass_(self.load * (0.01 + 0.01 * self.nfe + 0.02 * (self.upscaling == "network")))
        return super().step(action)


def test_too_slow_a_world_lowers_its_effort_shows_it_and_comes_back():
    clock, said = Clock(), []
    world = WorldOnABusyMachine(clock, fps=10, scale=2)
    log = SessionLog(world, name="fake")
    live = LivePlayer(Player(world, log=log, clock=clock), lambda player: LEFT, clock=clock, on_notice=said.append)

    def effort_after(seconds: float, load: float) -> tuple[int, str]:
        world.load = load
        play_for(live, clock, seconds)
        return world.nfe, world.upscaling

    def hud() -> str:
        return " ".join(hud_lines(live.player, Figures(10, effort=live.effort, wanted=live.governor.wanted)))

    assert effort_after(10, 1.0) == (2, "network") and not said and "too slow" not in hud()
    assert effort_after(20, 4.0) == (1, "nearest")
    assert said == ["too slow: nfe 1", "too slow: nfe 1, no super-resolution"]
    assert "too slow for nfe 2: nfe 1, no super-resolution" in hud()
    dropped = live.player.stats.dropped
    assert effort_after(10, 4.0) == (1, "nearest") and live.player.stats.dropped == dropped  # the rate is held now
    assert effort_after(60, 0.5) == (2, "network") and said[2:] == ["time to spare: nfe 1", "time to spare: nfe 2"]
    assert live.player.frame.image.shape == (48, 64, 3)
    session = log.session()
    assert [list(change)[1] for change in session.changes] == ["nfe", "upscaling", "upscaling", "nfe"]
    player, choose = (
        Player(FakeWorld(fps=10, scale=2), log=SessionLog(FakeWorld(scale=2), name="fake")),
        session.replay(),
    )
    while (action := choose(player)) is not None:
        player.step(action)
    assert player.log.session().checksums == session.checksums


def views_of(live: LivePlayer, clock: Clock, seconds: float) -> list[tuple[float, View]]:
    """What the window would be given, and when"""
    shown: list[tuple[float, View]] = []
    live._on_view = lambda view: shown.append((clock.now, view))
    play_for(live, clock, seconds)
    return shown


def test_an_in_between_picture_comes_first_and_its_frame_half_a_frame_later_with_its_sound():
    clock = Clock()
    world = TimedWorld(clock, [0.02], fps=10, between=True, sample_rate=8000)
    live = live_player(clock, world)
    play_for(live, clock, 0.31)
    shown = views_of(live, clock, 1.0)
    shown = shown[shown[0][1].is_step :][:18]  # it may have begun with a frame
    betweens, frames = shown[::2], shown[1::2]
    assert not any(view.is_step for _, view in betweens)
    assert all(view.is_step and view.frame.sound is not None and view.action == LEFT for _, view in frames)
    times = [at for at, _ in shown]
    assert np.diff(times) == pytest.approx(0.05)
    assert not any(np.array_equal(a.frame.image, b.frame.image) for (_, a), (_, b) in pairwise(shown))
    assert (live.player.stats.dropped, live.player.stats.frames) == (0, len(world.calls) - 1)


def test_a_command_comes_after_the_frame_whose_in_between_picture_is_on_screen():
    clock = Clock()
    live = live_player(clock, TimedWorld(clock, [0.02], fps=10, between=True), max_frames=3)
    live.tick()
    clock.pass_(0.2)
    live.tick()  # the second frame: its in-between picture
    assert live.take_view().frame.image is not live.player.frame.image
    seen = []
    live.post(lambda: seen.append(live.take_view().frame))
    live.tick()
    assert seen == [live.player.frame]
    play_for(live, clock, 1.0)
    assert live.is_over and live._view.frame is live.player.frame  # the last one too


def test_in_between_frames_are_given_up_where_they_cost_the_budget_and_said_in_the_figures():
    clock, said = Clock(), []
    world = TimedWorld(clock, [0.06], fps=10, between=True)
    live = live_player(clock, world, on_notice=said.append)
    figures = Figures(20.0, effort=live.effort, wanted=live.governor.wanted)
    assert hud_lines(live.player, figures)[0] == "20.0 of 20 fps with in-between"
    play_for(live, clock, 10)
    assert not world.shows_between and said == ["too slow: nfe 2"]
    assert live.player.summary()["between"] is False
    live.governor.is_on = False
    live.set_nfe(1)  # and by hand they are back
    assert world.shows_between and world.nfe == 1


def test_the_figures_say_all_that_the_player_knows():
    world = FakeWorld(fps=30)
    player = Player(world, seed=7)
    effort = Effort(2, "off")
    figures = Figures(29.7, (31.4, 62.8), 3, effort, effort, state="recording", action="left")
    player.step(LEFT)
    player.stats.dropped = 4
    lines = hud_lines(player, figures)
    assert lines[0] == "29.7 of 30 fps recording"
    assert lines[1].startswith("model ") and lines[1].endswith("p99")
    assert lines[2:] == [
        "key to picture 31 ms p50 63 p99", "1 frames, 4 dropped", "3 sound gaps", "fake nfe 2 seed 7", "left",
    ]  # fmt: skip
    for uncertainty, said in ((0.8, "uncertainty 0.80"), (1.3, "uncertainty 1.30: the model is guessing")):
        world.uncertainty = uncertainty
        player.step(LEFT)
        assert said in hud_lines(player, figures)


def test_holding_the_rate_is_switched_off_by_a_key_and_the_wanted_effort_is_back_at_once():
    clock = Clock()
    world = WorldOnABusyMachine(clock, fps=10, scale=2)
    live = LivePlayer(Player(world, clock=clock), lambda player: LEFT, clock=clock)
    world.load = 10.0
    play_for(live, clock, 40)
    assert (world.nfe, world.upscaling) == (1, "nearest")
    assert live.toggle_auto() is False
    play_for(live, clock, 40)
    assert (world.nfe, world.upscaling) == (2, "network")
    live.toggle_auto()
    live.set_nfe(4)
    assert (world.nfe, world.upscaling) == (4, "network")
    play_for(live, clock, 60)
    assert (world.nfe, world.upscaling) == (1, "nearest")
    live.stop()
    assert (world.nfe, world.upscaling) == (4, "network")  # for the next game


def test_a_key_is_timed_from_its_press_even_when_its_frame_is_replaced_unseen():
    clock = Clock()
    keys = HeldKeys(clock)
    live = live_player(clock, FakeWorld(fps=10))

    def choose(player):
        held, live.pressed_at = keys.take()
        return LEFT if held else IDLE

    live._choose = choose
    play_for(live, clock, 1.0)
    pressed = clock.now
    keys.press("left")
    for _ in range(3):  # nobody takes these views
        clock.pass_(live.tick())
        clock.pass_(0.1)
        live.tick()
    assert live.take_view().pressed_at == pressed
    play_for(live, clock, 0.3)
    assert live._view.pressed_at is None  # it is still held: no new key


def test_the_world_is_stepped_by_one_thread_only_and_its_error_reaches_the_window():
    threads = set()

    class Broken(FakeWorld):
        def step(self, action):
            threads.add(threading.get_ident())
            if len(self.calls) == 4:
                raise RuntimeError("the engine died")
            return super().step(action)

    live = LivePlayer(Player(Broken(fps=200)), lambda player: LEFT)
    live.start()
    live._thread.join(timeout=5)
    assert live.is_over
    assert len(threads) == 1 and threading.get_ident() not in threads
    with pytest.raises(RuntimeError, match="the engine died"):
        live.stop()


def test_a_key_tapped_between_two_frames_counts_for_one_frame():
    keys = HeldKeys()
    keys.press("left")
    keys.press("space")
    keys.release("space")
    assert keys.take()[0] == {"left", "space"}
    assert keys.take()[0] == {"left"}
    keys.release_all()
    assert not keys.take()[0]


def test_the_keys_of_the_world_are_never_taken_by_the_window():
    doom = ActionMap.discrete(["idle", "pause the game", "hop"], [(), ("p",), ("escape", "1")])
    bound = bind_commands(doom)
    assert not {"p", "escape", "1"} & set(bound)
    assert set(bound.values()) >= {"pause", "quit", "next nfe"}  # by their other keys
    help_text = "\n".join(help_lines(doom))
    assert "hop" in help_text and "f10 " in help_text and "escape f10" not in help_text


def test_every_command_has_a_key_that_letters_and_digits_do_not_block():
    letters = ActionMap.discrete(
        list("abcdefghijklmnopqrstuvwxyz0123456789"), [(c,) for c in "abcdefghijklmnopqrstuvwxyz0123456789"]
    )
    commands = {command for command, _, _ in COMMANDS} - {"nfe 1", "nfe 2", "nfe 4"}
    assert set(bind_commands(letters).values()) == commands


def test_a_log_costs_nothing_when_going_back_and_forgets_what_was_undone():
    world = FakeWorld()
    player = Player(world, log=SessionLog(world, name="fake"))
    player.step(LEFT)
    point = player.save()
    player.set_nfe(4)
    player.step(RIGHT)
    player.load(point)  # nfe is a setting, not part of the moment: it stays 4
    player.step(IDLE)
    session = player.log.session()
    assert session.actions == [LEFT, IDLE]
    assert session.changes == [{"frame": 1, "nfe": 4}]


def test_only_the_window_imports_pygame():
    play = Path(__file__).parent.parent / "play"
    importers = {path.name for path in play.glob("*.py") if "import pygame" in path.read_text()}
    assert importers and all(name.startswith("window") for name in importers)
    modules = [f"worldgen.play.{path.stem}" for path in play.glob("*.py") if not path.stem.startswith(("window", "__"))]
    code = f"import sys, {', '.join(modules)}; sys.exit('pygame' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
