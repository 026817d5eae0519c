"""Behaviour cloning from video: codes instead of actions, buttons from a few labels, a real game at the end."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from worldgen.training.clone import (  # noqa: E402
    PAST,
    button_table,
    past_of,
    play_games,
    sampler,
    share_right,
    train_policy,
)

SIDE = 16


class Catch:
    """A dot falls; whoever moves the bar below it earns a point. Buttons: left, stay, right."""

    def reset(self, seed: int) -> SimpleNamespace:
        self.rng, self.bar, self.count = np.random.default_rng(seed), 8, 0
        self._drop()
        return self._frame(0.0)

    def step(self, action: int) -> SimpleNamespace:
        self.bar = int(np.clip(self.bar + 2 * (action - 1), 0, 13))
        self.y, self.count = self.y + 2, self.count + 1
        caught = self.y >= 14
        reward = float(caught and abs(self.bar - self.x) <= 2)
        if caught:
            self._drop()
        return self._frame(reward)

    def close(self) -> None:
        pass

    def best(self) -> int:
        return 1 + int(np.sign(self.x - self.bar)) if abs(self.x - self.bar) > 1 else 1

    def _drop(self) -> None:
        self.x, self.y = int(self.rng.integers(0, 13)), 0

    def _frame(self, reward: float) -> SimpleNamespace:
        image = np.zeros((SIDE, SIDE, 3), np.uint8)
        image[14:, self.bar : self.bar + 3] = 200
        image[self.y : self.y + 2, self.x : self.x + 2] = (250, 60, 60)
        return SimpleNamespace(image=image, reward=reward, terminated=False, truncated=self.count >= 60)


def expert_video(num_games: int) -> tuple[SimpleNamespace, np.ndarray, np.ndarray]:
    """-> what is read of a cache, rows, buttons"""
    game, frames, buttons, starts = Catch(), [], [], [0]
    for seed in range(num_games):
        frame = game.reset(seed)
        while not frame.truncated:
            frames.append(frame.image)
            buttons.append(game.best())
            frame = game.step(buttons[-1])
        starts.append(len(frames))
    return SimpleNamespace(frames=np.stack(frames), starts=np.array(starts)), np.arange(len(frames)), np.array(buttons)


def test_a_policy_learned_from_codes_plays_the_real_game():
    """The codes are the buttons under other names, two of them for one: 60 labels find that out."""
    cache, rows, buttons = expert_video(30)
    codes = np.array([3, 0, 1])[buttons]
    codes[(codes == 0) & (rows % 2 == 0)] = 2
    few = np.random.default_rng(0).permutation(rows)[:60]
    table = button_table(codes[few], buttons[few], 4, 3)
    assert table.argmax(1).tolist() == [1, 2, 1, 0]
    policy = train_policy(cache, rows[180:], codes[180:], 4, steps=120)
    commonest = np.bincount(buttons[:180]).max() / 180
    assert commonest + 0.05 < share_right(policy, table, cache, rows[:180], buttons[:180]) <= 1
    seeds, rng = range(100, 105), np.random.default_rng(0)
    learned = play_games(Catch(), sampler(policy, table, rng, 2.0), seeds, SIDE, SIDE, 100)
    random = play_games(Catch(), lambda past: int(rng.integers(3)), seeds, SIDE, SIDE, 100)
    assert learned.frames == (60,) * 5
    assert learned.to_json()["return"] > 1.5 * random.to_json()["return"]


def test_a_policy_sees_the_past_of_its_own_episode():
    cache = SimpleNamespace(frames=np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), starts=np.array([0, 4, 10]))
    seen = past_of(cache, np.array([0, 1, 3, 4, 5, 9])).reshape(-1, PAST)
    assert seen.tolist() == [[0, 0, 0], [0, 0, 1], [1, 2, 3], [4, 4, 4], [4, 4, 5], [7, 8, 9]]


def test_a_code_that_no_label_shows_says_what_the_buttons_frequencies_say():
    table = button_table(np.array([0, 0, 1]), np.array([2, 2, 0]), 3, 3)
    np.testing.assert_allclose(table[2], [1 / 3, 0, 2 / 3])
    assert table[0].argmax() == 2 and table[1].argmax() == 0
