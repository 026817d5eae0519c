"""Behaviour cloning from video: codes instead of actions, buttons from a few labels, a real game at the end."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from worldgen.training.clone import (  # noqa: E402
    NEIGHBOURS,
    PAST,
    evidence_around,
    past_of,
    play_games,
    read_buttons,
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


def explained_by(codes: np.ndarray, num_codes: int) -> np.ndarray:
    """codes (n,) -> (n, k): every other code explains a frame worse by 10 nats"""
    return np.where(np.eye(num_codes)[codes] > 0, 0.0, -10.0)


def test_a_policy_learned_from_codes_plays_the_real_game():
    """The codes are the buttons under other names, two of them for one: 60 labels find that out."""
    cache, rows, buttons = expert_video(30)
    codes = np.array([3, 0, 1])[buttons]
    codes[(codes == 0) & (rows % 2 == 0)] = 2
    few = np.random.default_rng(0).permutation(rows)[:60]
    read = read_buttons(evidence_around(cache, rows, explained_by(codes, 4)), few, buttons[few], 3)
    assert (read.argmax(1) == buttons).mean() > 0.9
    policy = train_policy(cache, rows[180:], read[180:], steps=120)
    assert 0.6 < share_right(policy, cache, rows[:180], buttons[:180]) <= 1
    seeds, rng = range(100, 105), np.random.default_rng(0)
    learned = play_games(Catch(), sampler(policy, rng, 2.0), seeds, SIDE, SIDE, 100)
    random = play_games(Catch(), lambda past: int(rng.integers(3)), seeds, SIDE, SIDE, 100)
    assert learned.frames == (60,) * 5
    assert learned.to_json()["return"] > 1.5 * random.to_json()["return"]


def test_a_policy_sees_the_past_of_its_own_episode():
    cache = SimpleNamespace(frames=np.arange(10, dtype=np.uint8).reshape(10, 1, 1, 1), starts=np.array([0, 4, 10]))
    seen = past_of(cache, np.array([0, 1, 3, 4, 5, 9])).reshape(-1, PAST)
    assert seen.tolist() == [[0, 0, 0], [0, 0, 1], [1, 2, 3], [4, 4, 4], [4, 4, 5], [7, 8, 9]]


def test_a_button_whose_effect_is_seen_a_frame_late_is_read_too():
    """The code tells what was pressed on the frame before: that of the frame itself says nothing."""
    rng = np.random.default_rng(0)
    buttons, rows = rng.integers(0, 2, 400), np.arange(400)
    evidence = evidence_around(SimpleNamespace(starts=np.array([0, 400])), rows, explained_by(np.roll(buttons, 1), 2))
    few = rng.permutation(400)[:100]
    assert (read_buttons(evidence, few, buttons[few], 2).argmax(1) == buttons).mean() > 0.95
    alone = evidence[:, NEIGHBOURS * 4 : (NEIGHBOURS + 1) * 4]
    assert (read_buttons(alone, few, buttons[few], 2).argmax(1) == buttons).mean() < 0.65


def test_buttons_are_read_off_the_frames_own_episode():
    rows = np.array([0, 1, 2, 4, 5, 6])
    latents = -np.arange(6.0)[:, None] - np.array([[0, 6]])
    evidence = evidence_around(SimpleNamespace(starts=np.array([0, 4, 8])), rows, latents).reshape(6, -1, 4)
    assert (-10 * evidence[..., 0]).round().tolist() == [
        [0, 0, 0, 1, 2], [0, 0, 1, 2, 2], [0, 1, 2, 2, 2], [3, 3, 3, 4, 5], [3, 3, 4, 5, 5], [3, 4, 5, 5, 5]
    ]  # fmt: skip
