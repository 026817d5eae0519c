"""Holding the rate: less effort when too slow, more when there is time, and peace in between."""

from __future__ import annotations

from worldgen.play.governor import WINDOW, Effort, Governor

FPS = 20  # 50 ms a frame
BOTH = Effort(2, "network", between=True)
FULL, TWO, ONE, PLAIN = Effort(4, "network"), Effort(2, "network"), Effort(1, "network"), Effort(1, "nearest")


def run(governor: Governor, ms: dict[Effort, float], seconds: float, effort: Effort) -> list[Effort]:
    """-> the effort of every frame"""
    used = []
    for _ in range(int(seconds * FPS)):
        used.append(effort)
        effort = governor.note(ms[effort], effort) or effort
    return used


def changes(used: list[Effort]) -> list[Effort]:
    """Each effort as often as it was begun."""
    return [e for i, e in enumerate(used) if i == 0 or used[i - 1] != e]


def test_a_world_that_is_too_slow_takes_fewer_steps_within_two_seconds():
    used = run(Governor(FPS, FULL), {FULL: 80, TWO: 48, ONE: 20}, 30, FULL)
    assert changes(used) == [FULL, TWO, ONE] and ONE in used[: 2 * WINDOW + 1]


def test_super_resolution_goes_last_and_comes_back_first():
    governor = Governor(FPS, TWO)
    assert changes(run(governor, {TWO: 120, ONE: 90, PLAIN: 60}, 10, TWO)) == [TWO, ONE, PLAIN]
    assert changes(run(governor, {TWO: 16, ONE: 12, PLAIN: 8}, 60, PLAIN)) == [PLAIN, ONE, TWO]


def test_in_between_frames_go_first_once_a_frame_takes_half_its_time_and_come_back_last():
    governor = Governor(FPS, BOTH)
    assert set(run(governor, {BOTH: 24}, 10, BOTH)) == {BOTH}
    assert changes(run(governor, {BOTH: 30, TWO: 24, ONE: 12}, 10, BOTH)) == [BOTH, TWO]
    assert changes(run(governor, {BOTH: 110, TWO: 100, ONE: 20}, 4, BOTH)) == [BOTH, TWO, ONE]
    assert changes(run(governor, {BOTH: 15, TWO: 12, ONE: 8}, 90, ONE)) == [ONE, TWO, BOTH]
    assert BOTH.described() == "nfe 2, in-between frames"


def test_in_a_replay_only_in_between_frames_are_given_up():
    governor = Governor(FPS, BOTH)
    governor.may_change_game = False
    assert changes(run(governor, {BOTH: 110, TWO: 100}, 30, BOTH)) == [BOTH, TWO]
    assert changes(run(governor, {BOTH: 15, TWO: 12}, 90, TWO)) == [TWO, BOTH]
    assert changes(run(governor, {ONE: 8}, 90, ONE)) == [ONE]  # the replay's own steps stay


def test_a_world_that_has_none_keeps_its_one_step():
    none = Effort(1, "off")
    assert set(run(Governor(FPS, none), {none: 90}, 10, none)) == {none}


def test_a_world_that_is_fast_enough_is_left_alone():
    assert set(run(Governor(FPS, FULL), {FULL: 40}, 60, FULL)) == {FULL}


def test_the_steps_come_back_when_the_machine_is_free_again_but_never_more_than_asked_for():
    governor = Governor(FPS, TWO)
    assert run(governor, {TWO: 80, ONE: 40}, 5, TWO)[-1] == ONE
    assert changes(run(governor, {ONE: 8, TWO: 16}, 30, ONE)) == [ONE, TWO]


def test_it_does_not_swing_between_two_efforts():
    for higher, lower in ((TWO, ONE), (ONE, PLAIN)):
        # the lower one looks as if the higher would do, and it does not
        used = run(Governor(FPS, higher), {higher: 60, lower: 13}, 300, higher)
        assert len(changes(used)) <= 13
        assert used.count(lower) > 0.9 * len(used)


def test_one_slow_frame_changes_nothing_and_neither_does_a_governor_that_is_off():
    governor = Governor(FPS, TWO)
    assert all(governor.note(500 if i % 30 == 0 else 10, TWO) is None for i in range(300))
    governor.is_on = False
    assert all(governor.note(500, TWO) is None for _ in range(300))
