"""Holding the rate: fewer steps when too slow, more when there is time, and peace in between."""

from __future__ import annotations

from worldgen.play.governor import WINDOW, Governor

FPS = 20  # 50 ms a frame


def run(governor: Governor, ms_of_nfe: dict[int, float], seconds: float, nfe: int) -> list[int]:
    """-> the number of steps of every frame"""
    used = []
    for _ in range(int(seconds * FPS)):
        used.append(nfe)
        nfe = governor.note(ms_of_nfe[nfe], nfe) or nfe
    return used


def test_a_world_that_is_too_slow_takes_fewer_steps_within_two_seconds():
    used = run(Governor(FPS, 4), {4: 80, 2: 48, 1: 20}, 30, nfe=4)
    assert used[0] == 4 and 1 in used[: 2 * WINDOW + 1]
    assert used[-1] == 1


def test_a_world_that_is_fast_enough_is_left_alone():
    assert set(run(Governor(FPS, 4), {4: 40, 2: 20, 1: 10}, 60, nfe=4)) == {4}


def test_the_steps_come_back_when_the_machine_is_free_again_but_never_more_than_asked_for():
    governor = Governor(FPS, 2)
    assert run(governor, {2: 80, 1: 40}, 5, nfe=2)[-1] == 1
    used = run(governor, {1: 8, 2: 16, 4: 32}, 30, nfe=1)
    assert used[-1] == 2 and set(used) == {1, 2}


def test_it_does_not_swing_between_two_numbers_of_steps():
    governor = Governor(FPS, 2)
    # with one step it looks as if two would do, with two they do not
    used = run(governor, {2: 60, 1: 13}, 300, nfe=2)
    changes = sum(a != b for a, b in zip(used, used[1:], strict=False))
    assert changes <= 12
    assert used.count(1) > 0.9 * len(used)


def test_one_slow_frame_changes_nothing_and_neither_does_a_governor_that_is_off():
    governor = Governor(FPS, 2)
    assert all(governor.note(500 if i % 30 == 0 else 10, 2) is None for i in range(300))
    governor.is_on = False
    assert all(governor.note(500, 2) is None for _ in range(300))
