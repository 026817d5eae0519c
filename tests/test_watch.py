"""Progress of an evaluation: stages as they begin, rate and time left of long ones, nothing of short ones."""

from __future__ import annotations

import pytest

from worldgen.training import watch as module
from worldgen.training.watch import Watch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_long_stage_says_how_far_it_is(clock):
    said: list[str] = []
    watch = Watch(said.append)
    clock[0] += 75
    watch.stage("a long game")
    assert said == ["    1:15  a long game"]
    heard = watch.progress("frames")
    for done in range(1, 101):
        clock[0] += 0.5
        heard(done, 100)
    assert len(said) == 5  # every ten seconds, and not at the end
    assert "20/100 frames, 2/s, 0:40 left" in said[1]


def test_a_short_stage_says_nothing(clock):
    said: list[str] = []
    heard = Watch(said.append).progress("frames")
    for done in range(10):
        clock[0] += 0.5
        heard(done, 10)
    assert said == []
